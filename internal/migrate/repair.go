package migrate

import (
	"bytes"
	"slices"
	"sort"
)

// result writes a document. Where a check finds mistakes in it, what they are about is taken out or closed, so that the rest passes.
func (d *document) result(check func([]byte) []Mistake, from string, l *ledger) *Result {
	r := &Result{}
	for range 50 {
		var w yamlWriter
		d.write(&w, from)
		r.YAML, r.Notes, r.Counts = w.Bytes(), l.sorted(), l.counts()
		if check == nil {
			return r
		}
		r.Mistakes = check(r.YAML)
		repaired := false
		for _, m := range r.Mistakes {
			if !m.NoFile {
				repaired = d.repair(w.markAt(m.Line), m, l) || repaired
			}
		}
		if !repaired {
			return r
		}
	}
	return r
}

// mark says what a line of a document, and those behind it, belong to.
type mark struct {
	line  int
	owner any    // *document, listen, *site, *location, *upstream, or nil
	key   string // of the owner's options
}

// mark says what the next line belongs to.
func (w *yamlWriter) mark(owner any, key string) {
	w.marks = append(w.marks, mark{bytes.Count(w.Bytes(), []byte("\n")) + 1, owner, key})
}

// markAt returns what a line belongs to.
func (w *yamlWriter) markAt(line int) mark {
	i := sort.Search(len(w.marks), func(i int) bool { return w.marks[i].line > line })
	if i == 0 {
		return mark{}
	}
	return w.marks[i-1]
}

// guards are keys without which somebody would be let in.
var guards = []string{"allow", "deny", "basic_auth", "satisfy", "auth_request", "client_ca", "when"}

// repair takes what a mistake is about out of a document; it reports whether it could.
func (d *document) repair(at mark, m Mistake, l *ledger) bool {
	note := func(p Place, what string) Note {
		return l.refuse(&directive{Place: p, name: what, text: what}, "cannot be said: "+m.Text, "write it by hand")
	}
	switch owner := at.owner.(type) {
	case *location:
		return d.repairLocation(owner, at.key, m, note)
	case *site:
		if v := owner.opts.get("tls"); at.key == "tls" && v != nil && v.flow() != "self-signed" {
			owner.notes = append(owner.notes, note(owner.places[0], "tls: "+v.flow()))
			owner.opts.set("tls", word("self-signed"))
			return true
		}
		if at.key == "hosts" || slices.Contains(guards, at.key) || !owner.opts.has(at.key) || len(owner.locations) == 0 {
			return d.closeSite(owner, at.key, note)
		}
		owner.notes = append(owner.notes, note(owner.places[0], at.key+": "+owner.opts.get(at.key).flow()))
		owner.opts.remove(at.key)
		return true
	case listen:
		d.listens = slices.DeleteFunc(d.listens, func(l listen) bool { return l == owner })
		if len(d.listens) == 0 {
			d.listens = []listen{{address: ":80"}}
		}
		d.notes = append(d.notes, note(Place{d.file, 1}, "listen: "+owner.address))
		return true
	case *upstream:
		owner.used = false
		d.notes = append(d.notes, note(owner.Place, owner.name))
		return true
	case *document:
		if !d.opts.has(at.key) {
			return false
		}
		d.notes = append(d.notes, note(Place{d.file, 1}, at.key+": "+d.opts.get(at.key).flow()))
		d.opts.remove(at.key)
		return true
	}
	return false
}

// repairLocation drops a location that no request can reach, and closes any other.
func (d *document) repairLocation(l *location, key string, m Mistake, note func(Place, string) Note) bool {
	var of *site
	for _, s := range d.sites {
		if slices.Contains(s.locations, l) {
			of = s
		}
	}
	if of == nil {
		return false // a mistake before it has taken it out
	}
	if m.Unreachable || key == "path" || len(l.opts.entries) == 1 && l.opts.has("respond") {
		of.locations = slices.DeleteFunc(of.locations, func(o *location) bool { return o == l })
		if !m.Unreachable {
			of.notes = append(of.notes, note(l.Place, "path: "+l.path))
		}
		if len(of.locations) == 0 {
			d.closeSite(of, "locations", note)
		}
		return true
	}
	n := note(l.Place, key)
	if v := l.opts.get(key); v != nil {
		n = note(l.Place, key+": "+v.flow())
	}
	l.note(n)
	when := l.opts.get("when")
	l.closed("503")
	if when != nil && key != "when" {
		l.opts.set("when", when)
	}
	return true
}

// closeSite has a site answer nothing, or drops it where its hosts are what is wrong.
func (d *document) closeSite(s *site, key string, note func(Place, string) Note) bool {
	if key == "hosts" && len(d.sites) > 1 {
		d.notes = append(d.notes, note(s.places[0], "hosts: "+texts(s.hosts...).flow()))
		d.sites = slices.DeleteFunc(d.sites, func(o *site) bool { return o == s })
		return true
	}
	n := note(s.places[0], key)
	if slices.Contains(s.notes, n) && s.locations == nil {
		return false
	}
	s.notes = append(s.notes, n)
	if key == "hosts" {
		s.hosts = []string{"_"}
	}
	tls, redirects := s.opts.get("tls"), s.opts.get("redirect_https")
	s.opts, s.locations = &mapping{}, nil
	if tls != nil {
		s.opts.set("tls", tls)
	}
	if redirects != nil && key != "redirect_https" {
		s.opts.set("redirect_https", redirects)
	}
	s.opts.set("respond", word("503"))
	return true
}
