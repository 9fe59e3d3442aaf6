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
	limit := ""
	for _, e := range d.block {
		switch e.name {
		case "server":
			address, max, ok := n.upstreamServer(u, e)
			if !ok {
				continue
			}
			servers = append(servers, text(address))
			if max != "" {
				limit = max
			}
		case "keepalive":
			n.ledger.took(e)
			if e.arg(0) != "0" {
				u.opts.set("keepalive", word(digits(e.arg(0), "16")))
			}
			plain = plain && e.arg(0) == "0"
		case "ip_hash", "hash":
			u.notes = append(u.notes, n.ledger.note(e, "sends a client to the same server each time", "servers are asked in turn here: let them share their sessions, or name one server only"))
		case "least_conn", "least_time", "random":
			u.notes = append(u.notes, n.ledger.note(e, "chooses servers by how busy they are", "servers are asked in turn here"))
		case "sticky":
			u.notes = append(u.notes, n.ledger.note(e, "sends a client to the same server each time", "let the servers share their sessions"))
		}
	}
	if limit != "" {
		u.opts.set("max_connections", word(limit))
		plain = false
	}
	u.opts.set("servers", servers)
	if len(servers) == 1 && plain {
		u.single = string(servers[0].(text))
	}
	if len(servers) == 0 {
		return
	}
	n.upstreams[d.arg(0)] = u
}

// upstreamServer reads a server of an upstream.
func (n *nginx) upstreamServer(u *upstream, d *directive) (address, max string, ok bool) {
	n.ledger.took(d)
	address, ok = serverAddress(d.arg(0), "80")
	if !ok {
		u.notes = append(u.notes, n.ledger.refuse(d, "names no server by host and port", "write it as host:port"))
		return "", "", false
	}
	for _, flag := range d.args[min(1, len(d.args)):] {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "down":
			return "", "", false
		case "backup":
			u.notes = append(u.notes, n.ledger.note(d, "is asked only where all others fail", "it was left out: add it to be asked in turn with the others"))
			return "", "", false
		case "weight":
			if value != "1" {
				u.notes = append(u.notes, n.ledger.note(d, "takes a larger share", "servers are asked in turn here, all alike"))
			}
		case "max_conns":
			max = digits(value, "")
		case "resolve":
		}
	}
	return address, max, true
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
