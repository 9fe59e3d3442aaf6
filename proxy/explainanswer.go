package proxy

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/rewrite"
)

// explainAnswer tells what is done to the answer.
func (e *Explanation) explainAnswer(x *exchange, d decision) {
	tell := func(format string, args ...any) { e.Answer = append(e.Answer, fmt.Sprintf(format, args...)) }
	var own head.Fields
	x.addHSTS(&own)
	for _, f := range own {
		tell("%s: %s is added: hsts", f.Name, f.Value)
	}
	rules := x.rules()
	for i := range rules.Headers.Response {
		e.explainRules(x, &rules.Headers.Response[i])
	}
	switch d.action {
	case openTunnel:
		e.explainURLs(x, x.location.WebSocket)
		tell("the tunnel is closed with 1001 when nothing has come for %v", x.location.Timeouts.TunnelIdle)
		if ping := x.location.Ping; ping > 0 {
			tell("a silent end is asked after %v whether it is there", ping)
		}
		return
	case forwardHTTP:
		e.explainURLs(x, x.location.HTTP)
		if rules.InterceptErrors && len(rules.ErrorPages) > 0 {
			tell("errors of the backend's are replaced by error_pages, since intercept_errors is on")
		}
	case serveStatic:
		if rules.Expires.Set {
			tell("Expires and Cache-Control are added: expires")
		}
	}
	if len(rules.ErrorPages) > 0 {
		tell("error_pages for %s", statuses(rules.ErrorPages))
	}
	if rules.Compress.On {
		tell("compressed, where the client accepts it, from %d bytes on: %s", rules.Compress.MinSize, strings.Join(rules.Compress.Types, ", "))
	}
}

// explainRules tells what rules for answers do.
func (e *Explanation) explainRules(x *exchange, rules *config.HeaderRules) {
	holds := "on everyday statuses (200, 301, 304 ...)"
	if rules.Always {
		holds = "always"
	}
	for _, name := range rules.Remove {
		e.Answer = append(e.Answer, http.CanonicalHeaderKey(name)+" is removed, "+holds)
	}
	for i := range rules.Set {
		value := head.Trim(rewrite.Text(rules.Set[i].Value, x.in.Value))
		if value == "" {
			e.Answer = append(e.Answer, rules.Set[i].Name+" is removed, "+holds)
			continue
		}
		e.Answer = append(e.Answer, rules.Set[i].Name+": "+value+" is set, "+holds)
	}
	for i := range rules.Add {
		if value := head.Trim(rewrite.Text(rules.Add[i].Value, x.in.Value)); value != "" {
			e.Answer = append(e.Answer, rules.Add[i].Name+": "+value+" is added, "+holds)
		}
	}
}

// explainURLs tells whether the backend's own URLs are mapped to the public ones.
func (e *Explanation) explainURLs(x *exchange, target *config.Target) {
	if m := rewrite.NewURLMapping(&x.in, x.location.Location, target); m != nil {
		e.Answer = append(e.Answer, "in Location, Content-Location, Refresh and Set-Cookie, "+m.String())
	}
}

// statuses lists those that have a page of their own.
func statuses(pages map[int]config.ErrorPage) string {
	var texts []string
	for _, status := range slices.Sorted(maps.Keys(pages)) {
		texts = append(texts, fmt.Sprint(status))
	}
	return strings.Join(texts, ", ")
}
