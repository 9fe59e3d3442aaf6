// Package metrics tells others what goes on: numbers in Prometheus' text format, and whether the process lives and is ready, on a listener of its own.
//
// Counting is the business of those who know: this package writes what they have counted, when somebody asks for it.
package metrics

import (
	"math"
	"strconv"
)

// ContentType is that of what a [Writer] writes: version 0.0.4 of the text format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Kind is what a family of samples is.
type Kind string

// The kinds of families.
const (
	Counter   Kind = "counter" // it only grows; its name ends in _total
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Writer writes families of samples. The zero Writer is ready for use.
type Writer struct {
	text []byte
	name string // of the family
}

// Text returns what was written.
func (w *Writer) Text() []byte { return w.text }

// Family begins a family: all samples up to the next one are of it. Each family stands once.
func (w *Writer) Family(name string, kind Kind, help string) {
	w.name = name
	w.text = append(append(append(w.text, "# HELP "...), name...), ' ')
	w.text = appendEscaped(w.text, help, false)
	w.text = append(append(append(append(w.text, "\n# TYPE "...), name...), ' '), kind...)
	w.text = append(w.text, '\n')
}

// Sample writes a value with its labels: name, value, name, value. No two samples of a family have the same.
func (w *Writer) Sample(value float64, labels ...string) {
	w.head("", labels, "", "")
	w.text = append(appendFloat(w.text, value), '\n')
}

// Count is Sample for a whole number, of which no digit is lost.
func (w *Writer) Count(value uint64, labels ...string) {
	w.head("", labels, "", "")
	w.text = append(strconv.AppendUint(w.text, value, 10), '\n')
}

// Only writes a family of one sample without labels.
func (w *Writer) Only(name string, kind Kind, help string, value float64) {
	w.Family(name, kind, help)
	w.Sample(value)
}

// Durations writes a histogram, in seconds.
func (w *Writer) Durations(d *Durations, labels ...string) {
	var sum uint64
	for i := range d.counts {
		sum += d.counts[i].Load()
		bound := math.Inf(1)
		if i < len(bounds) {
			bound = bounds[i].Seconds()
		}
		w.head("_bucket", labels, "le", string(appendFloat(nil, bound)))
		w.text = append(strconv.AppendUint(w.text, sum, 10), '\n')
	}
	w.head("_sum", labels, "", "")
	w.text = append(appendFloat(w.text, float64(d.nanoseconds.Load())/1e9), '\n')
	w.head("_count", labels, "", "")
	w.text = append(strconv.AppendUint(w.text, sum, 10), '\n')
}

// head writes a sample up to its value; with a last label, if that has a name.
func (w *Writer) head(suffix string, labels []string, lastName, lastValue string) {
	w.text = append(append(w.text, w.name...), suffix...)
	before := byte('{')
	label := func(name, value string) {
		w.text = append(append(append(w.text, before), name...), `="`...)
		w.text = append(appendEscaped(w.text, value, true), '"')
		before = ','
	}
	for i := 0; i+1 < len(labels); i += 2 {
		label(labels[i], labels[i+1])
	}
	if lastName != "" {
		label(lastName, lastValue)
	}
	if before == ',' {
		w.text = append(w.text, '}')
	}
	w.text = append(w.text, ' ')
}

// appendEscaped writes a text that stands on one line, and inside quotes if it is quoted.
func appendEscaped(dst []byte, s string, quoted bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\\', c == '"' && quoted:
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendFloat writes a number; infinities are spelt +Inf and -Inf, as the format has them.
func appendFloat(dst []byte, v float64) []byte {
	if math.IsInf(v, 1) {
		return append(dst, "+Inf"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}
