//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v: got %g, want %g", test.values, got, test.want)
		}
	}
}

// cells makes a row; a proxy without rounds has failed.
func cells(rounds map[string][]float64) *row {
	l := &row{Work: "a work", Unit: "us"}
	for _, name := range []string{subject, "nginx", "HAProxy", "Caddy"} {
		c := &cell{Proxy: name, Rounds: rounds[name]}
		if len(c.Rounds) == 0 {
			c.Error = "round 1: broken <pipe>"
		} else {
			c.Median = median(c.Rounds)
		}
		l.Cells = append(l.Cells, c)
	}
	return l
}

func TestRatioIsTheMedianOfTheRoundsToTheBetterPeerOfEach(t *testing.T) {
	l := cells(map[string][]float64{subject: {2, 4, 9}, "nginx": {1, 8, 9}, "HAProxy": {4, 4, 3}})
	if got, want := *l.ratio("nginx", "HAProxy"), (ratio{Median: 2, Low: 1, High: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRatioIsUnknownWithoutAPeer(t *testing.T) {
	all := map[string][]float64{subject: {1}, "nginx": {1}, "HAProxy": {2}}
	for _, missing := range []string{subject, "nginx", "HAProxy"} {
		rounds := map[string][]float64{}
		for name, values := range all {
			if name != missing {
				rounds[name] = values
			}
		}
		if got := cells(rounds).ratio("nginx", "HAProxy"); got != nil {
			t.Errorf("without %s: got %v", missing, got)
		}
	}
	if got := cells(all).ratio("nginx", "Apache"); got != nil {
		t.Errorf("with a peer that is not part of the run: got %v", got)
	}
	if got := cells(all).ratio(); got != nil {
		t.Errorf("without peers: got %v", got)
	}
}

func TestRatioPassesOverPeersWithoutTheFeature(t *testing.T) {
	l := cells(map[string][]float64{subject: {3}, "nginx": {2}})
	l.cell("HAProxy").Error, l.cell("HAProxy").Unsupported = "", true
	if got := l.ratio("nginx", "HAProxy"); got == nil || got.Median != 1.5 {
		t.Errorf("got %v, want 1.50x", got)
	}
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		ours float64
		bar  *bar
		want string
	}{
		{1, nil, ""},
		{1.2, &bar{Ratio: 1.2}, "holds"},
		{1.3, &bar{Ratio: 1.2}, "missed"},
		{1, &bar{Ratio: 1.2, Value: 0.5}, "missed"},
		{1, &bar{Ratio: 1.2, Value: 1}, "holds"},
	} {
		r := &results{Rows: []*row{cells(map[string][]float64{subject: {test.ours}, "nginx": {1}, "HAProxy": {2}})}}
		r.Rows[0].Bar = test.bar
		if r.finish(); r.Rows[0].Holds != test.want {
			t.Errorf("%g with %+v: got %q, want %q", test.ours, test.bar, r.Rows[0].Holds, test.want)
		}
	}
	l := cells(map[string][]float64{subject: {1}, "nginx": {1}})
	l.Bar = &bar{Ratio: 2}
	if got := l.verdict(); got != "not known" {
		t.Errorf("without HAProxy: got %q", got)
	}
}

// sample is a run with a figure, a failure and a missing feature.
func sample() *results {
	l := cells(map[string][]float64{subject: {1, 3, 2}, "nginx": {2, 2, 2}})
	l.cell("HAProxy").Error, l.cell("HAProxy").Unsupported = "", true
	l.cell(subject).slices = []tally{{Count: 3000, Seconds: 1, P50: 10, P99: 20}}
	l.Bar = &bar{Ratio: 1.1}
	r := &results{Rounds: 3, Machine: "a <processor> & more", Rows: []*row{l}, Versions: map[string]string{"nginx": "nginx/1.2.3"}}
	r.finish()
	return r
}

func TestTableSaysWhatWasMeasuredAndWhatFailed(t *testing.T) {
	var out strings.Builder
	if err := sample().print(&out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"a work us 2.00 2.00 - failed 1.00x (0.50-1.50) 1.00x (0.50-1.50) 1.10x holds",
		"a work 10/20 3.00k - - -",
		"failed: Caddy: round 1: broken <pipe> in: a work",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestChartIsWellFormed(t *testing.T) {
	chart := sample().chart()
	decoder := xml.NewDecoder(bytes.NewReader(chart))
	bars := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "rect" {
			bars++
		}
	}
	if want := 1 + 2; bars != want {
		t.Errorf("%d rectangles, want %d: the page and a bar for each figure", bars, want)
	}
	for _, want := range []string{">failed<", ">-<", "nginx 1.2.3"} {
		if !bytes.Contains(chart, []byte(want)) {
			t.Errorf("no %q in the chart", want)
		}
	}
}

func TestResultsAreWrittenAsJSON(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	if err := sample().write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read results
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if got := read.Rows[0].Peers; got == nil || got.Median != 1 {
		t.Errorf("ratio read back: %v", got)
	}
}
