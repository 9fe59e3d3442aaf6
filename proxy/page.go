package proxy

import (
	"encoding/json"
	"html"
	"net/http"
	"strconv"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
)

// giveResponse gives the answer that a location consists of.
func (x *exchange) giveResponse(r *config.Respond) {
	switch {
	case r.Status == config.StatusClose:
		x.status = r.Status
		x.finish()
		x.client.Abort()
	case r.Body.Empty():
		x.give(x.answerStatus(r.Status))
	default:
		a := &answer{status: r.Status, body: r.Body.Expand(x.in.Value)}
		a.fields.Add(head.ContentType, r.Type)
		x.give(a)
	}
}

// answerStatus is an answer that says no more than its status does.
func (x *exchange) answerStatus(status int) *answer {
	if status < http.StatusBadRequest {
		return &answer{status: status}
	}
	return textAnswer(status, "")
}

// dress makes a page of an answer that says what went wrong: the configuration's own for its status, or ours in the form that the client likes best.
func (x *exchange) dress(a *answer) {
	if a.status < http.StatusBadRequest || !a.page {
		return
	}
	if page, ok := x.rules().ErrorPages[a.status]; ok {
		a.setBody(page.Type, string(page.Content))
		return
	}
	retry := a.status == http.StatusBadGateway || a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout
	if retry && !a.fields.Has(head.RetryAfter) {
		a.fields.Add(head.RetryAfter, "5")
	}
	a.fields.Add(head.Vary, "Accept")
	switch kind := preferred(x.in.Request.Fields); kind {
	case "text/html":
		a.setBody("text/html; charset=utf-8", x.htmlError(a, retry))
	case "application/json":
		a.setBody(kind, x.jsonError(a))
	default:
		if a.reason == "" {
			a.body = strconv.Itoa(a.status) + " " + statusText(a.status) + "\n"
		}
		if a.status >= http.StatusInternalServerError {
			a.body += x.in.RequestID() + "\n"
		}
	}
}

// intercepts reports whether a backend's error is answered with a page of the configuration's.
func (x *exchange) intercepts(status int) bool {
	if !x.location.InterceptErrors {
		return false
	}
	_, ok := x.location.ErrorPages[status]
	return ok
}

// interceptedAnswer keeps of a backend's error what clients act upon.
func (x *exchange) interceptedAnswer(r *head.Response) *answer {
	a := x.answerStatus(r.Status)
	for _, f := range r.Fields {
		if f.ID == head.RetryAfter || f.ID == head.SetCookie || strings.EqualFold(f.Name, "WWW-Authenticate") || strings.EqualFold(f.Name, "Allow") {
			a.fields = append(a.fields, f)
		}
	}
	return a
}

// setBody replaces the body, and says what it is.
func (a *answer) setBody(kind, body string) {
	for i := range a.fields {
		if a.fields[i].ID == head.ContentType {
			a.fields[i].Value = kind
		}
	}
	a.body = body
}

// preferred returns the media type that a client asks for by its name: HTML, JSON, or none of both, which is for plain text.
func preferred(fields head.Fields) string {
	weights := head.Weights(fields.Joined(head.Accept))
	kind, best := "", max(0, weights["text/plain"])
	for _, k := range []string{"application/json", "text/html"} {
		if weights[k] > 0 && weights[k] >= best {
			kind, best = k, weights[k]
		}
	}
	return kind
}

// statusText names a status, also one that the standard library does not know.
func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "Error"
}

func (x *exchange) jsonError(a *answer) string {
	text, err := json.Marshal(struct {
		Status int    `json:"status"`
		Error  string `json:"error"`
		Reason string `json:"reason,omitempty"`
		ID     string `json:"id"`
	}{a.status, statusText(a.status), a.reason, x.in.RequestID()})
	if err != nil { // it is made of strings
		panic(err)
	}
	return string(text) + "\n"
}

// htmlError is the page that people see. It names no product and no version.
func (x *exchange) htmlError(a *answer, retry bool) string {
	var b strings.Builder
	reload, hint := "", ""
	if retry && x.in.Request.Method == http.MethodGet {
		reload = refresh("15")
		hint = "<p>It may be over in a moment. This page loads again by itself.</p>\n"
	}
	reason := a.reason
	if reason != "" {
		reason = "<p>" + html.EscapeString(strings.ToUpper(reason[:1])+reason[1:]) + ".</p>\n"
	}
	b.WriteString(pageStart(strconv.Itoa(a.status)+" "+statusText(a.status), reload))
	b.WriteString(`<main class="error">` + "\n")
	b.WriteString(`<p class="status">` + strconv.Itoa(a.status) + "</p>\n<h1>" + html.EscapeString(statusText(a.status)) + "</h1>\n" + reason + hint)
	b.WriteString(`<p class="id">` + html.EscapeString(x.in.HostName()) + " · " + x.in.RequestID() + "</p>\n</main>\n")
	return b.String()
}

// refresh has a page load again after so many seconds.
func refresh(seconds string) string {
	return `<meta http-equiv="refresh" content="` + seconds + `">` + "\n"
}

// pageStart is what a page of ours begins with. It loads nothing, runs nothing, and is to be read on any screen, by day and by night.
func pageStart(title, extra string) string {
	return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
` + extra + `<title>` + html.EscapeString(title) + `</title>
<style>
:root { color-scheme: light dark; --ink: #1d2430; --faint: #5c6675; --line: #dfe3e8; --paper: #fbfbfc; --mark: #2b6cb0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --faint: #98a2b3; --line: #2c3440; --paper: #14181e; --mark: #7ab3ef } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem }
main.error { max-width: 34rem; padding-top: 16vh }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere }
p { margin: 0 0 1rem }
.status { font-size: 3.5rem; font-weight: 700; line-height: 1; margin: 0 0 .5rem; color: var(--mark); letter-spacing: -.02em }
.id { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--faint); font-size: .8125rem; overflow-wrap: anywhere }
a { color: var(--mark); text-decoration: none }
a:hover { text-decoration: underline }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .4rem .5rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
th { color: var(--faint); font-weight: 500; font-size: .8125rem }
td:first-child { width: 100% }
td.size, th.size { text-align: right; white-space: nowrap }
td.time { color: var(--faint); white-space: nowrap }
@media (max-width: 34rem) { .time { display: none } }
</style>
`
}
