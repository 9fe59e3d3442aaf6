package config

import (
	"crypto/tls"
	"net/url"
	"slices"
	"time"

	"gopkg.in/yaml.v3"
)

// tlsAllowed says what a site's tls may be.
const tlsAllowed = "auto, self-signed, off, {cert: FILE, key: FILE}, a list of such pairs, or {auto: on-demand, ask: URL}"

// siteTLS reads a site's tls, and tells whether its mode is known.
func (d *decoder) siteTLS(n *yaml.Node) (SiteTLS, bool) {
	t := SiteTLS{Pos: posOf(deref(n)), Mode: TLSFiles}
	switch deref(n).Kind {
	case yaml.MappingNode:
		return d.siteTLSMapping(n, t)
	case yaml.SequenceNode:
		for _, item := range d.nonEmptyList(n, tlsAllowed) {
			if o, ok := d.object(item, inCertPair); ok {
				d.addPair(o, &t)
			}
		}
		return t, true
	}
	s, ok := d.scalar(n, tlsAllowed)
	if !ok {
		return t, false
	}
	i := slices.Index([]string{"off", "auto", "self-signed"}, s.text)
	if i < 0 {
		d.add(t.Pos, "unknown value "+s.shown(), tlsAllowed+misspelt(s.written, "auto", "self-signed", "off"))
		return t, false
	}
	t.Mode = []TLSMode{TLSOff, TLSAuto, TLSSelfSigned}[i]
	return t, true
}

// siteTLSMapping reads {cert, key} or {auto: on-demand, ask}.
func (d *decoder) siteTLSMapping(n *yaml.Node, t SiteTLS) (SiteTLS, bool) {
	o, ok := d.object(n, inSiteTLS)
	if !ok {
		return t, true
	}
	auto, ask := o.get("auto"), o.get("ask")
	if auto == nil && ask == nil {
		d.addPair(o, &t)
		return t, true
	}
	t.Mode, t.OnDemand = TLSAuto, true
	for _, key := range []string{"cert", "key"} {
		if o.get(key) != nil {
			d.add(o.keyPos(key), quote(key)+" beside auto", tlsAllowed)
		}
	}
	if auto == nil {
		d.add(o.pos, `no "auto"`, "auto: on-demand beside ask")
	} else if s, ok := d.scalar(auto, "on-demand"); ok && s.text != "on-demand" {
		d.add(s.pos, "unknown value "+s.shown(), "on-demand; without it write tls: auto")
	}
	if ask == nil {
		d.add(o.pos, `no "ask"`, "ask: URL, which says whether a name is one of your customers'; without it anyone could have certificates ordered")
	} else {
		t.Ask = d.askURL(ask)
	}
	return t, true
}

func (d *decoder) askURL(n *yaml.Node) string {
	const allowed = "an http or https URL such as http://127.0.0.1:5555/check"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return ""
	}
	u, err := url.Parse(s.text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		d.add(s.pos, "bad URL "+s.shown(), allowed)
	}
	return s.text
}

// addPair reads a certificate and its key.
func (d *decoder) addPair(o object, t *SiteTLS) {
	if pair, ok := d.certPair(o, tlsAllowed); ok {
		t.Pairs = append(t.Pairs, pair)
	}
}

// siteSecurity reads what a site wants of TLS beside its certificate. Off says that the site is not served over TLS.
func (d *decoder) siteSecurity(o object, site *Site, off bool) {
	const needed = "tls: auto, self-signed or {cert, key} for the site"
	if n := o.get("redirect_https"); n != nil {
		d.redirectHTTPS(n, site)
		if site.RedirectHTTPS && off {
			d.add(posOf(deref(n)), "redirect_https on a site without tls", needed)
		}
	}
	for _, key := range []string{"hsts", "min_version", "client_ca"} {
		if n := o.get(key); n != nil && off {
			d.add(posOf(deref(n)), key+" on a site without tls", needed)
		}
	}
	if n := o.get("hsts"); n != nil {
		d.duration(n, &site.HSTS)
		if site.HSTS > 0 && site.HSTS < time.Second {
			d.add(posOf(deref(n)), "hsts of less than a second", "a second at least; browsers would forget at once")
		}
	}
	if n := o.get("min_version"); n != nil {
		const allowed = `"1.2" or "1.3"`
		if s, ok := d.scalar(n, allowed); ok {
			switch s.text {
			case "1.2":
				site.MinVersion = tls.VersionTLS12
			case "1.3":
				site.MinVersion = tls.VersionTLS13
			default:
				d.add(s.pos, "unknown TLS version "+s.shown(), allowed)
			}
		}
	}
	if n := o.get("client_ca"); n != nil {
		site.ClientCAs, site.ClientCA = d.rootCAs(n)
	}
}

func (d *decoder) redirectHTTPS(n *yaml.Node, site *Site) {
	const allowed = "true, false or when_ready"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	switch s.text {
	case "true", "false", "when_ready":
		site.RedirectHTTPS, site.RedirectWhenReady = s.text != "false", s.text == "when_ready"
	default:
		d.add(s.pos, s.shown(), allowed+misspelt(s.written, "true", "false", "when_ready"))
	}
}
