package proxy

import (
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
)

// applyHeaderRules changes the fields of a head as the rules of the configuration say.
func applyHeaderRules(fields head.Fields, rules *config.HeaderRules, value func(string) string) head.Fields {
	if len(rules.Remove)+len(rules.Set) > 0 {
		fields = slices.DeleteFunc(fields, func(f head.Field) bool { return removes(rules, f.Name) })
	}
	for i := range rules.Set {
		fields = addField(fields, &rules.Set[i], value)
	}
	for i := range rules.Add {
		fields = addField(fields, &rules.Add[i], value)
	}
	return fields
}

// removes reports whether a field ends by the rules, be it that another comes in its place.
func removes(rules *config.HeaderRules, name string) bool {
	for _, removed := range rules.Remove {
		if prefix, ok := strings.CutSuffix(removed, "*"); ok {
			if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) && !isOwnPlumbing(name) {
				return true
			}
		} else if strings.EqualFold(name, removed) {
			return true
		}
	}
	for i := range rules.Set {
		if strings.EqualFold(name, rules.Set[i].Name) {
			return true
		}
	}
	return false
}

// plumbing are the fields without which a message, or a handshake, is another one, and the mark by which requests that come back are known.
var plumbing = head.SetOf(head.CDNLoop, head.ContentLength, head.SecWebSocketKey, head.SecWebSocketAccept, head.SecWebSocketVersion, head.Trailer)

func isOwnPlumbing(name string) bool { return plumbing.Has(head.IDOf(name)) }

func addField(fields head.Fields, v *config.HeaderValue, value func(string) string) head.Fields {
	text := head.Trim(expandText(v.Value, value))
	if text == "" {
		return fields
	}
	return append(fields, head.Field{Name: v.Name, Value: text, ID: head.IDOf(v.Name)})
}

// applyRequestRules changes the head that a backend is sent. A rule for Host changes that, unless what it makes of the request is no host.
func applyRequestRules(out *head.Request, in *inbound, rules []config.HeaderRules) {
	for i := range rules {
		out.Fields = applyHeaderRules(out.Fields, &rules[i], in.value)
	}
	out.Fields = slices.DeleteFunc(out.Fields, func(f head.Field) bool {
		if f.ID == head.Host && host.Valid(f.Value) {
			out.Host = f.Value
		}
		return f.ID == head.Host
	})
}

// requestTrailers returns the trailers of the client's that go on: none that a rule, or the server of auth_request, says something else about.
func (x *exchange) requestTrailers(trailers head.Fields) head.Fields {
	return slices.DeleteFunc(rewriteTrailers(trailers, x.in.request.Fields), func(f head.Field) bool {
		for i := range x.location.Headers.Request {
			if removes(&x.location.Headers.Request[i], f.Name) {
				return true
			}
		}
		return x.in.grantable(f.Name)
	})
}

// everyday are the statuses of answers that header rules hold for without `always`.
func everyday(status int) bool {
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent, http.StatusPartialContent, http.StatusMovedPermanently, http.StatusFound,
		http.StatusSeeOther, http.StatusNotModified, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// applyAnswerRules changes the head that the client is answered.
func (x *exchange) applyAnswerRules(status int, fields head.Fields) head.Fields {
	rules := x.rules().Headers.Response
	for i := range rules {
		if rules[i].Always || everyday(status) {
			fields = applyHeaderRules(fields, &rules[i], x.in.value)
		}
	}
	return fields
}

var noRules config.Rules

// rules returns what the configuration says of the exchange beside where it goes.
func (x *exchange) rules() *config.Rules {
	switch {
	case x.location != nil:
		return &x.location.Rules
	case x.site != nil:
		return &x.site.Rules
	}
	return &noRules
}
