package migrate

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// write writes a document as YAML.
func (d *document) write(w *yamlWriter, from string) {
	w.comment(0, "Translated by `wstunnel import` from "+from+".")
	for _, n := range d.notes {
		w.note(0, n)
	}
	w.WriteString("\nlisten:\n")
	for _, l := range d.listens {
		w.mark(l, "")
		m := &mapping{}
		m.set("address", text(l.address))
		if l.tls {
			m.set("tls", word("true"))
		}
		if l.proxied {
			m.set("proxy_protocol", word("true"))
		}
		if len(m.entries) == 1 {
			w.WriteString("  - address: " + doubleQuoted(l.address) + "\n")
			continue
		}
		w.entries(4, m, "  - ")
	}
	if !d.opts.empty() {
		d.opts.sortKeys(fileOrder)
		w.WriteString("\n")
		w.owned(d, 0, d.opts, "")
	}
	w.mark(nil, "")
	w.WriteString("\nsites:\n")
	for i, s := range d.sites {
		if i > 0 {
			w.WriteString("\n")
		}
		w.site(s)
	}
	w.upstreams(d.upstreams)
}

// note writes a note as a comment.
func (w *yamlWriter) note(indent int, n Note) {
	w.comment(indent, n.String())
}

// String is a note in one line.
func (n Note) String() string {
	kind := "note"
	switch {
	case n.Refused:
		kind = "REFUSED"
	case n.Advice:
		kind = "advice"
	}
	s := fmt.Sprintf("%s: %s: `%s` %s", n.Place, kind, n.Directive, n.Does)
	if n.Do != "" {
		s += "; " + n.Do
	}
	return s
}

func (p Place) String() string { return fmt.Sprintf("%s:%d", shownFile(p.File), p.Line) }

// shownFile is a file's name for people.
func shownFile(name string) string {
	if path.Base(name) == StandardInput {
		return StandardInput
	}
	return name
}

func (w *yamlWriter) site(s *site) {
	var places []string
	for _, p := range s.places {
		if !slices.Contains(places, p.String()) {
			places = append(places, p.String())
		}
	}
	if len(places) > 0 {
		w.comment(2, strings.Join(places, ", "))
	}
	for _, n := range s.notes {
		w.note(2, n)
	}
	m := s.opts.clone()
	hosts := texts(s.hosts...)
	if len(hosts) == 1 && s.hosts[0] != "_" {
		m.set("hosts", hosts[0])
	} else {
		m.set("hosts", hosts)
	}
	m.sortKeys(siteOrder)
	w.owned(s, 4, m, "  - ")
	if len(s.locations) > 0 {
		w.WriteString("    locations:\n")
		for _, l := range s.locations {
			w.location(l)
		}
	}
}

func (w *yamlWriter) location(l *location) {
	head := l.Place.String()
	if l.source != "" {
		head += ": " + l.source
	}
	w.comment(6, head)
	for _, n := range l.notes {
		w.note(6, n)
	}
	m := l.opts.clone()
	m.set("path", text(l.path))
	m.sortKeys(locationOrder)
	w.owned(l, 8, m, "      - ")
}

func (w *yamlWriter) upstreams(ups []*upstream) {
	first := true
	for _, u := range ups {
		if !u.used {
			continue
		}
		if first {
			w.WriteString("\nupstreams:\n")
			first = false
		}
		w.comment(2, u.Place.String())
		for _, n := range u.notes {
			w.note(2, n)
		}
		w.mark(u, "")
		w.line(2, u.name+":")
		w.owned(u, 4, u.opts, "")
	}
}
