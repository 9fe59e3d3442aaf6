package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Balance is how the server of a request is chosen.
type Balance int

// The ways of choosing.
const (
	// BalanceDefault is BalanceLeastConn where a location has a target for WebSockets, else BalanceRoundRobin.
	BalanceDefault    Balance = iota
	BalanceRoundRobin         // each in turn, by its weight
	BalanceLeastConn          // the one with the fewest requests and tunnels for its weight
	BalanceRandomTwo          // the less busy one of two that are drawn
	BalanceIPHash             // by the client's address; of IPv6 by its /64
	BalanceHash               // by something in the request
)

// balanceWords are the ways that one word says, in the order of the constants.
var balanceWords = []string{"round_robin", "least_conn", "random_two", "ip_hash"}

func (b Balance) String() string {
	switch b {
	case BalanceDefault:
		return "default"
	case BalanceHash:
		return "hash"
	}
	return balanceWords[b-BalanceRoundRobin]
}

// HashSource is what in a request is hashed.
type HashSource int

// The sources of hashes.
const (
	HashHeader HashSource = iota
	HashCookie
	HashQuery
	HashPath // normalised, without the query
)

var hashWords = []string{"header", "cookie", "query", "path"}

// HashKey is what in a request [BalanceHash] goes by. A request that lacks it goes to the next server in turn.
type HashKey struct {
	Source HashSource
	Name   string // empty with HashPath
}

func (k HashKey) String() string {
	return strings.TrimSpace(hashWords[k.Source] + " " + k.Name)
}

// SameSite is the attribute of a cookie by that name.
type SameSite string

// The values of SameSite.
const (
	SameSiteLax    SameSite = "Lax"
	SameSiteStrict SameSite = "Strict"
	SameSiteNone   SameSite = "None"
)

// Sticky keeps a client at the server that answered it first, by a cookie.
type Sticky struct {
	Pos
	// Cookie is the cookie's name.
	Cookie string
	// TTL is how long clients keep it; zero, the default: until their session ends.
	TTL time.Duration
	// Secure says whether clients send it over TLS only; nil, the default: where it was set over TLS.
	Secure *bool
	// SameSite is Lax by default.
	SameSite SameSite
	// Secret is what the servers' names in cookies are made with. Several machines that share clients need the same. Empty, the default: a random one that
	// TLS.Storage keeps.
	Secret string
}

// DefaultResolve is how long the addresses of a server's name count at most where the configuration says nothing.
const DefaultResolve = 30 * time.Second

// Balancing is how an upstream's servers share what comes.
type Balancing struct {
	Balance Balance
	// Hash is what BalanceHash goes by.
	Hash HashKey
	// Sticky is nil for none.
	Sticky *Sticky
	// Hold is how long a request waits for a server to come back where none can be connected with. Zero: it does not.
	Hold time.Duration
	// HandshakesPerSecond is how many handshakes of WebSockets each server is sent in a second; zero for no bound. Those beyond it wait in order.
	HandshakesPerSecond int
	// Resolve is how long the addresses of a server's name count at most; less where the DNS says so, but no less than a second. Default [DefaultResolve].
	Resolve time.Duration
}

// mostWeight is the highest weight of a server.
const mostWeight = 1000

// balancing reads how an upstream's servers share what comes.
func (d *decoder) balancing(o object, up *Upstream) {
	up.Resolve = DefaultResolve
	if n := o.get("balance"); n != nil {
		d.balance(n, &up.Balancing)
	}
	if n := o.get("sticky"); n != nil {
		up.Sticky = d.sticky(n)
	}
	if n := o.get("hold"); n != nil {
		d.duration(n, &up.Hold)
	}
	if n := o.get("handshakes_per_second"); n != nil {
		d.count(n, &up.HandshakesPerSecond)
	}
	if n := o.get("resolve"); n != nil {
		d.duration(n, &up.Resolve)
		if up.Resolve < time.Second {
			d.add(posOf(deref(n)), "resolve "+up.Resolve.String(), "a second at least: names are looked up no more often")
		}
	}
	if len(up.Servers) > 0 && !slices.ContainsFunc(up.Servers, func(s Server) bool { return !s.Backup }) {
		d.add(o.keyPos("servers"), "no server that is not a backup", "at least one server without backup: true")
	}
}

const balanceAllowed = "round_robin, least_conn, random_two, ip_hash, or {hash: header NAME | cookie NAME | query NAME | path}"

// balance reads how servers are chosen.
func (d *decoder) balance(n *yaml.Node, b *Balancing) {
	if deref(n).Kind == yaml.MappingNode {
		o, ok := d.object(n, inBalance)
		if !ok {
			return
		}
		if n = o.get("hash"); n == nil {
			d.add(o.pos, `no "hash"`, "hash: and header NAME, cookie NAME, query NAME or path")
			return
		}
		d.hashKey(n, b)
		return
	}
	s, ok := d.scalar(n, balanceAllowed)
	if !ok {
		return
	}
	i := slices.Index(balanceWords, s.text)
	if i < 0 {
		d.add(s.pos, "unknown balance "+s.shown(), balanceAllowed+misspelt(s.written, balanceWords...))
		return
	}
	b.Balance = BalanceRoundRobin + Balance(i)
}

// hashKey reads what servers are chosen by.
func (d *decoder) hashKey(n *yaml.Node, b *Balancing) {
	const allowed = "header NAME, cookie NAME, query NAME or path"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	word, name, named := strings.Cut(s.text, " ")
	name = strings.TrimSpace(name)
	source := slices.Index(hashWords, word)
	switch {
	case source < 0:
		d.add(s.pos, "unknown hash "+s.shown(), allowed+misspelt(word, hashWords...))
		return
	case HashSource(source) == HashPath && named:
		d.add(s.pos, "hash "+s.shown(), "path alone: it has no name")
	case HashSource(source) != HashPath && !isCookieName(name):
		d.add(s.pos, "hash "+s.shown()+" without a name", word+" and one name, such as "+word+" X-User")
	}
	b.Balance, b.Hash = BalanceHash, HashKey{Source: HashSource(source), Name: name}
}

// isCookieName reports a token (RFC 9110, section 5.6.2), which names of cookies and of fields are.
func isCookieName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r > 0x7f || !isWordByte(byte(r)) && !strings.ContainsRune("!#$%&'*+-.^`|~", r)
	})
}

// shortestSecret is how many bytes a secret has at least.
const shortestSecret = 16

// sticky reads the cookie that keeps clients at their server.
func (d *decoder) sticky(n *yaml.Node) *Sticky {
	o, ok := d.object(n, inSticky)
	if !ok {
		return nil
	}
	s := &Sticky{Pos: o.pos, SameSite: SameSiteLax}
	if n := o.get("cookie"); n == nil {
		d.add(o.pos, `no "cookie"`, "cookie: and a name, such as cookie: server")
	} else if name, ok := d.scalar(n, "a cookie's name"); ok {
		if s.Cookie = name.text; !isCookieName(name.text) {
			d.add(name.pos, "bad cookie name "+name.shown(), "letters, digits, hyphens and underscores")
		}
	}
	if n := o.get("ttl"); n != nil {
		d.duration(n, &s.TTL)
	}
	if n := o.get("secure"); n != nil {
		var secure bool
		if d.boolean(n, &secure) {
			s.Secure = &secure
		}
	}
	if n := o.get("same_site"); n != nil {
		d.sameSite(n, &s.SameSite)
	}
	if s.SameSite == SameSiteNone && s.Secure != nil && !*s.Secure {
		d.add(o.keyPos("same_site"), "same_site: none with secure: false", "secure: true beside it: browsers refuse such a cookie without")
	}
	if n := o.get("secret"); n != nil {
		if secret, ok := d.scalar(n, "a random text"); ok {
			if s.Secret = secret.text; len(s.Secret) < shortestSecret {
				d.add(secret.pos, "a secret of "+strconv.Itoa(len(s.Secret))+" bytes", "a random text of at least "+strconv.Itoa(shortestSecret)+" bytes, such as openssl rand -hex 32 prints")
			}
		}
	}
	return s
}

func (d *decoder) sameSite(n *yaml.Node, v *SameSite) {
	const allowed = "lax, strict or none"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	for _, one := range []SameSite{SameSiteLax, SameSiteStrict, SameSiteNone} {
		if strings.EqualFold(s.text, string(one)) {
			*v = one
			return
		}
	}
	d.add(s.pos, "unknown same_site "+s.shown(), allowed+misspelt(s.written, "lax", "strict", "none"))
}

// server reads one server of an upstream: a text, or a mapping with one. The scalar is its address.
func (d *decoder) server(n *yaml.Node) (server Server, address scalar, ok bool) {
	const allowed = "host:port or unix:/path, such as 127.0.0.1:9000, or {address: one, weight: 2}"
	var o object
	if deref(n).Kind == yaml.MappingNode {
		if o, ok = d.object(n, inServer); !ok {
			return server, address, false
		}
		if n = o.get("address"); n == nil {
			d.add(o.pos, `no "address"`, "address: and host:port or unix:/path")
			return server, address, false
		}
	}
	if address, ok = d.scalar(n, allowed); !ok {
		return server, address, false
	}
	server, p := parseServer(address)
	if p != nil {
		d.addProblem(address.pos, *p)
		return server, address, false
	}
	d.serverOptions(o, &server)
	return server, address, true
}

// serverOptions reads what a server's mapping has beside the address.
func (d *decoder) serverOptions(o object, s *Server) {
	s.Weight = 1
	if n := o.get("weight"); n != nil {
		if d.count(n, &s.Weight); s.Weight > mostWeight {
			d.add(posOf(deref(n)), "weight "+strconv.Itoa(s.Weight), "a weight from 1 to "+strconv.Itoa(mostWeight))
		}
	}
	if n := o.get("max_connections"); n != nil {
		d.count(n, &s.MaxConnections)
	}
	if n := o.get("backup"); n != nil {
		d.boolean(n, &s.Backup)
	}
	if n := o.get("down"); n != nil {
		d.boolean(n, &s.Down)
	}
}

// preferFewTunnels has the targets of a location with WebSockets balanced by what is open, unless something else is said: tunnels last, and turns would tell
// nothing of how many a server has.
func preferFewTunnels(loc *Location) {
	if loc.WebSocket == nil {
		return
	}
	targets := []*Target{loc.WebSocket, loc.HTTP}
	if loc.PHP != nil {
		targets = append(targets, loc.PHP.Target)
	}
	for _, t := range targets {
		if t != nil && t.Upstream != "" && t.Balance == BalanceDefault {
			t.Balance = BalanceLeastConn
		}
	}
}
