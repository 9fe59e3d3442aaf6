package config

import (
	"encoding/base64"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// config reads the whole file. Upstreams and timeouts come first, since sites build on them;
// the errors are sorted afterwards.
func (d *decoder) config(root *yaml.Node) *Config {
	o, ok := d.object(root, inFile)
	if !ok {
		return nil
	}
	cfg := &Config{
		File:            d.files[0],
		TLS:             defaultTLS(),
		ShutdownTimeout: 30 * time.Second,
		Drain:           Drain{Code: 1001},
		Admin:           Admin{Group: -1},
		Timeouts:        defaultTimeouts(),
		Limits:          Limits{RelayMemory: defaultRelayMemory, BufferMemory: defaultBufferMemory, SpoolSpace: defaultSpoolSpace},
	}
	if n := o.get("timeouts"); n != nil {
		d.timeouts(n, inTimeouts, &cfg.Timeouts)
	}
	if n := o.get("limits"); n != nil {
		d.limits(n, &cfg.Limits)
	}
	if n := o.get("access_log"); n != nil {
		d.accessLog(n, &cfg.AccessLog)
	}
	above := inherited{timeouts: cfg.Timeouts, accessLog: cfg.AccessLog, slowClients: defaultSlowClients()}
	d.slowClients(o, &above.slowClients)
	d.relayMemory = cfg.Limits.RelayMemory
	d.operations(o, cfg)
	if n := o.get("tls"); n != nil {
		d.tls(n, &cfg.TLS)
	}
	if n := o.get("trusted_proxies"); n != nil {
		cfg.TrustedProxies = d.trustedProxies(n)
	}
	d.rules(o, &above.rules)
	d.served(o, cfg, above)
	return cfg
}

// served reads what is served, and where: listeners, upstreams and sites, those of included files too.
func (d *decoder) served(o object, cfg *Config, above inherited) {
	included := d.includeSites(o)
	if n := o.get("upstreams"); n != nil {
		included.upstreams = append(included.upstreams, n)
	}
	for _, n := range included.upstreams {
		cfg.Upstreams = append(cfg.Upstreams, d.upstreamMapping(n)...)
	}
	var w wiring
	if n := o.get("listen"); n != nil {
		cfg.Listen = d.listeners(n, &w)
	} else {
		d.add(o.pos, `no "listen"`, `at least one listener, such as listen: [{address: ":80"}]`)
		w.unsure = true
	}
	if n := o.get("metrics"); n != nil {
		cfg.Metrics, _ = d.listenAddress(n, cfg.Listen)
		d.metricsPos = posOf(deref(n))
	}
	if n := o.get("sites"); n != nil {
		included.sites = slices.Insert(included.sites, 0, n)
	}
	for _, n := range included.sites {
		cfg.Sites = append(cfg.Sites, d.sites(n, above, &w)...)
	}
	if len(included.sites) == 0 {
		d.add(o.pos, `no "sites"`, "at least one site with hosts and locations")
		w.unsure = true
	}
	if len(cfg.TrustedProxies) == 0 && o.get("trusted_proxies") == nil {
		for _, pos := range w.proxied {
			d.add(pos, "proxy_protocol on a listener, but there are no trusted_proxies", "trusted_proxies with the addresses of those whose header is believed")
		}
	}
	if n := o.get("admin"); n != nil {
		d.admin(n, cfg)
	}
	cfg.settleMode()
	d.checkWiring(w)
	d.checkLoops(cfg.Listen)
}

func defaultTLS() TLS {
	return TLS{
		Storage: "/var/lib/wstunnel/certs",
		ACME:    ACME{Directory: "https://acme-v02.api.letsencrypt.org/directory"},
	}
}

func defaultTimeouts() Timeouts {
	return Timeouts{
		RequestHead:  10 * time.Second,
		KeepAlive:    75 * time.Second,
		Connect:      5 * time.Second,
		ResponseHead: 60 * time.Second,
		ResponseBody: 60 * time.Second,
		Handshake:    10 * time.Second,
		TunnelIdle:   time.Hour,
	}
}

// timeouts reads the mapping n over the values that t has.
func (d *decoder) timeouts(n *yaml.Node, kind string, t *Timeouts) {
	o, ok := d.object(n, kind)
	if !ok {
		return
	}
	fields := map[string]*time.Duration{
		"request_head":  &t.RequestHead,
		"keepalive":     &t.KeepAlive,
		"connect":       &t.Connect,
		"response_head": &t.ResponseHead,
		"response_body": &t.ResponseBody,
		"handshake":     &t.Handshake,
		"tunnel_idle":   &t.TunnelIdle,
	}
	for _, key := range keysOf(kind) {
		if v := o.get(key); v != nil {
			d.duration(v, fields[key])
		}
	}
}

// Sizes of relayed messages. One of them may take maxMessageShare of relay_memory at most.
const (
	defaultRelayMemory = 256 << 20
	minRelayMemory     = 8 << 20
	defaultMaxMessage  = 1 << 20
	maxMessageShare    = 8
)

func (d *decoder) limits(n *yaml.Node, l *Limits) {
	o, ok := d.object(n, inLimits)
	if !ok {
		return
	}
	if v := o.get("max_connections"); v != nil {
		d.count(v, &l.MaxConnections)
	}
	if v := o.get("max_connections_per_client"); v != nil {
		d.count(v, &l.MaxConnectionsPerClient)
	}
	if v := o.get("buffer_memory"); v != nil {
		if d.size(v, &l.BufferMemory) && l.BufferMemory < minBufferMemory {
			d.add(posOf(deref(v)), "buffer_memory of "+sizeText(l.BufferMemory), sizeText(minBufferMemory)+" at least")
		}
	}
	if v := o.get("spool_space"); v != nil {
		d.size(v, &l.SpoolSpace)
	}
	if v := o.get("relay_memory"); v != nil {
		if d.size(v, &l.RelayMemory) && l.RelayMemory < minRelayMemory {
			d.add(posOf(deref(v)), "relay_memory of "+sizeText(l.RelayMemory), sizeText(minRelayMemory)+" at least")
		}
	}
}

func (d *decoder) tls(n *yaml.Node, t *TLS) {
	o, ok := d.object(n, inTLS)
	if !ok {
		return
	}
	if v := o.get("storage"); v != nil {
		if s, ok := d.fileName(v, "a directory"); ok {
			t.Storage = s.path
		}
	}
	if v := o.get("acme"); v != nil {
		d.acme(v, &t.ACME)
	}
}

func (d *decoder) acme(n *yaml.Node, a *ACME) {
	o, ok := d.object(n, inACME)
	if !ok {
		return
	}
	if v := o.get("email"); v != nil {
		if s, ok := d.scalar(v, "an email address"); ok {
			addr, err := mail.ParseAddress(s.text)
			if s.text != "" && (err != nil || addr.Address != s.text) {
				d.add(s.pos, "bad email address "+s.shown(), "a plain address such as admin@example.com")
			}
			a.Email = s.text
		}
	}
	if v := o.get("directory"); v != nil {
		const allowed = "the https URL of an ACME directory"
		if s, ok := d.scalar(v, allowed); ok {
			u, err := url.Parse(s.text)
			if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
				d.add(s.pos, "bad ACME directory "+s.shown(), allowed)
			}
			a.Directory = s.text
		}
	}
	if v := o.get("ca"); v != nil && !d.isEmptyText(v) {
		_, a.CA = d.rootCAs(v)
	}
	if v := o.get("eab"); v != nil {
		d.eab(v, &a.EAB)
	}
}

// eab reads an external account binding. No error text shows the key.
func (d *decoder) eab(n *yaml.Node, e *EAB) {
	o, ok := d.object(n, inEAB)
	if !ok {
		return
	}
	const kidAllowed, keyAllowed = "the key identifier that the authority gave you", "the HMAC key that the authority gave you, in base64url"
	if v := o.get("kid"); v == nil {
		d.add(o.pos, `no "kid"`, kidAllowed)
	} else if s, ok := d.scalar(v, kidAllowed); ok {
		if s.text == "" {
			d.add(s.pos, "an empty kid", kidAllowed)
		}
		e.KID = s.text
	}
	if v := o.get("hmac_key"); v == nil {
		d.add(o.pos, `no "hmac_key"`, keyAllowed)
	} else if s, ok := d.scalar(v, keyAllowed); ok {
		key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s.text, "="))
		if err != nil || len(key) == 0 {
			d.add(s.pos, "an hmac_key that is not base64url", keyAllowed)
		}
		e.HMACKey = string(key)
	}
}

// isEmptyText tells whether a value is an empty text, which is how a file is left unnamed.
func (d *decoder) isEmptyText(n *yaml.Node) bool {
	n = deref(n)
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return false
	}
	text, _, problems := expand(n.Value, d.lookupEnv)
	return text == "" && len(problems) == 0
}

func (d *decoder) trustedProxies(n *yaml.Node) []netip.Prefix {
	const allowed = "an address or a network, such as 192.0.2.1 or 10.0.0.0/8"
	var prefixes []netip.Prefix
	for _, item := range d.list(n, "a list of addresses and networks, such as [192.0.2.1, 10.0.0.0/8]") {
		if s, ok := d.scalar(item, allowed); ok {
			if p, ok := d.network(s, allowed); ok {
				prefixes = append(prefixes, p)
			}
		}
	}
	return prefixes
}

// network reads an address or a network.
func (d *decoder) network(s scalar, allowed string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s.text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(s.text)
	switch {
	case err != nil:
		d.add(s.pos, "bad network "+s.shown(), allowed)
	case p != p.Masked() && s.env:
		d.add(s.pos, "network "+s.shown()+" has bits set behind its length", allowed)
	case p != p.Masked():
		d.add(s.pos, "network "+s.shown()+" has bits set behind its length",
			"the network "+p.Masked().String()+" or the address "+p.Addr().String())
	default:
		return p, true
	}
	return p, false
}

func (d *decoder) listeners(n *yaml.Node, w *wiring) []Listener {
	const allowed = `a list of listeners, such as [{address: ":80"}, {address: ":443", tls: true}]`
	var listeners []Listener
	items := d.nonEmptyList(n, allowed)
	w.unsure = w.unsure || len(items) == 0
	for _, item := range items {
		o, ok := d.object(item, inListener)
		if !ok {
			w.unsure = true
			continue
		}
		l := Listener{Pos: o.pos}
		if v := o.get("tls"); v == nil {
			w.plainListener = true
		} else if !d.boolean(v, &l.TLS) {
			w.unsure = true
		} else if l.TLS {
			w.tlsListeners = append(w.tlsListeners, posOf(deref(v)))
		} else {
			w.plainListener = true
		}
		if v := o.get("proxy_protocol"); v != nil && d.boolean(v, &l.ProxyProtocol) && l.ProxyProtocol {
			w.proxied = append(w.proxied, o.keyPos("proxy_protocol"))
		}
		if v := o.get("address"); v == nil {
			d.add(o.pos, `no "address"`, `an address for each listener, such as address: ":443"`)
		} else if s, ok := d.listenAddress(v, listeners); ok {
			l.Address = s
			listeners = append(listeners, l)
		}
	}
	return listeners
}

// listenAddress reads a listener's address; earlier are the listeners it must not clash with.
func (d *decoder) listenAddress(n *yaml.Node, earlier []Listener) (string, bool) {
	const allowed = `host:port such as ":443", "192.0.2.1:443" or "[2001:db8::1]:443"`
	s, ok := d.scalar(n, allowed)
	if !ok {
		return "", false
	}
	host, port, err := net.SplitHostPort(s.text)
	if err != nil {
		d.add(s.pos, "bad address "+s.shown(), allowed)
		return "", false
	}
	if _, ok := parsePort(port); !ok {
		d.add(s.pos, "bad port in address "+s.shown(), "a port from 1 to 65535 (0 for any free one)")
		return "", false
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil && !isDNSName(host) {
		d.add(s.pos, "bad host in address "+s.shown(), allowed)
		return "", false
	}
	address := net.JoinHostPort(host, port)
	for _, l := range earlier {
		if port != "0" && listenClash(address, l.Address) {
			d.add(s.pos, "address "+s.shown()+" is taken by the listener on "+d.lineText(l.Line),
				"each address and port once; a listener without a host takes all addresses")
			return "", false
		}
	}
	return address, true
}

// listenClash tells whether two listen addresses cannot be open at the same time.
func listenClash(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB {
		return false
	}
	if hostA == "" || hostB == "" || hostA == hostB {
		return true
	}
	ipA, errA := netip.ParseAddr(hostA)
	ipB, errB := netip.ParseAddr(hostB)
	if errA != nil || errB != nil {
		return false
	}
	return ipA == ipB || ipA.Is4() == ipB.Is4() && (ipA.IsUnspecified() || ipB.IsUnspecified())
}

// parsePort reads a decimal port number, 0 included, without signs and leading zeros.
func parsePort(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
