package proxy

import (
	"testing"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/ws"
)

// over is an exchange that has been answered, as far as it is counted.
func over() *exchange {
	g := &generation{unknown: &siteCounts{name: unknownSite}}
	return &exchange{gen: g, site: &site{counts: &siteCounts{name: "example.com"}}, status: 200, start: time.Now(), in: inbound{request: &head.Request{}}}
}

func TestCountingARequestAllocatesNothing(t *testing.T) {
	x := over()
	if n := testing.AllocsPerRun(1000, x.count); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if got := x.site.counts.requests[class2xx].Count(); got != 1001 {
		t.Errorf("%d requests were counted", got)
	}
}

func BenchmarkCountingARequest(b *testing.B) {
	x := over()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			x.count()
		}
	})
}

// TestNoClientChoosesALabel by the code of a Close frame.
func TestNoClientChoosesALabel(t *testing.T) {
	labels := map[string]bool{}
	for code := range 1 << 16 {
		labels[codeLabel(uint16(code))] = true
	}
	if len(labels) != 15+3 || !labels["1000"] || codeLabel(ws.CloseGoingAway) != "1001" || codeLabel(999) != "other" || codeLabel(1015) != "other" || codeLabel(4999) != "4xxx" {
		t.Errorf("there are %d: %v", len(labels), labels)
	}
}
