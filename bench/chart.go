//go:build linux

package main

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strings"
)

// The chart's measures, in its own units; it is drawn for a page 800 wide.
const (
	chartWidth   = 800
	chartMargin  = 24
	chartColumns = 3
	columnGap    = 24
	columnWidth  = (chartWidth - 2*chartMargin - (chartColumns-1)*columnGap) / chartColumns
	headHeight   = 58
	footHeight   = 44
	panelHead    = 24
	panelGap     = 22
	barStep      = 18
	barHeight    = 12
	nameWidth    = 62 // of a proxy's name, left of its bar
	valueWidth   = 42 // of its value, right of the longest bar
)

// The background is the chart's own: a page may be dark where the browser's preference is light.
const chartStyle = `<style>
text { font: 12px -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", Helvetica, Arial, sans-serif; fill: #59636e }
.page { fill: #ffffff; stroke: #d1d9e0 }
.title { font-size: 17px; font-weight: 600; fill: #1f2328 }
.work { font-size: 13px; font-weight: 600; fill: #1f2328 }
.bar { fill: #afb8c1 }
.ours { fill: #0969da }
text.ours { font-weight: 600 }
.end { text-anchor: end }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.page { fill: #0d1117; stroke: #3d444d }
.title, .work { fill: #f0f6fc }
.bar { fill: #565f69 }
.ours { fill: #4493f8 }
}
</style>
`

// chart draws the run: a panel for each work, a bar for each proxy, as SVG.
func (r *results) chart() []byte {
	perColumn := (len(r.Rows) + chartColumns - 1) / chartColumns
	panel := panelHead + len(r.Rows[0].Cells)*barStep + panelGap
	height := headHeight + perColumn*panel + footHeight

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n%s", html.EscapeString(r.summary()), chartStyle)
	fmt.Fprintf(&b, `<rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", chartWidth-1, height-1)
	drawText(&b, "title", chartMargin, 36, "The same work through each proxy: CPU time, memory, latency")
	drawText(&b, "end", chartWidth-chartMargin, 36, "lower is better")
	for i, line := range r.Rows {
		x := chartMargin + i/perColumn*(columnWidth+columnGap)
		line.draw(&b, x, headHeight+i%perColumn*panel)
	}
	drawText(&b, "", chartMargin, height-footHeight+8, r.summary())
	drawText(&b, "", chartMargin, height-footHeight+26, strings.Join(r.peerVersions(), ", "))
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw sets one panel with its upper left corner at x, y.
func (l *row) draw(b *bytes.Buffer, x, y int) {
	drawText(b, "work", x, y+13, l.Work)
	drawText(b, "end", x+columnWidth, y+13, unitText(l.Unit))
	longest := 0.0
	for _, c := range l.Cells {
		longest = max(longest, c.Median)
	}
	y += panelHead
	for _, c := range l.Cells {
		class := ""
		if c.Proxy == subject {
			class = "ours"
		}
		baseline := y + barHeight - 2
		drawText(b, class, x, baseline, c.Proxy)
		length := 0.0
		if c.measured() {
			length = max(1, c.Median/longest*(columnWidth-nameWidth-valueWidth))
			fmt.Fprintf(b, `<rect class="bar %s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
				class, x+nameWidth, y, length, barHeight)
		}
		drawText(b, class, x+nameWidth+int(length)+5, baseline, c.text())
		y += barStep
	}
}

func drawText(b *bytes.Buffer, class string, x, y int, text string) {
	fmt.Fprintf(b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(text))
}

func unitText(unit string) string {
	switch unit {
	case "KB":
		return "KB"
	case "us":
		return "CPU µs"
	case "us p99":
		return "µs, p99"
	default:
		return "CPU ms per GB"
	}
}

// summary says where the figures come from.
func (r *results) summary() string {
	text := fmt.Sprintf("Medians of %s on %s, %s.", plural(r.Rounds, "round"), r.Machine, r.Date)
	if r.Quick {
		text += " A quick run: nothing to quote."
	}
	return text
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+`)

// peerVersions names the others with the numbers of their versions.
func (r *results) peerVersions() []string {
	var names []string
	for _, c := range r.Rows[0].Cells {
		if number := versionNumber.FindString(r.Versions[c.Proxy]); c.Proxy != subject && number != "" {
			names = append(names, c.Proxy+" "+number)
		}
	}
	return names
}
