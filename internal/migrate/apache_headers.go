package migrate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// apacheVars are our names of Apache's variables.
var apacheVars = map[string]string{
	"REQUEST_SCHEME": "scheme", "REMOTE_ADDR": "remote_addr", "REMOTE_HOST": "remote_addr", "HTTP_HOST": "http_host", "SERVER_NAME": "host", "SERVER_PORT": "server_port",
	"REQUEST_URI": "uri", "QUERY_STRING": "args", "REMOTE_USER": "remote_user", "REQUEST_METHOD": "request_method", "SSL_PROTOCOL": "ssl_protocol", "SSL_CLIENT_S_DN": "ssl_client_s_dn",
	"HTTP_USER_AGENT": "http_user_agent", "HTTP_REFERER": "http_referer", "HTTP_COOKIE": "http_cookie", "HTTP_ACCEPT": "http_accept", "HTTP_FORWARDED": "http_forwarded",
	"UNIQUE_ID": "request_id", "REQUEST_ID": "request_id", "CONTEXT_PREFIX": "",
}

var headerFormat = regexp.MustCompile(`%\{([^}]*)\}([a-z]?)|%([a-zA-Z%])`)

// headerTemplate makes one of our templates of a value of Header or RequestHeader.
func headerTemplate(s string) (string, error) {
	if rest, ok := strings.CutPrefix(s, "expr="); ok {
		s = rest
	}
	return replaceVars(s, headerFormat, func(m []string) (string, error) {
		switch {
		case m[0] == "%%":
			return "%", nil
		case m[3] != "":
			return "", fmt.Errorf("%s has no counterpart", m[0])
		}
		return apacheVariable(m[1])
	})
}

// apacheVariable returns our name, with its dollar, of a variable in %{}.
func apacheVariable(name string) (string, error) {
	for _, prefix := range []string{"HTTP:", "req:", "http:"} {
		if field, ok := strings.CutPrefix(name, prefix); ok && isFieldName(field) {
			return "$http_" + strings.ToLower(strings.ReplaceAll(field, "-", "_")), nil
		}
	}
	if ours := apacheVars[strings.TrimPrefix(strings.TrimPrefix(name, "ENV:"), "SSL:")]; ours != "" {
		return "$" + ours, nil
	}
	return "", fmt.Errorf("the variable %s has no counterpart", name)
}

// isFieldName reports a name of a header, or of a parameter, as people give them.
func isFieldName(s string) bool {
	return s != "" && len(s) <= 200 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// replaceVars replaces what a pattern finds, and doubles the dollars of all else.
func replaceVars(s string, pattern *regexp.Regexp, by func([]string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		at := pattern.FindStringSubmatchIndex(s)
		if at == nil {
			b.WriteString(literalTemplate(s))
			return b.String(), nil
		}
		var m []string
		for i := 0; i < len(at); i += 2 {
			if at[i] < 0 {
				m = append(m, "")
			} else {
				m = append(m, s[at[i]:at[i+1]])
			}
		}
		v, err := by(m)
		if err != nil {
			return "", err
		}
		b.WriteString(literalTemplate(s[:at[0]]) + v)
		if s = s[at[1]:]; strings.HasPrefix(v, "$") && s != "" && isWord(s[0]) && !(len(v) == 2 && '0' < v[1] && v[1] <= '9') {
			return "", errors.New("a variable ends where a letter follows, which cannot be written here")
		}
	}
}

// headers translates Header and RequestHeader. proxied says that answers are a backend's.
func (h *apacheHost) headers(l *location, levels apacheLevels, proxied bool) {
	for _, level := range levels {
		for _, d := range level {
			if d.name == "requestheader" && !l.opts.has("respond") && !l.opts.has("redirect") {
				h.requestHeader(l, d)
			}
		}
	}
	always, sometimes := newHeaderRules(), newHeaderRules()
	for _, d := range levels.every("header") {
		args := d.args
		rules := &sometimes
		switch strings.ToLower(d.arg(0)) {
		case "always":
			rules, args = &always, args[1:]
		case "onsuccess":
			args = args[1:]
		}
		if proxied {
			rules = &always // Apache counts what a backend says as success
		}
		h.responseHeader(l, d, args, rules)
	}
	if l.opts.has("respond") || l.opts.has("redirect") {
		sometimes = newHeaderRules() // Apache makes such answers as it makes errors
	}
	responseHeaders(l.opts, always, sometimes)
}

// condition reports whether what stands behind a header's value holds for all requests, or for none; known is false where that depends.
func (h *apacheHost) condition(args []string) (holds, known bool) {
	for _, a := range args {
		switch {
		case strings.EqualFold(a, "early"):
		case a == "env=HTTPS" || a == `expr=%{HTTPS} == 'on'` || a == `expr=%{REQUEST_SCHEME} == 'https'`:
			if !h.secure() || h.plain() {
				return false, h.plain() && !h.secure()
			}
		default:
			return false, false
		}
	}
	return true, true
}

func (h *apacheHost) responseHeader(l *location, d *directive, args []string, rules *headerRules) {
	if len(args) < 2 {
		h.ledger.needless(d)
		return
	}
	action, name := strings.ToLower(args[0]), strings.TrimSuffix(args[1], ":")
	rest := args[2:]
	var v string
	if action != "unset" && action != "echo" && len(rest) > 0 {
		v, rest = rest[0], rest[1:]
	}
	holds, known := h.condition(rest)
	if action == "edit" || action == "edit*" || action == "echo" || action == "note" || action == "setifempty" || !known || !isFieldName(name) {
		l.note(h.ledger.note(d, "changes a header in a way that cannot be said", "have the program send it right, or write headers.response"))
		return
	}
	if !holds {
		h.ledger.needless(d)
		return
	}
	h.ledger.took(d)
	if action == "unset" {
		rules.set.remove(name)
		rules.add.remove(name)
		rules.remove = append(rules.remove, text(name))
		return
	}
	template, err := headerTemplate(v)
	if err != nil {
		l.note(h.ledger.note(d, "sets a header that cannot be said: "+err.Error(), "leave it to the program"))
		return
	}
	if action == "set" {
		rules.set.set(name, text(template))
		return
	}
	addHeader(rules.add, name, text(template))
}

func (h *apacheHost) requestHeader(l *location, d *directive) {
	action, name, v := strings.ToLower(d.arg(0)), strings.TrimSuffix(d.arg(1), ":"), d.arg(2)
	var rest []string
	if len(d.args) > 3 {
		rest = d.args[3:]
	}
	if action == "unset" {
		rest = nil
	}
	holds, known := h.condition(rest)
	switch {
	case action == "setifempty" && isToldAnyway(name):
		h.ledger.needless(d)
		return
	case action == "edit" || action == "edit*":
		h.editRequest(l, d)
		return
	case !isFieldName(name):
		l.note(h.ledger.note(d, "names no header", "write headers.request by hand"))
		return
	case !known && !(len(rest) == 1 && strings.HasPrefix(rest[0], "env=") && h.saidAnyway(name, v)):
		l.note(h.ledger.note(d, "tells the backend something that depends", "write headers.request on locations with when"))
		return
	case known && !holds || slices.Contains(hopByHop, strings.ToLower(name)) || h.saidAnyway(name, v):
		h.ledger.needless(d)
		return
	}
	request, _ := headersOf(l.opts).get("request").(*mapping)
	if request == nil {
		request = &mapping{}
	}
	if action == "unset" {
		h.ledger.took(d)
		removed, _ := request.get("remove").(list)
		request.set("remove", append(slices.Clone(removed), text(name)))
		headersOf(l.opts).set("request", request)
		return
	}
	template, err := headerTemplate(v)
	if err != nil || action != "set" && action != "add" && action != "append" && action != "merge" {
		l.note(h.ledger.note(d, "tells the backend what cannot be said", "leave it to the program, or write headers.request"))
		if headersOf(l.opts).empty() {
			l.opts.remove("headers")
		}
		return
	}
	h.ledger.took(d)
	key := "set"
	if action != "set" {
		key = "add"
	}
	fields, _ := request.get(key).(*mapping)
	if fields == nil {
		fields = &mapping{}
	}
	fields.set(name, text(template))
	request.set(key, fields)
	headersOf(l.opts).set("request", request)
}

// isToldAnyway reports fields that backends are told whatever clients say.
func isToldAnyway(name string) bool {
	switch strings.ToLower(name) {
	case "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-for", "x-real-ip":
		return true
	}
	return false
}

// editRequest translates a RequestHeader edit that puts something around all of a value.
func (h *apacheHost) editRequest(l *location, d *directive) {
	name, pattern, to := d.arg(1), d.arg(2), d.arg(3)
	before, behind, ok := strings.Cut(to, "$1")
	if !ok || !slices.Contains([]string{"(.*)", "^(.*)$", "(.+)", "^(.+)$", "^(.*)"}, pattern) || strings.Contains(before+behind, "$") || !isFieldName(name) {
		l.note(h.ledger.note(d, "changes what the client says", "leave it to the program, or write headers.request"))
		return
	}
	h.ledger.took(d)
	v := "$http_" + strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	if strings.EqualFold(name, "X-Forwarded-Host") {
		v = "$http_host"
	}
	set := &mapping{}
	set.set(name, text(before+v+behind))
	request, _ := headersOf(l.opts).get("request").(*mapping)
	if request == nil {
		request = &mapping{}
	}
	if old, ok := request.get("set").(*mapping); ok {
		old.set(name, text(before+v+behind))
	} else {
		request.set("set", set)
	}
	headersOf(l.opts).set("request", request)
}

// saidAnyway reports fields that backends are told in any case.
func (h *apacheHost) saidAnyway(name, v string) bool {
	https := h.secure() && (!h.plain() || h.redirects)
	v = strings.TrimPrefix(v, "expr=")
	switch strings.ToLower(name) {
	case "x-forwarded-proto":
		return v == "%{REQUEST_SCHEME}s" || v == "%{REQUEST_SCHEME}" || v == "%{REQUEST_SCHEME}e" || v == "https" && https || v == "http" && !h.secure()
	case "x-forwarded-port":
		return v == "%{SERVER_PORT}s" || v == "%{SERVER_PORT}" || v == "443" && https || v == "80" && !h.secure()
	case "x-real-ip", "x-forwarded-for":
		return v == "%{REMOTE_ADDR}s" || v == "%{REMOTE_ADDR}" || v == "%{REMOTE_ADDR}e"
	case "x-forwarded-host":
		return v == "%{HTTP_HOST}s" || v == "%{HTTP_HOST}" || v == "%{HTTP_HOST}e"
	case "upgrade", "connection":
		return true
	}
	return false
}
