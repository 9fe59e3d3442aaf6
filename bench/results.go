//go:build linux

package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results is a run, as it is printed, drawn and written to results.json.
type results struct {
	Date     string
	Machine  string
	Quick    bool
	Rounds   int
	Idle     int // ws tunnels
	IdleTLS  int // wss tunnels
	Seconds  int
	Versions map[string]string // of each proxy
	Rows     []*row
}

// row is a work, with a cell for each proxy.
type row struct {
	Work  string
	Unit  string
	Cells []*cell
	Peers *ratio // of wstunnel to the better of nginx and HAProxy; nil: not known
	Best  *ratio // of wstunnel to the best of all others; nil: not known
	Bar   *bar   `json:",omitempty"`
	Holds string // holds, missed, not known; empty without a bar
}

// ratio is wstunnel's figure to a peer's, both of the same round, over the rounds.
type ratio struct {
	Median, Low, High float64
}

// cell is what one proxy took, in the row's unit, round by round.
type cell struct {
	Proxy       string
	Median      float64   `json:",omitempty"`
	Rounds      []float64 `json:",omitempty"`
	P50, P99    float64   `json:",omitempty"` // microseconds of a trip; load and backend have their part in them
	PerSecond   float64   `json:",omitempty"` // trips; the same
	slices      []tally   // what the load saw
	Unsupported bool      `json:",omitempty"` // the proxy has no such feature
	Error       string    `json:",omitempty"` // why there is no figure
}

// summarise takes the medians of what the load saw over the slices, if there were any.
func (c *cell) summarise() {
	if len(c.slices) == 0 {
		return
	}
	over := func(value func(tally) float64) float64 {
		var values []float64
		for _, t := range c.slices {
			values = append(values, value(t))
		}
		return median(values)
	}
	c.P50 = over(func(t tally) float64 { return t.P50 })
	c.P99 = over(func(t tally) float64 { return t.P99 })
	c.PerSecond = over(func(t tally) float64 { return float64(t.Count) / t.Seconds })
}

// measured says that every round has a figure.
func (c *cell) measured() bool {
	return c.Error == "" && len(c.Rounds) > 0
}

func newResults(opts options, works []work, proxies []proxy) *results {
	r := &results{
		Date:     time.Now().UTC().Format(time.DateOnly),
		Machine:  machine(),
		Quick:    opts.quick,
		Rounds:   opts.rounds,
		Idle:     opts.idle,
		IdleTLS:  opts.idleTLS,
		Versions: map[string]string{},
	}
	for _, p := range proxies {
		r.Versions[p.Name] = p.describe()
	}
	for _, w := range works {
		line := &row{Work: w.Name, Unit: w.Unit, Bar: w.Bar}
		for _, p := range proxies {
			line.Cells = append(line.Cells, &cell{Proxy: p.Name, Unsupported: w.static && p.noStatic || w.connect && p.noConnect})
		}
		r.Rows = append(r.Rows, line)
	}
	return r
}

// machine is the model of the processor and how many of it there are.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return model + ", " + plural(runtime.NumCPU(), "core")
}

// finish computes the medians, ratios and verdicts.
func (r *results) finish() {
	for _, line := range r.Rows {
		for _, c := range line.Cells {
			if c.measured() {
				c.Median = median(c.Rounds)
				c.summarise()
			}
		}
		line.Peers = line.ratio("nginx", "HAProxy")
		line.Best = line.ratio(line.measuredPeers()...)
		line.Holds = line.verdict()
	}
}

func (l *row) cell(proxy string) *cell {
	for _, c := range l.Cells {
		if c.Proxy == proxy {
			return c
		}
	}
	return &cell{Proxy: proxy, Error: "not part of this run"}
}

func (l *row) measuredPeers() []string {
	var names []string
	for _, c := range l.Cells {
		if c.Proxy != subject && c.measured() {
			names = append(names, c.Proxy)
		}
	}
	return names
}

// ratio compares wstunnel, round by round, with the best of the peers in that round. It is not known unless
// every peer was measured, those without the feature aside.
func (l *row) ratio(peers ...string) *ratio {
	ours := l.cell(subject)
	if !ours.measured() {
		return nil
	}
	best := slices.Repeat([]float64{math.Inf(1)}, len(ours.Rounds))
	for _, name := range peers {
		c := l.cell(name)
		if c.Unsupported {
			continue
		}
		if !c.measured() {
			return nil
		}
		for i := range best {
			best[i] = min(best[i], c.Rounds[i])
		}
	}
	if math.IsInf(best[0], 1) {
		return nil // nobody to compare with
	}
	ratios := make([]float64, len(best))
	for i := range best {
		ratios[i] = ours.Rounds[i] / best[i]
	}
	return &ratio{Median: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios)}
}

func (l *row) verdict() string {
	switch {
	case l.Bar == nil:
		return ""
	case l.Peers == nil:
		return "not known"
	case l.Peers.Median > l.Bar.Ratio, l.Bar.Value > 0 && l.cell(subject).Median > l.Bar.Value:
		return "missed"
	default:
		return "holds"
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// write leaves results.json and results.svg in a directory.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.svg"), r.chart(), 0o644)
}
