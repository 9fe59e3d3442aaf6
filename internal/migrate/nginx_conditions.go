package migrate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nginxCondition is what stands in the parentheses of an if.
type nginxCondition struct {
	op       string // "", =, !=, ~, ~*, !~, !~*, or a test of a file such as !-e
	variable string // without its $
	value    string
}

var nginxOps = []string{"=", "!=", "~", "~*", "!~", "!~*"}

func conditionOf(d *directive) (c nginxCondition, ok bool) {
	args := d.args
	switch {
	case len(args) == 1 && strings.HasPrefix(args[0], "$"):
		return nginxCondition{variable: varName(args[0])}, true
	case len(args) == 2 && strings.HasPrefix(strings.TrimPrefix(args[0], "!"), "-"):
		return nginxCondition{op: args[0], variable: args[1]}, true
	case len(args) >= 3 && strings.HasPrefix(args[0], "$") && slices.Contains(nginxOps, args[1]):
		return nginxCondition{op: args[1], variable: varName(args[0]), value: strings.Join(args[2:], " ")}, true
	case len(args) == 2 && strings.HasPrefix(args[0], "$") && slices.Contains(nginxOps, args[1]):
		return nginxCondition{op: args[1], variable: varName(args[0])}, true
	}
	return c, false
}

// isPlainHTTP reports a condition that asks whether the request came without TLS.
func (c nginxCondition) isPlainHTTP() bool {
	switch c.variable {
	case "scheme", "http_x_forwarded_proto":
		return c.op == "=" && c.value == "http" || c.op == "!=" && c.value == "https" || c.op == "~" && c.value == "^http$" || c.op == "~*" && c.value == "http"
	case "https":
		return c.op == "=" && c.value == "" || c.op == "!=" && c.value == "on"
	case "server_port":
		return c.op == "=" && c.value == "80" || c.op == "!=" && c.value == "443"
	case "ssl_protocol":
		return c.op == "=" && c.value == ""
	}
	return false
}

// hosts returns those of the names that a condition about the host holds for.
func (c nginxCondition) hosts(names []string) (held []string, ok bool) {
	if c.variable != "host" && c.variable != "http_host" && c.variable != "server_name" {
		return nil, false
	}
	var matches func(string) bool
	switch strings.TrimPrefix(c.op, "!") {
	case "=":
		host, _ := hostOf(c.value)
		matches = func(name string) bool { return name == host }
		if c.op == "=" && !slices.Contains(names, host) && host != "" {
			return []string{host}, true // of the hosts that no other server answers
		}
	case "~", "~*":
		pattern, ok := toRE2(c.value)
		if !ok {
			return nil, false
		}
		re := regexp.MustCompile("(?i)" + pattern)
		matches = func(name string) bool { return re.MatchString(name) }
	default:
		return nil, false
	}
	for _, name := range names {
		if strings.HasPrefix(name, "*") {
			return nil, false
		}
		if matches(name) != strings.HasPrefix(c.op, "!") {
			held = append(held, name)
		}
	}
	return held, true
}

// usualMethods are those that clients send, for conditions that name them by a pattern.
var usualMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT"}

// when returns our condition for one of nginx's.
func (n *nginx) when(c nginxCondition) (*mapping, bool) {
	if m, known := n.maps[c.variable]; known && c.op == "" {
		return n.whenMap(m)
	}
	if g, known := n.geos[c.variable]; known && c.op == "" {
		return n.whenGeo(g)
	}
	switch c.variable {
	case "request_method":
		return whenMethod(c)
	case "remote_addr":
		if p, ok := network(c.value); ok && c.op == "=" {
			return whenOf("client", texts(networkText(p))), true
		}
		return nil, false
	}
	for prefix, key := range map[string]string{"http_": "header", "cookie_": "cookie", "arg_": "query"} {
		name, ok := strings.CutPrefix(c.variable, prefix)
		if !ok || !isFieldName(name) {
			continue
		}
		if key == "header" {
			name = headerName(name)
		}
		cond, ok := whenText(c.op, c.value)
		if !ok {
			return nil, false
		}
		inner := &mapping{}
		inner.set(name, cond)
		return whenOf(key, inner), true
	}
	return nil, false
}

func whenOf(key string, v value) *mapping {
	m := &mapping{}
	m.set(key, v)
	return m
}

// headerName spells the name in $http_name.
func headerName(name string) string {
	parts := strings.Split(name, "_")
	for i, p := range parts {
		if p != "" {
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "-")
}

// whenText returns our condition on a text.
func whenText(op, v string) (value, bool) {
	switch op {
	case "":
		return word("true"), true
	case "=":
		if v == "" {
			return word("false"), true
		}
		if strings.ContainsAny(v[:1], "~!") || v == "true" || v == "false" {
			return text("~ ^" + regexp.QuoteMeta(v) + "$"), true
		}
		return text(v), true
	case "!=":
		if v == "" {
			return word("true"), true
		}
		return text("!= " + v), true
	}
	pattern, ok := toRE2(v)
	return text(op + " " + pattern), ok && pattern != ""
}

// whenMethod returns our condition for one that names methods. One for all others has no such (methodGate).
func whenMethod(c nginxCondition) (*mapping, bool) {
	if strings.HasPrefix(c.op, "!") {
		return nil, false
	}
	listed, ok := c.methods()
	return whenOf("method", texts(listed...)), ok
}

// methods returns those that a condition names, whether it holds for them or for all others. A pattern is asked for the usual ones and for all that
// stand in it.
func (c nginxCondition) methods() (named []string, ok bool) {
	switch strings.TrimPrefix(c.op, "!") {
	case "=":
		named = []string{c.value}
	case "~", "~*":
		pattern, ok := toRE2(c.value)
		if !ok {
			return nil, false
		}
		words := c.value
		if strings.HasSuffix(c.op, "*") {
			pattern, words = "(?i)"+pattern, strings.ToUpper(words)
		}
		re := regexp.MustCompile(pattern)
		for _, m := range append(slices.Clone(usualMethods), methodWord.FindAllString(words, -1)...) {
			if re.MatchString(m) && !slices.Contains(named, m) {
				named = append(named, m)
			}
		}
	}
	for _, m := range named {
		if m == "" || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return nil, false
		}
	}
	return named, len(named) > 0
}

var methodWord = regexp.MustCompile(`[A-Z]{2,}(?:-[A-Z]+)*`)

// truthy reports a value that an if takes for true.
func truthy(s string) bool { return s != "" && s != "0" }

// whenMap returns the condition that a map of one variable gives something else than nothing or 0.
func (n *nginx) whenMap(m *directive) (*mapping, bool) {
	if len(m.args) != 2 || !strings.HasPrefix(m.args[0], "$") {
		return nil, false
	}
	source := varName(m.args[0])
	var patterns []string
	for _, e := range m.block {
		switch {
		case e.name == "default":
			if truthy(e.arg(0)) {
				return nil, false
			}
		case e.name == "hostnames" || e.name == "volatile":
		case !truthy(e.arg(0)):
			return nil, false // an exception
		case strings.HasPrefix(e.name, "~*"):
			patterns = append(patterns, "(?i:"+e.name[2:]+")")
		case strings.HasPrefix(e.name, "~"):
			patterns = append(patterns, e.name[1:])
		default:
			patterns = append(patterns, "(?i:^"+regexp.QuoteMeta(e.name)+"$)")
		}
	}
	if len(patterns) == 0 {
		return nil, false
	}
	when, ok := n.when(nginxCondition{op: "~", variable: source, value: strings.Join(patterns, "|")})
	if ok && source != m.args[1] {
		n.ledger.took(m)
		n.ledger.took(m.block...)
	}
	return when, ok
}

// whenGeo returns the condition that an address is in one of the networks of a geo.
func (n *nginx) whenGeo(g *directive) (*mapping, bool) {
	if len(g.args) != 1 {
		return nil, false
	}
	var networks list
	for _, e := range g.block {
		p, ok := network(e.name)
		switch {
		case ok && truthy(e.arg(0)):
			networks = append(networks, text(networkText(p)))
		case e.name == "default" && !truthy(e.arg(0)):
		default:
			return nil, false
		}
	}
	n.ledger.took(g)
	n.ledger.took(g.block...)
	return whenOf("client", networks), len(networks) > 0
}

// returnOf is what a return answers.
type returnOf struct {
	status  int
	to      string // of a redirect
	body    string
	hasBody bool
}

func readReturn(d *directive) (r returnOf, ok bool) {
	first := d.arg(0)
	status, err := strconv.Atoi(first)
	switch {
	case err != nil && (strings.HasPrefix(first, "http") || strings.HasPrefix(first, "/") || strings.HasPrefix(first, "$scheme")):
		return returnOf{status: 302, to: first}, true
	case err != nil || status < 200 || status > 999 || len(d.args) == 0:
		return r, false
	}
	r.status = status
	if len(d.args) > 1 {
		rest := strings.Join(d.args[1:], " ")
		switch status {
		case 301, 302, 303, 307, 308:
			r.to = rest
		default:
			r.body, r.hasBody = rest, true
		}
	}
	return r, status <= 599
}
