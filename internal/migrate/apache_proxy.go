package migrate

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// apachePass is a ProxyPass.
type apachePass struct {
	*directive
	prefix string // what it is for, where that is no pattern
	regex  string // as RE2 has it
	url    string
	params map[string]string
	except bool // with !: what it is for is not passed on
}

// readPass reads a ProxyPass or ProxyPassMatch; path is that of the section it stands in, empty for none.
func (h *apacheHost) readPass(d *directive, section, regex string) *apachePass {
	p := &apachePass{directive: d, prefix: section, regex: regex, params: map[string]string{}}
	args := d.args
	if section == "" && regex == "" {
		if len(args) < 2 {
			return nil
		}
		if d.name == "proxypassmatch" {
			re, ok := toRE2(args[0])
			if !ok {
				h.note(h.ledger.refuse(d, "has a pattern that RE2 does not know", "write the location by hand"))
				return nil
			}
			p.regex = re
		} else {
			p.prefix = normalPath(args[0])
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	p.url = args[0]
	p.except = p.url == "!"
	for _, param := range args[1:] {
		key, v, _ := strings.Cut(param, "=")
		p.params[strings.ToLower(key)] = v
	}
	return p
}

// readPasses reads those that stand in no section. The first that is for a path counts.
func (h *apacheHost) readPasses() {
	for _, d := range h.all("proxypass", "proxypassmatch") {
		if p := h.readPass(d, "", ""); p != nil {
			h.ledger.took(d)
			h.proxied = append(h.proxied, p)
		}
	}
}

// apacheURL is where a ProxyPass leads.
type apacheURL struct {
	secure, ws, fcgi bool
	authority        string // host[:port] or unix:/path
	balancer         string
	path             string // with captures
}

// server is the target as a server of an upstream.
func (u apacheURL) server() string {
	port := "80"
	if u.secure {
		port = "443"
	}
	s, _ := serverAddress(u.authority, port)
	return s
}

// readApacheURL takes a URL of a ProxyPass apart.
func readApacheURL(s string) (u apacheURL, problem string) {
	if file, rest, ok := strings.Cut(strings.TrimPrefix(s, "unix:"), "|"); ok && strings.HasPrefix(s, "unix:") {
		inner, problem := readApacheURL(rest)
		inner.authority = "unix:" + file
		if inner.secure || !strings.HasPrefix(file, "/") {
			problem = "speaks TLS to a socket file"
		}
		return inner, problem
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return u, "leads to no URL"
	}
	switch strings.ToLower(scheme) {
	case "http", "h2c":
	case "https", "h2":
		u.secure = true
	case "ws":
		u.ws = true
	case "wss":
		u.ws, u.secure = true, true
	case "fcgi":
		u.fcgi = true
	case "balancer":
		u.balancer, u.path, _ = strings.Cut(rest, "/")
		if strings.Contains(rest, "/") {
			u.path = "/" + u.path
		}
		return u, ""
	default:
		return u, "speaks " + printableWord(scheme) + ", which is not spoken here"
	}
	u.authority = rest
	if i := strings.IndexAny(rest, "/$?"); i >= 0 {
		u.authority, u.path = rest[:i], rest[i:]
	}
	u.authority = strings.ToLower(u.authority)
	if strings.HasPrefix(u.path, "$") {
		u.path = "/" + u.path
	}
	if _, _, ok := splitPort(u.authority); !ok {
		return u, "leads to no host that is known here"
	}
	return u, ""
}

func printableWord(s string) string { return strings.Map(printable, s) }

// proxy writes where a location's requests go. base is the prefix that the target's path takes the place of.
func (h *apacheHost) proxy(l *location, p *apachePass, at string, levels apacheLevels) {
	u, problem := readApacheURL(p.url)
	if problem != "" {
		l.note(h.ledger.refuse(p.directive, problem, "this location answers 502 until you name the backend"))
		l.closed("502")
		return
	}
	h.ledger.took(p.directive)
	if u.fcgi {
		h.fcgi(l, p, u)
		return
	}
	t := target{secure: u.secure, authority: u.authority, path: h.mapped(l, p, u, at)}
	keepsHost := on(levels.last("proxypreservehost"))
	if u.balancer != "" && !h.useBalancer(l, p, &u, &t) {
		return
	}
	switch upgrade := p.params["upgrade"]; {
	case u.ws: // of which Apache passes pages on too, since 2.4.47
		l.opts.set("proxy", text(t.short()))
	case strings.EqualFold(upgrade, "websocket") || strings.EqualFold(upgrade, "any"):
		l.opts.set("proxy", text(t.short()))
	default:
		l.opts.set("http", text(t.url("http")))
	}
	if !keepsHost {
		l.opts.set("host", word("backend"))
	}
	if d := levels.last("proxypreservehost"); d != nil {
		h.ledger.took(d)
	}
	h.backendTLS(l, t, levels)
	h.passTimeouts(l, p, levels)
	if !u.ws {
		h.reverse(l, p, at, t, keepsHost, levels)
	}
	if d := levels.last("proxyerroroverride"); on(d) {
		h.ledger.took(d)
		l.opts.set("intercept_errors", word("true"))
	}
}

// mapped returns the path of a target; empty where paths go on as they came.
func (h *apacheHost) mapped(l *location, p *apachePass, u apacheURL, at string) string {
	to, query, has := strings.Cut(u.path, "?")
	if has && query != "" {
		l.note(h.ledger.note(p.directive, "adds a query", "write rewrite with stay: true"))
	}
	if p.regex != "" {
		if !strings.Contains(to, "$") { // the whole path is appended
			if to == "" || to == "/" {
				return ""
			}
			h.stay(l, "^(.*)$", strings.TrimSuffix(to, "/")+"$1")
			return ""
		}
		if whole(p.regex, to) {
			return ""
		}
		if u.authority == "" || strings.HasPrefix(u.authority, "unix:") {
			h.stay(l, p.regex, to)
			return ""
		}
		return to
	}
	if to == "" {
		to = "/"
	}
	base := strings.TrimSuffix(p.prefix, "/")
	rest := strings.TrimPrefix(at, base) // of a location below what the line is for
	if rest != "" && rest != "/" {
		to = strings.TrimSuffix(to, "/") + rest
	}
	switch {
	case strings.TrimSuffix(to, "/") == strings.TrimSuffix(at, "/"):
		return ""
	case strings.HasPrefix(u.authority, "unix:") || l.isRegex():
		h.stay(l, "^"+regexp.QuoteMeta(strings.TrimSuffix(at, "/"))+"/?(.*)$", strings.TrimSuffix(to, "/")+"/$1")
		return ""
	}
	return to
}

// whole reports a pattern and a path of a target by which all of the request's path goes on.
func whole(regex, to string) bool {
	plain := strings.TrimSuffix(strings.TrimPrefix(regex, "^"), "$")
	for n := 1; strings.Contains(plain, "(") && n < 10; n++ {
		plain = group.ReplaceAllStringFunc(plain, onlyFirst(fmt.Sprintf("$%d", n)))
	}
	if strings.ReplaceAll(plain, `\.`, ".") == to && !strings.ContainsAny(plain, `()[]*+?|`) {
		return true
	}
	return to == "/$1" && slices.Contains([]string{"^/(.*)$", "^/(.*)", "^/?(.*)$", "^/?(.*)"}, regex) || to == "$1" && slices.Contains([]string{"^(.*)$", "^(/.*)$", "^(.*)", "(.*)"}, regex)
}

// group is one without others in it.
var group = regexp.MustCompile(`\([^()]*\)`)

// onlyFirst replaces the first text that it is given, and leaves others.
func onlyFirst(by string) func(string) string {
	done := false
	return func(s string) string {
		if done {
			return s
		}
		done = true
		return by
	}
}

// stay has a location pass on another path.
func (h *apacheHost) stay(l *location, pattern, to string) {
	m := &mapping{}
	m.set("path", text(pattern))
	m.set("to", text(to))
	m.set("stay", word("true"))
	addRewrite(l.opts, m)
}

// backendTLS says how the certificate of a backend is checked.
func (h *apacheHost) backendTLS(l *location, t target, levels apacheLevels) {
	if !t.secure {
		return
	}
	verify, ca := levels.last("sslproxyverify"), levels.last("sslproxycacertificatefile")
	if verify == nil || !strings.EqualFold(verify.arg(0), "require") {
		l.opts.set("tls_verify", word("false"))
		l.opts.find("tls_verify").comment = "as Apache does unless told otherwise; better: true"
		return
	}
	h.ledger.took(verify)
	if ca != nil {
		h.ledger.took(ca)
		l.opts.set("tls_ca", text(joinName(h.reader.root, ca.arg(0))))
	}
}

// apacheTime reads a number of seconds, or of another unit that is said.
func apacheTime(s string) (time.Duration, bool) {
	for unit, of := range map[string]time.Duration{"ms": time.Millisecond, "min": time.Minute, "h": time.Hour, "hr": time.Hour, "s": time.Second, "": time.Second, "mi": time.Minute} {
		number, ok := strings.CutSuffix(strings.ToLower(s), unit)
		if n, err := strconv.ParseInt(number, 10, 32); ok && err == nil && n > 0 {
			return time.Duration(n) * of, true
		}
	}
	return 0, false
}

// passTimeouts says how long a backend may take where that is said.
func (h *apacheHost) passTimeouts(l *location, p *apachePass, levels apacheLevels) {
	m := &mapping{}
	given := p.params["timeout"]
	if given == "" {
		if d := levels.last("proxytimeout"); d != nil {
			h.ledger.took(d)
			given = d.arg(0)
		}
	}
	if v, ok := apacheTime(p.params["connectiontimeout"]); ok {
		m.set("connect", durationText(v))
	}
	if v, ok := apacheTime(given); ok {
		if !l.opts.has("websocket") {
			m.set("response_head", durationText(v))
			m.set("response_body", durationText(v))
		}
		if !l.opts.has("http") {
			m.set("tunnel_idle", durationText(v))
		}
	}
	dropDefaults(m)
	if !m.empty() {
		l.opts.set("timeouts", m)
	}
}

// timeouts says for all how long backends may take, where Timeout says something else than our default.
func (a *apache) timeouts(servers []*server) {
	d := lastOf(a.global, "timeout")
	if d == nil {
		return
	}
	v, ok := apacheTime(d.arg(0))
	passes := slices.ContainsFunc(servers, func(s *server) bool {
		return slices.ContainsFunc(s.locations, func(l *location) bool { return l.opts.has("http") || l.opts.has("proxy") || l.opts.has("php") })
	})
	if !ok || v == time.Minute || !passes {
		a.ledger.needless(d)
		return
	}
	a.ledger.took(d)
	m := &mapping{}
	m.set("response_head", durationText(v))
	m.set("response_body", durationText(v))
	a.doc.opts.set("timeouts", m)
}

// reverse says whether the backend's own URLs are mapped in its answers.
func (h *apacheHost) reverse(l *location, p *apachePass, at string, t target, keepsHost bool, levels apacheLevels) {
	found := false
	for _, d := range levels.every("proxypassreverse") {
		u := d.arg(len(d.args) - 1)
		path := at
		if len(d.args) > 1 {
			path = normalPath(d.args[0])
		}
		if !below(at, path) && !below(path, at) {
			continue
		}
		if h.isOwnURL(u, p.url) {
			h.ledger.took(d)
			found = true
			continue
		}
		if path == at {
			l.note(h.ledger.note(d, "maps redirects to another name than the backend's", "have the backend make its redirects for the public name"))
		}
	}
	if !found && (t.path != "" || !keepsHost) {
		l.opts.set("rewrite_responses", word("false"))
	}
	for _, d := range levels.every("proxypassreversecookiepath", "proxypassreversecookiedomain") {
		from, to := d.arg(0), d.arg(1)
		mapped := d.name == "proxypassreversecookiedomain" || strings.TrimSuffix(from, "/") == strings.TrimSuffix(t.path, "/") && strings.TrimSuffix(to, "/") == strings.TrimSuffix(at, "/")
		if from == to || mapped && found {
			h.ledger.needless(d)
		} else if !h.ledger.seen(d) {
			l.note(h.ledger.note(d, "changes cookies of the backend", "cookies of the target's path are mapped anyway; have the program set others right"))
		}
	}
}

// isOwnURL reports two URLs of one backend; ws is http, and this machine has several names.
func (h *apacheHost) isOwnURL(a, b string) bool {
	hostOf := func(s string) string {
		if _, rest, ok := strings.Cut(s, "|"); ok {
			s = rest
		}
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return s
		}
		name, port := u.Hostname(), u.Port()
		if name == "localhost" || name == "::1" {
			name = "127.0.0.1"
		}
		if port == "" {
			port = map[bool]string{true: "443", false: "80"}[u.Scheme == "https" || u.Scheme == "wss"]
		}
		return name + ":" + port
	}
	return hostOf(a) == hostOf(b)
}
