//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes the run as text: the table, latencies, and what failed.
func (r *results) print(w io.Writer) error {
	fmt.Fprintf(w, "\nMedian of %s on %s, %s, in %d s; %d idle ws and %d wss tunnels. Lower is better.\n",
		plural(r.Rounds, "round"), r.Machine, r.Date, r.Seconds, r.Idle, r.IdleTLS)
	if r.Quick {
		fmt.Fprintln(w, "A quick run: nothing to quote.")
	}
	for _, c := range r.Rows[0].Cells {
		fmt.Fprintf(w, "  %-9s %s\n", c.Proxy, r.Versions[c.Proxy])
	}
	fmt.Fprintln(w)
	if err := r.printTable(w); err != nil {
		return err
	}
	if err := r.printLatencies(w); err != nil {
		return err
	}
	r.printFailures(w)
	return nil
}

// printFailures says why figures are missing; a reason that holds for several works is given once.
func (r *results) printFailures(w io.Writer) {
	type failure struct{ proxy, reason string }
	var failures []failure
	works := map[failure][]string{}
	for _, line := range r.Rows {
		for _, c := range line.Cells {
			if c.Error == "" {
				continue
			}
			f := failure{c.Proxy, c.Error}
			if works[f] == nil {
				failures = append(failures, f)
			}
			works[f] = append(works[f], line.Work)
		}
	}
	for _, f := range failures {
		fmt.Fprintf(w, "failed: %s: %s\n  in: %s\n", f.proxy, f.reason, strings.Join(works[f], "; "))
	}
}

// printTable sets the proxies beside each other.
func (r *results) printTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "work\tunit\t")
	for _, c := range r.Rows[0].Cells {
		fmt.Fprintf(table, "%s\t", c.Proxy)
	}
	fmt.Fprintln(table, "to nginx/HAProxy\tto best\tbar\t\t")
	for _, line := range r.Rows {
		fmt.Fprintf(table, "%s\t%s\t", line.Work, line.Unit)
		for _, c := range line.Cells {
			fmt.Fprintf(table, "%s\t", c.text())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t\n", line.Peers, line.Best, line.barText(), line.Holds)
	}
	return table.Flush()
}

// printLatencies shows what the load saw, where it ran in closed loops.
func (r *results) printLatencies(w io.Writer) error {
	fmt.Fprintln(w, "\nFor information, p50/p99 in us and thousands a second; load and backend, which share the cores, have their part in them:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range r.Rows {
		texts := make([]string, len(line.Cells))
		for i, c := range line.Cells {
			texts[i] = c.latencies()
		}
		if strings.Trim(strings.Join(texts, ""), "-") != "" {
			fmt.Fprintf(table, "%s\t%s\t\n", line.Work, strings.Join(texts, "\t"))
		}
	}
	return table.Flush()
}

func (c *cell) latencies() string {
	if !c.measured() || c.PerSecond == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f/%.0f %sk", c.P50, c.P99, number(c.PerSecond/1000))
}

// text is the median, "-" where the proxy has no such feature, or "failed".
func (c *cell) text() string {
	switch {
	case c.Unsupported:
		return "-"
	case !c.measured():
		return "failed"
	default:
		return number(c.Median)
	}
}

func (l *row) barText() string {
	switch {
	case l.Bar == nil:
		return ""
	case l.Bar.Value > 0:
		return fmt.Sprintf("%.2fx, %s %s", l.Bar.Ratio, number(l.Bar.Value), l.Unit)
	default:
		return fmt.Sprintf("%.2fx", l.Bar.Ratio)
	}
}

func (r *ratio) String() string {
	switch {
	case r == nil:
		return "-"
	case r.Low == r.High:
		return fmt.Sprintf("%.2fx", r.Median)
	default:
		return fmt.Sprintf("%.2fx (%.2f-%.2f)", r.Median, r.Low, r.High)
	}
}

// number has as many digits as a figure of this kind is good for.
func number(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
