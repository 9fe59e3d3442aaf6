package proxy

import (
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
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

// applyRequestRules changes the head that a backend is sent. A rule for Host changes that.
func applyRequestRules(out *head.Request, in *inbound, rules []config.HeaderRules) {
	for i := range rules {
		out.Fields = applyHeaderRules(out.Fields, &rules[i], in.value)
	}
	for i, f := range out.Fields {
		if f.ID == head.Host {
			out.Host, out.Fields = f.Value, slices.Delete(out.Fields, i, i+1)
			return
		}
	}
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
