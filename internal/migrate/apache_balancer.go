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
	// members are the addresses of its servers.
	members []string
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
	a.ledger.took(d)
	a.balancerParams(b, d, args[1:])
	servers, _ := b.opts.get("servers").(list)
	if !slices.Contains(b.members, t.server()) {
		b.members = append(b.members, t.server())
		servers = append(servers, balanced(t.server(), memberOptions(args[1:])))
	}
	b.opts.set("servers", servers)
	if b.path == "" {
		b.path = t.path
	}
	b.secure, b.ws = t.secure, t.ws
}

// memberOptions are what a member of a group is given beside its address.
func memberOptions(args []string) *mapping {
	options := &mapping{}
	for _, arg := range args {
		key, v, _ := strings.Cut(strings.ToLower(arg), "=")
		switch {
		case key == "loadfactor" && weight(v) != "":
			options.set("weight", word(weight(v)))
		case key == "status" && strings.TrimPrefix(v, "+") == "d":
			options.set("down", word("true"))
		case key == "status" && strings.TrimPrefix(v, "+") == "h":
			options.set("backup", word("true"))
		}
	}
	return options
}

// balancerParams translates, or notes, what is said about how servers are chosen.
func (a *apache) balancerParams(b *apacheBalancer, d *directive, args []string) {
	if !a.ledger.seen(d) {
		a.ledger.needless(d)
	}
	for _, arg := range args {
		key, v, _ := strings.Cut(arg, "=")
		switch strings.ToLower(key) {
		case "stickysession":
			cookie := &mapping{}
			cookie.set("cookie", text("balancer"))
			b.opts.set("sticky", cookie)
			b.notes = append(b.notes, a.ledger.note(d, "sends a client to the server that its cookie or parameter names", "here a cookie named balancer does so, which is set with the first answer"))
		case "loadfactor":
			if digits(v, "") == "" || len(v) > 3 {
				b.notes = append(b.notes, a.ledger.note(d, "takes a larger share", "weight: is a whole number from 1 to 1000 here"))
			}
		case "lbmethod":
			if v == "bybusyness" {
				b.opts.set("balance", word("least_conn"))
			} else if v != "byrequests" {
				b.notes = append(b.notes, a.ledger.note(d, "chooses servers by how busy they are", "balance: least_conn goes by the requests and tunnels that each has"))
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
