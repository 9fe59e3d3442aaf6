package migrate

import (
	"slices"
	"strings"
)

// apacheBalancer is what a section <Proxy balancer://NAME> says.
type apacheBalancer struct {
	*upstream
	path   string // of its members' URLs
	secure bool
	ws     bool
}

// balancers reads the sections of groups of servers.
func (a *apache) balancers(all []*directive) {
	for _, d := range all {
		if d.name == "virtualhost" {
			a.balancers(d.block)
			continue
		}
		name, ok := strings.CutPrefix(d.arg(0), "balancer://")
		if d.name != "proxy" || !d.section || !ok {
			if d.name == "balancermember" && strings.HasPrefix(d.arg(0), "balancer://") && !d.section {
				a.member(a.balancer(strings.TrimPrefix(d.arg(0), "balancer://"), d), d, d.args[1:])
			}
			continue
		}
		a.ledger.took(d)
		b := a.balancer(name, d)
		for _, m := range d.block {
			switch m.name {
			case "balancermember":
				a.member(b, m, m.args)
			case "proxyset":
				a.balancerParams(b, m, m.args)
			}
		}
	}
}

func (a *apache) balancer(name string, d *directive) *apacheBalancer {
	name = strings.TrimSuffix(name, "/")
	if b := a.upstreams[name]; b != nil {
		return b
	}
	b := &apacheBalancer{upstream: &upstream{Place: d.Place, name: upstreamName(name), opts: &mapping{}}}
	a.upstreams[name] = b
	return b
}

func (a *apache) member(b *apacheBalancer, d *directive, args []string) {
	if len(args) == 0 {
		return
	}
	t, problem := readApacheURL(args[0])
	if problem != "" || t.fcgi {
		b.notes = append(b.notes, a.ledger.refuse(d, "is no server that speaks HTTP", "write its host and port"))
		return
	}
	for _, arg := range args[1:] {
		if strings.EqualFold(arg, "status=+D") || strings.EqualFold(arg, "status=D") {
			a.ledger.took(d)
			return
		}
		if strings.EqualFold(arg, "status=+H") || strings.EqualFold(arg, "status=H") {
			b.notes = append(b.notes, a.ledger.note(d, "is asked only where all others fail", "it was left out: add it to be asked in turn with the others"))
			return
		}
	}
	a.ledger.took(d)
	a.balancerParams(b, d, args[1:])
	servers, _ := b.opts.get("servers").(list)
	if !slices.Contains(servers, value(text(t.server()))) {
		servers = append(servers, text(t.server()))
	}
	b.opts.set("servers", servers)
	if b.path == "" {
		b.path = t.path
	}
	b.secure, b.ws = t.secure, t.ws
}

// balancerParams notes what is said about how servers are chosen.
func (a *apache) balancerParams(b *apacheBalancer, d *directive, args []string) {
	if !a.ledger.seen(d) {
		a.ledger.needless(d)
	}
	for _, arg := range args {
		key, v, _ := strings.Cut(arg, "=")
		switch strings.ToLower(key) {
		case "stickysession":
			b.notes = append(b.notes, a.ledger.note(d, "sends a client to the same server each time", "servers are asked in turn here: let them share their sessions, or name one server only"))
		case "loadfactor":
			if v != "1" {
				b.notes = append(b.notes, a.ledger.note(d, "takes a larger share", "servers are asked in turn here, all alike"))
			}
		case "lbmethod":
			if v != "byrequests" {
				b.notes = append(b.notes, a.ledger.note(d, "chooses servers by how busy they are", "servers are asked in turn here"))
			}
		}
	}
}

// useBalancer brings the servers of a group into a target.
func (h *apacheHost) useBalancer(l *location, p *apachePass, u *apacheURL, t *target) bool {
	b := h.upstreams[u.balancer]
	if b == nil || !b.opts.has("servers") {
		l.note(h.ledger.refuse(p.directive, "leads to a group of servers that is not there", "this location answers 502 until you name the backend"))
		l.closed("502")
		return false
	}
	h.balancerParams(b, p.directive, paramList(p.params))
	u.ws, t.secure = b.ws, b.secure
	if b.path != "" && b.path != "/" {
		t.path = strings.TrimSuffix(b.path, "/") + "/" + strings.TrimPrefix(t.path, "/")
	}
	b.used = true
	t.upstream, t.authority = b.upstream, b.name
	return true
}

func paramList(params map[string]string) (list []string) {
	for key, v := range params {
		list = append(list, key+"="+v)
	}
	slices.Sort(list)
	return list
}
