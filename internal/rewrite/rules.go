package rewrite

import (
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
)

// ApplyRules changes the fields of a head as the rules of the configuration say.
func ApplyRules(fields head.Fields, rules *config.HeaderRules, value func(string) string) head.Fields {
	if len(rules.Remove)+len(rules.Set) > 0 {
		fields = slices.DeleteFunc(fields, func(f head.Field) bool { return Removes(rules, f.Name) })
	}
	for i := range rules.Set {
		fields = addField(fields, &rules.Set[i], value)
	}
	for i := range rules.Add {
		fields = addField(fields, &rules.Add[i], value)
	}
	return fields
}

// Removes reports whether a field ends by the rules, be it that another comes in its place.
func Removes(rules *config.HeaderRules, name string) bool {
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
	text := head.Trim(Text(v.Value, value))
	if text == "" {
		return fields
	}
	return append(fields, head.Field{Name: v.Name, Value: text, ID: head.IDOf(v.Name)})
}

// ApplyRequestRules changes the head that a backend is sent. A rule for Host changes that, unless what it makes of the request is no host.
func ApplyRequestRules(out *head.Request, in *Inbound, rules []config.HeaderRules) {
	for i := range rules {
		out.Fields = ApplyRules(out.Fields, &rules[i], in.Value)
	}
	out.Fields = slices.DeleteFunc(out.Fields, func(f head.Field) bool {
		if f.ID == head.Host && host.Valid(f.Value) {
			out.Host = f.Value
		}
		return f.ID == head.Host
	})
}

// Everyday are the statuses of answers that header rules hold for without `always`.
func Everyday(status int) bool {
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent, http.StatusPartialContent, http.StatusMovedPermanently, http.StatusFound,
		http.StatusSeeOther, http.StatusNotModified, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
