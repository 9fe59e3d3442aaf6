// Package roff writes manual pages in the macros of man(7), from text with the marks of Markdown that the documentation uses. It does no I/O.
package roff

import (
	"fmt"
	"regexp"
	"strings"
)

// Page is a manual page that is being written.
type Page struct{ b strings.Builder }

// NewPage begins a page: name is its file without the section, and short is what apropos(1) shows.
func NewPage(name string, section int, short string) *Page {
	p := &Page{}
	fmt.Fprintf(&p.b, ".TH %s %d \"\" wstunnel wstunnel\n", strings.ToUpper(plain(name)), section)
	p.Section("NAME")
	fmt.Fprintf(&p.b, "%s \\- %s\n", plain(name), marked(short))
	return p
}

// String returns the page.
func (p *Page) String() string { return p.b.String() }

// Section begins a section.
func (p *Page) Section(title string) { fmt.Fprintf(&p.b, ".SH %s\n", argument(title)) }

// Subsection begins a part of one.
func (p *Page) Subsection(title string) { fmt.Fprintf(&p.b, ".SS %s\n", argument(title)) }

// Item is a term, all of it in bold, and what it means.
func (p *Page) Item(term, text string) {
	fmt.Fprintf(&p.b, ".TP\n\\fB%s\\fP\n%s\n", plain(term), line(marked(text)))
}

// Code is shown as it stands.
func (p *Page) Code(text string) {
	p.b.WriteString(".PP\n.RS 4\n.EX\n")
	for l := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		p.b.WriteString(line(plain(strings.ReplaceAll(l, "\t", "    "))) + "\n")
	}
	p.b.WriteString(".EE\n.RE\n")
}

// Text is paragraphs with empty lines between them. What is indented, or between fences, is code; headings of the second level begin subsections.
func (p *Page) Text(text string) {
	var paragraph, code []string
	var fenced bool
	flush := func() {
		if len(paragraph) > 0 {
			fmt.Fprintf(&p.b, ".PP\n%s\n", line(marked(strings.Join(paragraph, " "))))
		}
		if len(code) > 0 {
			p.Code(strings.Join(code, "\n"))
		}
		paragraph, code = nil, nil
	}
	for l := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		switch title, isHeading := strings.CutPrefix(l, "## "); {
		case strings.HasPrefix(l, "```"):
			flush()
			fenced = !fenced
		case fenced:
			code = append(code, l)
		case isHeading:
			flush()
			p.Subsection(title)
		case l == "":
			flush()
		case strings.HasPrefix(l, "  ") && len(paragraph) == 0:
			code = append(code, strings.TrimPrefix(l, "  "))
		default:
			paragraph = append(paragraph, strings.TrimSpace(l))
		}
	}
	flush()
}

var special = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`, "\n", " ")

// plain is text without any marks, on one line.
func plain(s string) string { return special.Replace(s) }

// argument is one of a macro.
func argument(s string) string { return `"` + plain(s) + `"` }

// line is a line that is no request, whatever it begins with.
func line(s string) string {
	if strings.HasPrefix(s, ".") {
		return `\&` + s
	}
	return s
}

// mark is what Markdown has for code, a link and emphasis.
var mark = regexp.MustCompile("`([^`]+)`|\\[([^\\]]+)\\]\\(([^)\\s]+)\\)|\\*([^*\\s][^*]*)\\*")

// marked is text with marks.
func marked(s string) string {
	var b strings.Builder
	for {
		at := mark.FindStringSubmatchIndex(s)
		if at == nil {
			b.WriteString(plain(s))
			return b.String()
		}
		b.WriteString(plain(s[:at[0]]))
		group := func(i int) string { return s[max(0, at[2*i]):max(0, at[2*i+1])] }
		switch {
		case at[2] >= 0:
			b.WriteString(`\fB` + plain(group(1)) + `\fP`)
		case at[4] >= 0:
			b.WriteString(marked(group(2)))
			if target := group(3); strings.Contains(target, "://") {
				b.WriteString(" (" + plain(target) + ")")
			}
		default:
			b.WriteString(`\fI` + plain(group(4)) + `\fP`)
		}
		s = s[at[1]:]
	}
}
