package migrate

import (
	"regexp"
	"slices"
	"strings"
)

// apacheConditions are what the conditions of a rule come to.
type apacheConditions struct {
	// allowed are the methods that a condition for all others names; when has the usual ones of those.
	allowed []string
	plain   bool     // only without TLS
	secure  bool     // only with TLS
	upgrade bool     // only requests for WebSockets
	noFile  bool     // only what is no file
	isFile  bool     // only what is one
	hosts   []string // only for these
	byHost  bool
	path    string   // only where this regex matches
	when    *mapping // what a location can ask for
	groups  []string // of the last condition that has any: its pattern
}

// conditions reads the conditions of a rule; problem is the first that has no counterpart.
func (h *apacheHost) conditions(r apacheRule) (c apacheConditions, problem *directive) {
	for i, d := range r.conds {
		flags := rewriteFlags(d.arg(2))
		_, fold := flags["NC"]
		if _, or := flags["OR"]; or && i+1 < len(r.conds) && !sameSubject(d, r.conds[i+1]) {
			return c, d
		}
		if !h.oneCondition(&c, d.arg(0), d.arg(1), fold) {
			return c, d
		}
	}
	return c, nil
}

// sameSubject reports conditions of which one is enough where we can say that: names of the host, and ways of asking for a WebSocket.
func sameSubject(a, b *directive) bool {
	subject := func(d *directive) string {
		name := strings.ToUpper(strings.Trim(d.arg(0), "%{}"))
		switch {
		case name == "HTTP_HOST" || name == "SERVER_NAME":
			return "host"
		case name == "HTTP:UPGRADE" || name == "HTTP:CONNECTION" || name == "REQUEST_URI" && strings.Contains(d.arg(1), "websocket"):
			return "upgrade"
		case name == "HTTPS" || name == "SERVER_PORT" || name == "HTTP:X-FORWARDED-PROTO":
			return "tls"
		}
		return d.arg(0) + " of its own"
	}
	return subject(a) == subject(b)
}

// oneCondition reads one condition.
func (h *apacheHost) oneCondition(c *apacheConditions, variable, pattern string, fold bool) bool {
	bare, not := strings.CutPrefix(pattern, "!")
	literal, exact := strings.CutPrefix(bare, "=")
	literal = strings.Trim(strings.ToLower(strings.Trim(literal, `"`)), "^$")
	switch name := strings.Trim(variable, "%{}"); strings.ToUpper(name) {
	case "HTTPS", "REQUEST_SCHEME", "SERVER_PORT", "SERVER_PORT_SECURE", "HTTP:X-FORWARDED-PROTO":
		https := literal == "on" || literal == "https" || literal == "443" || literal == "1"
		if !https && literal != "off" && literal != "http" && literal != "80" && literal != "0" {
			return false
		}
		c.plain, c.secure = c.plain || https == not, c.secure || https != not
		return true
	case "HTTP:UPGRADE":
		c.upgrade = c.upgrade || !not
		return !not && literal == "websocket"
	case "HTTP:CONNECTION":
		return !not && strings.Contains(literal, "upgrade")
	case "REQUEST_FILENAME", "DOCUMENT_ROOT}%{REQUEST_URI", "DOCUMENT_ROOT}/%{REQUEST_URI", "DOCUMENT_ROOT}$1", "LA-U:REQUEST_FILENAME":
		switch bare {
		case "-f", "-d", "-l", "-s", "-e", "-F":
			c.noFile, c.isFile = c.noFile || not, c.isFile || !not
			return true
		}
		return false
	case "HTTP_HOST", "SERVER_NAME":
		return h.hostCondition(c, bare, not, exact)
	case "REQUEST_URI":
		return pathCondition(c, bare, not, exact)
	case "ENV:REDIRECT_STATUS":
		return true
	case "QUERY_STRING":
		if literal == "transport=websocket" && !not { // of socket.io, for its handshakes
			c.upgrade = true
			return true
		}
		return false
	}
	return whenCondition(c, strings.Trim(variable, "%{}"), bare, not, exact, fold)
}

// hostCondition finds the names that a condition holds for.
func (h *apacheHost) hostCondition(c *apacheConditions, bare string, not, exact bool) bool {
	pattern := bare
	if exact {
		pattern = "^" + regexp.QuoteMeta(strings.TrimPrefix(bare, "=")) + "$"
	}
	re, ok := toRE2("(?i)" + pattern)
	if !ok {
		return false
	}
	if pattern == "." || pattern == "^$" { // that there is a Host at all
		return true
	}
	compiled := regexp.MustCompile(re)
	c.byHost = true
	for _, name := range append(slices.Clone(h.names), impliedHosts(pattern)...) {
		if !strings.HasPrefix(name, "*") && compiled.MatchString(name) != not && !slices.Contains(c.hosts, name) {
			c.hosts = append(c.hosts, name)
		}
	}
	if captures(re) > 0 {
		c.groups = []string{re}
	}
	return true
}

// impliedHosts are the hosts that a pattern names itself.
func impliedHosts(pattern string) []string {
	hosts, _ := hostsOf(strings.TrimPrefix(pattern, "(?i)"))
	return hosts
}

func pathCondition(c *apacheConditions, bare string, not, exact bool) bool {
	if not {
		return strings.Contains(strings.ReplaceAll(bare, `\`, ""), ".well-known/acme-challenge") || strings.Contains(bare, "index.php")
	}
	if exact {
		bare = "^" + regexp.QuoteMeta(strings.TrimPrefix(bare, "=")) + "$"
	}
	re, ok := toRE2(bare)
	if !ok || c.path != "" {
		return false
	}
	c.path = re
	return true
}

// whenCondition reads what a location can ask for.
func whenCondition(c *apacheConditions, name, bare string, not, exact, fold bool) bool {
	field := ""
	for prefix, known := range map[string]string{"HTTP_USER_AGENT": "User-Agent", "HTTP_REFERER": "Referer", "HTTP_COOKIE": "Cookie", "HTTP_ACCEPT": "Accept"} {
		if strings.EqualFold(name, prefix) {
			field = known
		}
	}
	if rest, ok := strings.CutPrefix(name, "HTTP:"); ok && isFieldName(rest) {
		field = rest
	}
	op := "~"
	if exact {
		op, bare = "=", strings.TrimPrefix(bare, "=")
	} else if fold {
		op = "~*"
	}
	if not {
		op = "!" + op
	}
	var when *mapping
	ok := false
	switch {
	case strings.EqualFold(name, "REQUEST_METHOD"):
		cond := nginxCondition{variable: "request_method", op: op, value: bare}
		if cond.isGate() {
			c.allowed, ok = cond.methods()
			when = whenOf("method", texts(othersOf(c.allowed)...))
		} else {
			when, ok = whenMethod(cond)
		}
	case strings.EqualFold(name, "REMOTE_ADDR") && !not:
		if p, isAddress := network(strings.ReplaceAll(strings.Trim(bare, "^$"), `\`, "")); isAddress {
			when, ok = whenOf("client", texts(networkText(p))), true
		}
	case field != "":
		var cond value
		if cond, ok = whenText(op, bare); ok {
			when = whenOf("header", whenOf(field, cond).asValue())
		}
	}
	if !ok {
		return false
	}
	if c.when == nil {
		c.when = &mapping{}
	}
	for _, e := range when.entries {
		inner, both := e.value.(*mapping)
		if old, has := c.when.get(e.key).(*mapping); has && both {
			for _, f := range inner.entries {
				old.set(f.key, f.value)
			}
			continue
		}
		c.when.set(e.key, e.value)
	}
	return true
}

func (m *mapping) asValue() value { return m }
