package proxy

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/route"
)

// meets reports whether the request meets the conditions of a location.
func (in *inbound) meets(w *config.When) bool {
	if w == nil {
		return true
	}
	return (len(w.Methods) == 0 || slices.Contains(w.Methods, in.request.Method)) &&
		(len(w.Clients) == 0 || contains(w.Clients, in.client)) &&
		in.all(w.Headers, in.header) && in.all(w.Cookies, in.cookie) && in.all(w.Query, in.decodedParameter)
}

// all reports whether all conditions hold for what get finds. What is too long to be matched meets none, and is noted.
func (in *inbound) all(conditions []config.Condition, get func(name string) (value string, found bool)) bool {
	for i := range conditions {
		c := &conditions[i]
		value, found := get(c.Name)
		tooLong := c.Regexp != nil && len(value) > route.MaxMatched
		in.oversized = in.oversized || tooLong
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

// header returns the value of a header; of a list all of it. Host is one.
func (in *inbound) header(name string) (value string, found bool) {
	if strings.EqualFold(name, "Host") {
		return in.request.Host, in.request.Host != ""
	}
	if _, found = in.request.Fields.Lookup(name); !found {
		return "", false
	}
	return fieldValue(in.request.Fields, strings.ReplaceAll(name, "-", "_")), true
}

// decodedParameter returns the decoded value of a parameter of the query.
func (in *inbound) decodedParameter(name string) (value string, found bool) {
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
