package migrate

import (
	"strings"
)

// upstream translates the servers that share a name.
func (n *nginx) upstream(d *directive) {
	u := &upstream{Place: d.Place, opts: &mapping{}, name: upstreamName(d.arg(0))}
	n.ledger.took(d)
	var servers list
	plain := true
	for _, e := range d.block {
		switch e.name {
		case "server":
			if s := n.upstreamServer(u, e); s != nil {
				servers = append(servers, s)
			}
		case "keepalive":
			n.ledger.took(e)
			if e.arg(0) != "0" {
				u.opts.set("keepalive", word(digits(e.arg(0), "16")))
			}
			plain = plain && e.arg(0) == "0"
		default:
			n.balancing(u, e)
		}
	}
	u.opts.set("servers", servers)
	if len(servers) == 1 && plain && isPlain(servers) {
		u.single = string(servers[0].(text))
	}
	if len(servers) == 0 {
		return
	}
	n.upstreams[d.arg(0)] = u
}

// balancing translates how the servers of an upstream are chosen.
func (n *nginx) balancing(u *upstream, d *directive) {
	switch d.name {
	case "ip_hash", "least_conn":
		u.opts.set("balance", word(d.name))
	case "least_time":
		u.opts.set("balance", word("least_conn"))
	case "random":
		u.opts.set("balance", word("random_two"))
	case "hash":
		by, ok := balanceBy(d.arg(0))
		if !ok {
			u.notes = append(u.notes, n.ledger.note(d, "sends what is equal to the same server", "servers are asked in turn here: balance: {hash: ...} goes by one header, cookie or parameter, or by the path"))
			return
		}
		u.opts.set("balance", by)
	case "sticky":
		cookie := stickyCookie(d.args)
		if cookie == nil {
			u.notes = append(u.notes, n.ledger.note(d, "sends a client to the same server each time", "sticky: {cookie: NAME} does so by a cookie of its own"))
			return
		}
		u.opts.set("sticky", cookie)
	default:
		return
	}
	n.ledger.took(d)
}

// upstreamServer reads a server of an upstream; it returns nil for what is none.
func (n *nginx) upstreamServer(u *upstream, d *directive) value {
	n.ledger.took(d)
	address, ok := serverAddress(d.arg(0), "80")
	if !ok {
		u.notes = append(u.notes, n.ledger.refuse(d, "names no server by host and port", "write it as host:port"))
		return nil
	}
	options := &mapping{}
	for _, flag := range d.args[min(1, len(d.args)):] {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "down", "backup":
			options.set(name, word("true"))
		case "weight":
			if w := weight(value); w != "" {
				options.set("weight", word(w))
			}
		case "max_conns":
			if most := digits(value, ""); most != "" {
				options.set("max_connections", word(most))
			}
		}
	}
	return balanced(address, options)
}

// serverAddress returns host:port or unix:/path.
func serverAddress(s, port string) (string, bool) {
	if file, ok := strings.CutPrefix(s, "unix:"); ok {
		return s, strings.HasPrefix(file, "/")
	}
	host, given, ok := splitPort(s)
	if !ok {
		return "", false
	}
	if given != "" {
		port = given
	}
	return host + ":" + port, true
}

// splitPort splits host and port; an address of IPv6 keeps its brackets. The port is empty where there is none.
func splitPort(s string) (host, port string, ok bool) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
		if digits(port, "") == "" {
			return "", "", false
		}
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, isAddress := network(bare); isAddress && !strings.Contains(bare, "/") {
		return host, port, strings.Contains(bare, ":") == strings.HasPrefix(host, "[")
	}
	return strings.ToLower(host), port, isHost(strings.ToLower(host))
}

// digits returns a number above zero as it was written, or the other text where it is none.
func digits(s, otherwise string) string {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" || strings.Trim(s, "0") == "" {
		return otherwise
	}
	return strings.TrimLeft(s, "0")
}

// upstreamName returns a name as our upstreams have them.
func upstreamName(s string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	if _, isAddress := network(name); isAddress || name == "" {
		return "upstream-" + strings.ReplaceAll(name, "/", "-")
	}
	return name
}
