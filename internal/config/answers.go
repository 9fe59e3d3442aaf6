package config

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/head"
	"wstunnel/internal/template"
)

// Redirect sends a client elsewhere.
type Redirect struct {
	// To is a URL, or a path of the same site.
	To template.Template
	// Status is 301, 302, 303, 307 or 308. Default 302.
	Status int
}

// Respond answers without asking anybody.
type Respond struct {
	// Status is from 200 to 599. 444 closes the connection without an answer, as nginx does.
	Status int
	// Body is empty for the error page of a status from 400 on.
	Body template.Template
	// Type is the Content-Type of Body. Default text/plain; charset=utf-8.
	Type string
}

// StatusClose closes the connection instead of answering.
const StatusClose = 444

// Rewrite changes the path of a request, and its query if To has one.
type Rewrite struct {
	Path *regexp.Regexp
	// To is a path, with a query behind a ? or none. The query of the request follows it, unless To ends in a ?.
	To template.Template
	// Stay says that the location remains; otherwise another one is looked for, once.
	Stay bool
}

var redirectStatuses = []int{301, 302, 303, 307, 308}

// redirect reads a redirect, a URL or a mapping with one.
func (d *decoder) redirect(n *yaml.Node) *Redirect {
	const allowed = "a URL or a path, such as https://example.com$request_uri, or {to: URL, status: 301}"
	r := &Redirect{Status: http.StatusFound}
	if deref(n).Kind == yaml.MappingNode {
		o, ok := d.object(n, inRedirect)
		if !ok {
			return nil
		}
		if v := o.get("status"); v != nil {
			if status, ok := d.status(v); ok && !slices.Contains(redirectStatuses, status) {
				d.add(posOf(deref(v)), "status "+strconv.Itoa(status)+" of a redirect", "301, 302, 303, 307 or 308")
			} else if ok {
				r.Status = status
			}
		}
		if n = o.get("to"); n == nil {
			d.add(o.pos, `no "to"`, "to: and a URL or a path")
			return nil
		}
	}
	var ok bool
	if r.To, ok = d.template(n, scope{captures: d.captures}, allowed); !ok {
		return nil
	}
	d.checkURL(n, r.To)
	return r
}

// checkURL reports a place that clients can't be sent to.
func (d *decoder) checkURL(n *yaml.Node, t template.Template) {
	pos, text := posOf(deref(n)), t.String()
	switch {
	case !isHeaderText(t) || strings.ContainsAny(text, " \""):
		d.add(pos, "a URL with characters that none can hold", "such characters as percent escapes")
	case strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//"):
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"), strings.HasPrefix(text, "$scheme://"):
		_, rest, _ := strings.Cut(text, "://")
		switch {
		case rest == "" || strings.HasPrefix(rest, "/"):
			d.add(pos, "URL "+quote(deref(n).Value)+" without a host", "a URL such as https://example.com/")
		case strings.HasPrefix(rest, "$") && !beginsWithHost(rest):
			d.add(pos, "URL "+quote(deref(n).Value)+" with a host that the client may choose", "a host, or one of $"+strings.Join(hostVariables, " $"))
		}
	case strings.HasPrefix(text, "$request_uri"), strings.HasPrefix(text, "$uri"), strings.HasPrefix(text, "$1"):
	default:
		d.add(pos, "bad URL "+quote(deref(n).Value), "http://..., https://..., $scheme://... or a path that begins with /")
	}
}

// hostVariables are those that may begin the host of a URL.
var hostVariables = []string{"host", "http_host", "server_name"}

// beginsWithHost reports whether a text begins with one of them.
func beginsWithHost(text string) bool {
	return slices.ContainsFunc(hostVariables, func(name string) bool {
		rest, ok := strings.CutPrefix(text, "$"+name)
		return ok && (rest == "" || !isWordByte(rest[0]))
	})
}

// status reads a status code.
func (d *decoder) status(n *yaml.Node) (int, bool) {
	const allowed = "a status code from 200 to 599"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return 0, false
	}
	status, err := strconv.Atoi(s.text)
	if err != nil || status < 200 || status > 599 {
		d.add(s.pos, "bad status "+s.shown(), allowed)
		return 0, false
	}
	return status, true
}

// respond reads an answer, a status or a mapping with one.
func (d *decoder) respond(n *yaml.Node) *Respond {
	r := &Respond{Status: http.StatusOK, Type: "text/plain; charset=utf-8"}
	if deref(n).Kind != yaml.MappingNode {
		status, ok := d.status(n)
		r.Status = status
		d.checkRespond(n, r)
		return orNil(r, ok)
	}
	o, ok := d.object(n, inRespond)
	if !ok {
		return nil
	}
	if v := o.get("status"); v != nil {
		if r.Status, ok = d.status(v); !ok {
			return nil
		}
		d.checkRespond(v, r)
	}
	if v := o.get("body"); v != nil {
		r.Body, _ = d.template(v, scope{captures: d.captures}, "a text")
		if r.Status == http.StatusNoContent || r.Status == http.StatusNotModified {
			d.add(o.keyPos("body"), "a body with status "+strconv.Itoa(r.Status), "no body with 204 and 304")
		}
	}
	if v := o.get("type"); v != nil {
		if s, ok := d.scalar(v, "a media type such as application/json"); ok {
			if !isText(s.text) || !strings.Contains(s.text, "/") {
				d.add(s.pos, "bad media type "+s.shown(), "a media type such as application/json")
			}
			r.Type = s.text
		}
		if o.get("body") == nil {
			d.add(o.keyPos("type"), "a type without a body", "type only beside body")
		}
	}
	return r
}

func orNil[T any](v *T, ok bool) *T {
	if ok {
		return v
	}
	return nil
}

// checkRespond reports a redirect's status, which has no place to go to.
func (d *decoder) checkRespond(n *yaml.Node, r *Respond) {
	if slices.Contains(redirectStatuses, r.Status) {
		d.add(posOf(deref(n)), "status "+strconv.Itoa(r.Status)+" without a place to go to", "redirect: {to: URL, status: "+strconv.Itoa(r.Status)+"}")
	}
}

// rewrites reads a rewrite, or a list of them.
func (d *decoder) rewrites(n *yaml.Node, onSite bool) (rewrites []Rewrite) {
	for _, item := range d.itemsOf(n, "a rewrite, or a list of them") {
		if r, ok := d.rewrite(item, onSite); ok {
			rewrites = append(rewrites, r)
		}
	}
	return rewrites
}

func (d *decoder) rewrite(n *yaml.Node, onSite bool) (r Rewrite, ok bool) {
	o, ok := d.object(n, inRewrite)
	if !ok {
		return r, false
	}
	path, to := o.get("path"), o.get("to")
	if path == nil || to == nil {
		d.add(o.pos, "a rewrite that is not whole", `{path: "^/old/(.*)$", to: "/new/$1"}`)
		return r, false
	}
	if v := o.get("stay"); v != nil {
		if onSite {
			d.add(o.keyPos("stay"), "stay on a rewrite of a site", "stay only in a location; a site's rewrites come before its locations")
		}
		d.boolean(v, &r.Stay)
	}
	s, ok := d.scalar(path, "a regular expression in RE2 syntax")
	if !ok {
		return r, false
	}
	m, p := parseRegex(s, MatchRegex, s.text)
	if p != nil {
		d.addProblem(s.pos, *p)
		return r, false
	}
	r.Path = m.Regexp
	if r.To, ok = d.template(to, scope{captures: r.Path}, "a path, such as /new/$1"); !ok {
		return r, false
	}
	text := r.To.String()
	if !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "$") || !isHeaderText(r.To) {
		d.add(posOf(deref(to)), "bad path "+quote(deref(to).Value), "a path that begins with /; to send the client elsewhere there is redirect")
		return r, false
	}
	return r, true
}

// isText reports whether s may stand in a header.
func isText(s string) bool {
	_, bad := head.BadValueByte(s)
	return !bad && s != ""
}
