package config

import (
	"net"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Health says how it is found out which of an upstream's servers can be used, and what follows. That requests fail takes a server out in any case.
type Health struct {
	// Check asks the servers in the background; nil for nothing.
	Check *Check
	// SlowStart is how long a server that comes back gets less than its share. Default 30s; zero: it gets all of it at once.
	SlowStart time.Duration
	// CloseOnDown ends the tunnels of a server that goes down (`on_down: close`); without it they live on as long as they can.
	CloseOnDown bool
}

// CheckKind is what a server has to do in a check.
type CheckKind int

// The kinds of checks.
const (
	CheckTCP       CheckKind = iota // take a connection (default)
	CheckHTTP                       // answer a GET
	CheckWebSocket                  // open a WebSocket
)

func (k CheckKind) String() string {
	switch k {
	case CheckHTTP:
		return "http"
	case CheckWebSocket:
		return "websocket"
	}
	return "tcp"
}

// Check is how a server is asked whether it is there.
type Check struct {
	Kind CheckKind
	// Path is asked for, with its query if it has one. Default "/"; of CheckTCP empty.
	Path string
	// Host is the Host header; empty for that of the target.
	Host string
	// Interval is the time between two checks. Default 10s.
	Interval time.Duration
	// Timeout bounds one check, its connection and TLS handshake included. Default 3s.
	Timeout time.Duration
	// Rise and Fall are how many checks in a row take a server in, and out. Default 2 and 3.
	Rise, Fall int
	// Expect are the good statuses of CheckHTTP. Default 200 to 399.
	Expect []StatusSpan
}

// StatusSpan is a range of statuses, both ends included.
type StatusSpan struct{ From, To int }

const (
	defaultSlowStart = 30 * time.Second
	shortestInterval = 10 * time.Millisecond
)

// health reads what an upstream says of its servers' health.
func (d *decoder) health(o object, h *Health) {
	h.SlowStart = defaultSlowStart
	if n := o.get("slow_start"); n != nil {
		if s, ok := d.scalar(n, "a duration, or off"); ok && s.text == "off" {
			h.SlowStart = 0
		} else if ok {
			d.duration(n, &h.SlowStart)
		}
	}
	if n := o.get("on_down"); n != nil {
		h.CloseOnDown = d.word(n, "keep", "close") == 1
	}
	if n := o.get("health"); n != nil {
		h.Check = d.check(n)
	} else if h.CloseOnDown {
		d.add(o.keyPos("on_down"), "on_down: close without health", "health beside it: only checks take a server down; one that is ejected comes back soon, and keeps its tunnels")
	}
}

// check reads how servers are checked.
func (d *decoder) check(n *yaml.Node) *Check {
	c := &Check{Interval: 10 * time.Second, Timeout: 3 * time.Second, Rise: 2, Fall: 3}
	o, ok := d.object(n, inHealth)
	if !ok {
		return c
	}
	for key, v := range map[string]*time.Duration{"interval": &c.Interval, "timeout": &c.Timeout} {
		if n := o.get(key); n != nil {
			d.duration(n, v)
		}
	}
	if n := o.get("interval"); n != nil && c.Interval < shortestInterval {
		d.add(posOf(deref(n)), "an interval of "+c.Interval.String(), shortestInterval.String()+" at least")
	}
	for key, v := range map[string]*int{"rise": &c.Rise, "fall": &c.Fall} {
		if n := o.get(key); n != nil {
			d.count(n, v)
		}
	}
	d.checkKind(o, c)
	return c
}

// checkKind reads what is asked in a check.
func (d *decoder) checkKind(o object, c *Check) {
	kind := "tcp"
	if n := o.get("kind"); n != nil {
		const allowed = "tcp, http or websocket"
		s, ok := d.scalar(n, allowed)
		switch {
		case !ok:
			return
		case s.text == "http":
			c.Kind = CheckHTTP
		case s.text == "websocket":
			c.Kind = CheckWebSocket
		case s.text != "tcp":
			d.add(s.pos, "unknown kind "+s.shown(), allowed+misspelt(s.written, "tcp", "http", "websocket"))
			return
		}
		kind = s.text
	}
	for _, key := range []string{"path", "host", "expect"} {
		switch needs := "http or websocket"; {
		case o.get(key) == nil:
		case key == "expect" && c.Kind != CheckHTTP:
			d.add(o.keyPos(key), "expect beside kind: "+kind, "expect only beside kind: http")
		case c.Kind == CheckTCP:
			d.add(o.keyPos(key), key+" beside kind: "+kind, key+" only beside kind: "+needs)
		}
	}
	if c.Kind == CheckTCP {
		return
	}
	c.Path = "/"
	if n := o.get("path"); n != nil {
		d.checkPath(n, &c.Path)
	}
	if n := o.get("host"); n != nil {
		d.checkHost(n, &c.Host)
	}
	if c.Kind == CheckHTTP {
		c.Expect = d.expect(o.get("expect"))
	}
}

// checkPath reads the path of a check, which may have a query.
func (d *decoder) checkPath(n *yaml.Node, v *string) {
	const allowed = `a path such as "/health"`
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	path, query, _ := strings.Cut(s.text, "?")
	if !strings.HasPrefix(path, "/") {
		d.add(s.pos, "path "+s.shown()+" does not begin with a slash", allowed)
		return
	}
	if found, allowed := checkTargetPath(path); found != "" {
		d.add(s.pos, "path "+s.shown()+" "+found, allowed)
		return
	}
	if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		d.add(s.pos, "path "+s.shown()+" has characters in its query that a URL cannot hold", "such characters as percent escapes")
		return
	}
	*v = s.text
}

// checkHost reads the Host header of a check.
func (d *decoder) checkHost(n *yaml.Node, v *string) {
	s, ok := d.scalar(n, "a host such as www.example.com, with a port if it needs one")
	if !ok {
		return
	}
	host, port, p := splitHostPort(s, s.text, "80")
	if p != nil {
		d.addProblem(s.pos, *p)
		return
	}
	*v = strings.TrimSuffix(net.JoinHostPort(host, ""), ":")
	if strings.HasSuffix(s.text, ":"+port) {
		*v = net.JoinHostPort(host, port)
	}
}

// expect reads the good statuses, one range or a list of them; n may be nil.
func (d *decoder) expect(n *yaml.Node) (spans []StatusSpan) {
	const allowed = "a status or a range of them, such as 204 or 200-399"
	if n == nil {
		return []StatusSpan{{200, 399}}
	}
	items := []*yaml.Node{n}
	if deref(n).Kind == yaml.SequenceNode {
		items = d.nonEmptyList(n, "a list with at least one status or range, such as [200, 204]")
	}
	for _, item := range items {
		s, ok := d.scalar(item, allowed)
		if !ok {
			continue
		}
		span, ok := parseSpan(s.text)
		if !ok {
			d.add(s.pos, "bad statuses "+s.shown(), allowed)
			continue
		}
		spans = append(spans, span)
	}
	return spans
}

// parseSpan reads a status, or two with a hyphen between them.
func parseSpan(s string) (span StatusSpan, ok bool) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	var err1, err2 error
	span.From, err1 = strconv.Atoi(from)
	span.To, err2 = strconv.Atoi(to)
	inOrder := 200 <= span.From && span.From <= span.To && span.To <= 599
	return span, err1 == nil && err2 == nil && inOrder && len(from) == 3 && len(to) == 3
}
