package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/head"
	"wstunnel/internal/template"
)

// Headers are rules for header fields. Those of the file come first, then the site's, then the location's: they add up.
type Headers struct {
	// Request rules hold for what a backend is sent. They see the request as this front end would send it.
	Request []HeaderRules
	// Response rules hold for what a client is answered, whoever answers.
	Response []HeaderRules
}

// HeaderRules are rules that hold together: first fields are removed, then set, then added.
type HeaderRules struct {
	// Remove are names in lower case. One that ends in * means all that begin so.
	Remove []string
	// Set replaces all fields of a name. An empty value leaves none.
	Set []HeaderValue
	// Add adds a field beside those that there are. An empty value adds none.
	Add []HeaderValue
	// Always says, of an answer, that the rules hold whatever its status is; otherwise for 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308, as nginx
	// has it.
	Always bool
}

// HeaderValue is a field of a rule.
type HeaderValue struct {
	Name  string
	Value template.Template
}

// own are fields that say how a message travels, which no rule may touch (RFC 9110, section 7.6.1).
var own = head.SetOf(head.Connection, head.KeepAlive, head.ProxyConnection, head.TE, head.TransferEncoding, head.Upgrade, head.Trailer,
	head.ContentLength, head.Expect, head.HTTP2Settings, head.CDNLoop, head.SecWebSocketKey, head.SecWebSocketAccept, head.Date)

// headers reads header rules, and adds them to those above.
func (d *decoder) headers(n *yaml.Node, h *Headers) {
	o, ok := d.object(n, inHeaders)
	if !ok {
		return
	}
	if v := o.get("request"); v != nil {
		if rules, ok := d.headerRules(v, inRequestRules, scope{captures: d.captures}); ok {
			h.Request = append(slices.Clip(h.Request), rules)
		}
	}
	v := o.get("response")
	if v == nil {
		return
	}
	for _, item := range d.itemsOf(v, "rules, or a list of them") {
		if rules, ok := d.headerRules(item, inResponseRules, scope{captures: d.captures, answer: true}); ok {
			h.Response = append(slices.Clip(h.Response), rules)
		}
	}
}

func (d *decoder) headerRules(n *yaml.Node, kind string, s scope) (rules HeaderRules, ok bool) {
	o, ok := d.object(n, kind)
	if !ok {
		return rules, false
	}
	if v := o.get("remove"); v != nil {
		rules.Remove = d.removedNames(v)
	}
	if v := o.get("set"); v != nil {
		rules.Set = d.headerValues(v, s, false)
	}
	if v := o.get("add"); v != nil {
		rules.Add = d.headerValues(v, s, true)
	}
	if v := o.get("always"); v != nil {
		d.boolean(v, &rules.Always)
	}
	return rules, true
}

// headerValues reads a mapping of names to values; with several, to lists of values too.
func (d *decoder) headerValues(n *yaml.Node, s scope, several bool) (values []HeaderValue) {
	entries, _ := d.mapping(n, "a mapping of header names to values, such as {X-Frame-Options: DENY}")
	for _, e := range entries {
		name := scalar{pos: posOf(e.keyNode), text: e.key, written: e.key}
		if !d.headerName(name) {
			continue
		}
		items := []*yaml.Node{e.value}
		if several && deref(e.value).Kind == yaml.SequenceNode {
			items = d.nonEmptyList(e.value, "a value, or a list of them")
		}
		for _, item := range items {
			value, ok := d.template(item, s, `a text; "" for none`)
			if ok && !isHeaderText(value) {
				d.add(posOf(deref(item)), "a header's value with control characters", "a text of one line")
				continue
			}
			values = append(values, HeaderValue{name.text, value})
		}
	}
	return values
}

// isHeaderText reports whether the literal parts of a template may stand in a header.
func isHeaderText(t template.Template) bool {
	for p := range t.Parts() {
		if strings.ContainsFunc(p.Literal, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return false
		}
	}
	return true
}

// headerName checks a field's name, and tells whether a rule may be about it.
func (d *decoder) headerName(s scalar) bool {
	switch {
	case !head.IsToken(s.text):
		d.add(s.pos, "bad header name "+s.shown(), "a name such as X-Frame-Options, without a colon")
	case own.Has(head.IDOf(s.text)):
		d.add(s.pos, "a rule about "+s.shown(), "rules about other headers: this one says how the message travels, and is made anew on each connection")
	default:
		return true
	}
	return false
}

// removedNames reads a list of names, or one.
func (d *decoder) removedNames(n *yaml.Node) (names []string) {
	for _, s := range d.scalars(n, "a header's name, or a list of them; X-Internal-* for all that begin so") {
		name, prefix := strings.CutSuffix(s.text, "*")
		if prefix && name == "" || prefix && !head.IsToken(name) {
			d.add(s.pos, "bad header name "+s.shown(), "a name, or the beginning of one and a *")
			continue
		}
		if prefix || d.headerName(s) {
			names = append(names, strings.ToLower(s.text))
		}
	}
	return names
}

// scalars reads a list of values, or a single one.
func (d *decoder) scalars(n *yaml.Node, allowed string) (values []scalar) {
	for _, item := range d.itemsOf(n, allowed) {
		if s, ok := d.scalar(item, allowed); ok {
			values = append(values, s)
		}
	}
	return values
}
