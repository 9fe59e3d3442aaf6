package proxy

import (
	"testing"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// over is an exchange that has been answered, as far as it is counted.
func over() *exchange {
	g := &generation{unknown: &siteCounts{name: unknownSite}}
	return &exchange{gen: g, site: &site{counts: &siteCounts{name: "example.com"}}, status: 200, start: time.Now(), in: rewrite.Inbound{Request: &head.Request{}}}
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

// speaking is a tunnel through which something flows.
type speaking struct {
	closer
	bytes uint64
}

func (s *speaking) Stats() tunnel.Stats {
	s.bytes += 10
	return tunnel.Stats{ToBackend: tunnel.Traffic{Bytes: s.bytes, Messages: 1}}
}

// BenchmarkGathering is what one who asks costs where many tunnels are open.
func BenchmarkGathering(b *testing.B) {
	ts, site := &tunnels{live: map[uint64]*liveTunnel{}}, &siteCounts{}
	for id := range uint64(100_000) {
		ts.live[id] = &liveTunnel{tunnelInfo: tunnelInfo{counts: site}, conn: &speaking{}}
	}
	for b.Loop() {
		if open := ts.gather(); open[site] != len(ts.live) {
			b.Fatal(open)
		}
	}
	if got := site.toBackend.messages.Load(); got != 100_000 {
		b.Errorf("%d messages were counted", got)
	}
}
