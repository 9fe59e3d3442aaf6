package config

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/head"
)

// When are conditions that a request has to meet for its location, all of them.
type When struct {
	Methods []string // one of them; none for any
	Headers []Condition
	Cookies []Condition
	Query   []Condition
	// Clients are where the client has to come from; none for anywhere.
	Clients []netip.Prefix
}

// Condition is one on a header, a cookie or a parameter of the query.
type Condition struct {
	Name string
	// Regexp is to match the value; nil where Value is to be equal to it, or Any is set.
	Regexp *regexp.Regexp
	Value  string
	// Any says that the value does not matter, as long as there is one.
	Any bool
	// Not says that the condition is met where it would not be without it.
	Not bool
}

const allowedConditions = `true (it is there), false, a text that it equals, "~ regex", "~* regex", "!~ regex", "!~* regex" or "!= text"`

// when reads the conditions of a location.
func (d *decoder) when(n *yaml.Node) *When {
	o, ok := d.object(n, inWhen)
	if !ok {
		return nil
	}
	w := &When{}
	if len(o.entries) == 0 {
		d.add(o.pos, "when without a condition", "at least one of method, header, cookie, query and client")
	}
	if v := o.get("method"); v != nil {
		for _, s := range d.scalars(v, "a method, or a list of them, such as [GET, HEAD]") {
			if !head.IsToken(s.text) || s.text != strings.ToUpper(s.text) {
				d.add(s.pos, "bad method "+s.shown(), "a method in capitals, such as POST")
			}
			if s.text == http.MethodGet { // whoever may get may ask for the head alone
				w.Methods = append(w.Methods, http.MethodHead)
			}
			w.Methods = append(w.Methods, s.text)
		}
	}
	if v := o.get("header"); v != nil {
		w.Headers = d.conditions(v, "header", head.IsToken)
	}
	if v := o.get("cookie"); v != nil {
		w.Cookies = d.conditions(v, "cookie", head.IsToken)
	}
	if v := o.get("query"); v != nil {
		w.Query = d.conditions(v, "query parameter", func(name string) bool { return name != "" && !strings.ContainsAny(name, "=&#") })
	}
	if v := o.get("client"); v != nil {
		w.Clients = d.networks(v)
	}
	return w
}

func (d *decoder) conditions(n *yaml.Node, what string, valid func(string) bool) (conditions []Condition) {
	entries, _ := d.mapping(n, "a mapping of names to conditions, each of which is "+allowedConditions)
	for _, e := range entries {
		if !valid(e.key) {
			d.add(posOf(e.keyNode), "bad "+what+" name "+quote(e.key), "a name")
			continue
		}
		if s, ok := d.scalar(e.value, allowedConditions); ok {
			c, p := parseCondition(e.key, s)
			if p != nil {
				d.addProblem(s.pos, *p)
			}
			conditions = append(conditions, c)
		}
	}
	return conditions
}

func parseCondition(name string, s scalar) (Condition, *problem) {
	c := Condition{Name: name}
	switch s.text {
	case "true", "false":
		c.Any, c.Not = true, s.text == "false"
		return c, nil
	}
	operator, rest, spaced := strings.Cut(s.text, " ")
	c.Not = strings.HasPrefix(operator, "!")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case !spaced || !slices.Contains([]string{"~", "~*", "!~", "!~*", "!="}, operator):
		if strings.HasPrefix(s.text, "~") || strings.HasPrefix(s.text, "!") {
			return c, &problem{"bad condition " + s.shown(), allowedConditions}
		}
		c.Not, c.Value = false, s.text
		return c, nil
	case operator == "!=":
		c.Value = rest
		return c, nil
	}
	if strings.HasSuffix(operator, "*") {
		rest = "(?i)" + rest
	}
	m, p := parseRegex(s, MatchRegex, rest)
	if p != nil {
		return c, p
	}
	c.Regexp = m.Regexp
	return c, nil
}

// networks reads a list of addresses and networks, or a single one; `all` is every address.
func (d *decoder) networks(n *yaml.Node) (networks []netip.Prefix) {
	const allowed = "an address or a network such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32, or all"
	for _, s := range d.scalars(n, allowed) {
		if s.text == "all" {
			networks = append(networks, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			continue
		}
		if p, ok := d.network(s, allowed); ok {
			networks = append(networks, p)
		}
	}
	return networks
}
