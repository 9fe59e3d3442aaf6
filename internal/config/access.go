package config

import (
	"net/netip"
	"net/url"
	"strings"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/access"
	"wstunnel/internal/head"
	"wstunnel/internal/template"
)

// Access says who may ask.
type Access struct {
	// Allow and Deny are networks. The longest that holds a client decides, and Deny between equal ones; where none does, it is let in if Allow is empty.
	Allow, Deny []netip.Prefix
	// BasicAuth asks for a name and a password; nil for none.
	BasicAuth *BasicAuth
	// AuthRequest asks another server; nil for none.
	AuthRequest *AuthRequest
	// Any says that one of the three is enough; otherwise all that are set have to let a request in.
	Any bool
	// Origins are those that handshakes may come from; nil for all.
	Origins *Origins
	// MaxBody is the size of the longest body of a request, in bytes; zero for no bound.
	MaxBody int64
}

// BasicAuth is the Basic scheme (RFC 7617).
type BasicAuth struct {
	Pos
	Realm string
	// Users is a file as htpasswd writes it: bcrypt, SHA-crypt or apr1.
	Users string
}

// AuthRequest asks a server, with the head of the request, whether it may go on: any 2xx lets it.
type AuthRequest struct {
	// Target has a path, which is what is asked for.
	Target *Target
	// CopyHeaders are the fields of the server's answer that the backend is sent, instead of those that the client may have sent.
	CopyHeaders []string
	// On401 is where a client is sent instead of being answered 401; empty for nowhere.
	On401 template.Template
}

// Origins are the origins (RFC 6454) that a handshake may come from.
type Origins struct {
	// Exact are origins with their ports, default ones too. With a wildcard the host begins with "*.", which stands for one label or more.
	Exact []string
	// Self lets in the origin whose host and port are the request's own.
	Self bool
	// Absent lets in requests without an Origin, which browsers always send.
	Absent bool
}

// access reads the keys that say who may ask.
func (d *decoder) access(o object, a *Access) {
	allow, deny := o.get("allow"), o.get("deny")
	if allow != nil || deny != nil {
		a.Allow, a.Deny = nil, nil
	}
	if allow != nil {
		a.Allow = d.networks(allow)
	}
	if deny != nil {
		a.Deny = d.networks(deny)
	}
	if n := o.get("basic_auth"); n != nil {
		a.BasicAuth = d.basicAuth(n)
	}
	if n := o.get("auth_request"); n != nil {
		a.AuthRequest = d.authRequest(n)
	}
	if n := o.get("satisfy"); n != nil {
		a.Any = d.word(n, "all", "any") == 1
	}
	if n := o.get("allowed_origins"); n != nil {
		a.Origins = d.origins(n)
	}
	if n := o.get("max_body"); n != nil {
		d.sizeOrOff(n, &a.MaxBody, maxSpool)
	}
}

// isOff reports whether a value is the word off.
func isOff(n *yaml.Node) bool {
	n = deref(n)
	return n.Kind == yaml.ScalarNode && n.Value == "off"
}

func (d *decoder) basicAuth(n *yaml.Node) *BasicAuth {
	if isOff(n) {
		return nil
	}
	o, ok := d.object(n, inBasicAuth)
	if !ok {
		return nil
	}
	b := &BasicAuth{Pos: o.pos, Realm: "restricted"}
	if v := o.get("realm"); v != nil {
		if s, ok := d.scalar(v, "a text that browsers show"); ok {
			if !isText(s.text) || strings.ContainsAny(s.text, `"\`) {
				d.add(s.pos, "bad realm "+s.shown(), "a text of one line, without quotes and backslashes")
			}
			b.Realm = s.text
		}
	}
	v := o.get("users")
	if v == nil {
		d.add(o.pos, `no "users"`, "users: FILE, which htpasswd -B makes")
		return nil
	}
	const allowed = "a file of users as htpasswd writes it"
	f, ok := d.fileName(v, allowed)
	if !ok {
		return nil
	}
	if data, err := readSmallFile(f.path); err != nil {
		d.addNoFile(f.pos, "cannot read file "+f.shown()+": "+cause(err), allowed)
	} else if err := access.CheckUsers(data); err != nil {
		d.add(f.pos, "bad file "+f.shown()+": "+err.Error(), allowed)
	}
	if writableByOthers(f.path) {
		d.add(f.pos, "every user of this machine may write the file "+f.shown(), "a file that only its owner writes: chmod o-w")
	}
	b.Users = f.path
	return b
}

func (d *decoder) authRequest(n *yaml.Node) *AuthRequest {
	if isOff(n) {
		return nil
	}
	a := &AuthRequest{}
	var o object
	if deref(n).Kind == yaml.MappingNode {
		var ok bool
		if o, ok = d.object(n, inAuthRequest); !ok {
			return nil
		}
		if n = o.get("url"); n == nil {
			d.add(o.pos, `no "url"`, "url: and what is asked for leave, such as http://127.0.0.1:9091/api/verify")
			return nil
		}
	}
	check := tlsCheck{verify: true}
	d.overrideTLSCheck(o, &check)
	if a.Target = d.target(n, check, "http", "https"); a.Target == nil {
		return nil
	}
	if v := o.get("copy_headers"); v != nil {
		for _, s := range d.scalars(v, "a list of header names, such as [Remote-User, Remote-Groups]") {
			if d.headerName(s) {
				a.CopyHeaders = append(a.CopyHeaders, s.text)
			}
		}
	}
	if v := o.get("on_401"); v != nil {
		if t, ok := d.template(v, scope{}, "a URL or a path"); ok {
			d.checkURL(v, t)
			a.On401 = t
		}
	}
	return a
}

func (d *decoder) origins(n *yaml.Node) *Origins {
	if isOff(n) {
		return nil
	}
	origins := &Origins{}
	for _, s := range d.scalars(n, "a list of origins such as https://example.com, or off") {
		switch s.text {
		case "self":
			origins.Self = true
		case "absent":
			origins.Absent = true
		default:
			origin, p := parseOrigin(s)
			if p != nil {
				d.addProblem(s.pos, *p)
				continue
			}
			origins.Exact = append(origins.Exact, origin)
		}
	}
	return origins
}

// parseOrigin reads an origin, with a wildcard or not, in its canonical form.
func parseOrigin(s scalar) (string, *problem) {
	const allowed = "an origin such as https://example.com or https://*.example.com:8443; self for the request's own host, absent for no Origin at all"
	u, err := url.Parse(s.text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", &problem{"bad origin " + s.shown(), allowed}
	}
	name, wildcard := strings.CutPrefix(u.Host, "*.")
	if strings.Contains(name, "*") || !head.IsToken(u.Scheme) {
		return "", &problem{"bad origin " + s.shown(), allowed}
	}
	origin := access.Origin(u.Scheme + "://" + name)
	if origin == "" {
		return "", &problem{"bad origin " + s.shown(), allowed}
	}
	if wildcard {
		origin = strings.Replace(origin, "://", "://*.", 1)
	}
	return origin, nil
}
