package rewrite

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/route"
)

// Meets reports whether the request Meets the conditions of a location.
func (in *Inbound) Meets(w *config.When) bool {
	if w == nil {
		return true
	}
	return (len(w.Methods) == 0 || slices.Contains(w.Methods, in.Request.Method)) &&
		(len(w.Clients) == 0 || contains(w.Clients, in.Client)) &&
		in.all(w.Headers, in.Header) && in.all(w.Cookies, in.Cookie) && in.all(w.Query, in.decodedParameter)
}

// all reports whether all conditions hold for what get finds. What is too long to be matched meets none, and is noted.
func (in *Inbound) all(conditions []config.Condition, get func(name string) (value string, found bool)) bool {
	for i := range conditions {
		c := &conditions[i]
		value, found := get(c.Name)
		tooLong := c.Regexp != nil && len(value) > route.MaxMatched
		in.Oversized = in.Oversized || tooLong
		if tooLong || holds(c, value, found) == c.Not {
			return false
		}
	}
	return true
}

// holds reports whether a condition would hold if it had no Not.
func holds(c *config.Condition, value string, found bool) bool {
	switch {
	case c.Any:
		return found
	case c.Regexp != nil:
		return c.Regexp.MatchString(value)
	}
	return value == c.Value
}

// Header returns the value of a Header; of a list all of it. Host is one.
func (in *Inbound) Header(name string) (value string, found bool) {
	if strings.EqualFold(name, "Host") {
		return in.Request.Host, in.Request.Host != ""
	}
	if _, found = in.Request.Fields.Lookup(name); !found {
		return "", false
	}
	return fieldValue(in.Request.Fields, strings.ReplaceAll(name, "-", "_")), true
}

// decodedParameter returns the decoded value of a parameter of the query.
func (in *Inbound) decodedParameter(name string) (value string, found bool) {
	raw, found := in.parameter(name)
	if decoded, err := url.QueryUnescape(raw); err == nil {
		return decoded, found
	}
	return raw, found
}

// contains reports whether one of the networks holds an address.
func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Unmet names the first condition that a request does not meet.
func (in *Inbound) Unmet(w *config.When) string {
	switch {
	case !in.Meets(&config.When{Methods: w.Methods}):
		return "the method is " + in.Request.Method + ", not " + strings.Join(w.Methods, " or ")
	case !in.Meets(&config.When{Clients: w.Clients}):
		return "the client is " + in.Client.String()
	}
	for _, kind := range []struct {
		name       string
		conditions []config.Condition
		when       func([]config.Condition) *config.When
	}{
		{"header", w.Headers, func(c []config.Condition) *config.When { return &config.When{Headers: c} }},
		{"cookie", w.Cookies, func(c []config.Condition) *config.When { return &config.When{Cookies: c} }},
		{"query", w.Query, func(c []config.Condition) *config.When { return &config.When{Query: c} }},
	} {
		for i := range kind.conditions {
			if !in.Meets(kind.when(kind.conditions[i : i+1])) {
				return "the " + kind.name + " " + kind.conditions[i].Name + " is not as it has to be"
			}
		}
	}
	return "a condition is not met"
}
