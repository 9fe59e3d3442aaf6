package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"wstunnel/internal/access"
	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/logs"
	"wstunnel/internal/upstream"
	"wstunnel/internal/ws"
)

// Question is a request that [Explain] is asked about.
type Question struct {
	// URL is what is asked for. ws:// and wss:// ask for a WebSocket.
	URL string
	// Method is GET where it is empty.
	Method string
	// Fields are the request's own; a Host takes the place of the URL's.
	Fields head.Fields
	// From is who connects.
	From netip.Addr
}

// Explanation is what a server would do with a request.
type Explanation struct {
	Request string      `json:"request"`         // the request line's method, and the URL
	Sites   []Candidate `json:"sites,omitempty"` // in the order of the configuration
	// Looks are for a location: one, and another one behind each rewrite and each try_files.
	Looks []Look `json:"looks,omitempty"`
	// Checks are made before anything is done.
	Checks   []string `json:"checks,omitempty"`
	Decision string   `json:"decision"`
	Status   int      `json:"status,omitempty"` // that is answered without asking a backend
	// Servers are those of the upstream that is asked, and Choice says how one of them is chosen.
	Servers []Line   `json:"servers,omitempty"`
	Choice  []string `json:"choice,omitempty"`
	// Head is what the backend is sent, and Dropped what it is not sent of the client's.
	Head    []Line `json:"head,omitempty"`
	Dropped []Line `json:"dropped,omitempty"`
	// Answer is what is done to the answer, whoever gives it.
	Answer []string `json:"answer,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Candidate is a site or a location, or a file, that could have been the one.
type Candidate struct {
	Name    string `json:"name"`
	Place   string `json:"place,omitempty"` // in the configuration
	Matches bool   `json:"matches"`         // by its names, or its path
	Chosen  bool   `json:"chosen"`
	Reason  string `json:"reason"`
}

// Look is one search for a location, or for a file in one.
type Look struct {
	Path       string      `json:"path"`             // normalised
	Reason     string      `json:"reason,omitempty"` // why this path, where it is not the one that was asked for
	File       bool        `json:"file,omitempty"`   // it is for a file
	Candidates []Candidate `json:"candidates"`
}

// Line is a line of a head.
type Line struct {
	Text   string `json:"text"`
	Reason string `json:"reason"`
}

// Explain tells what a server with a configuration would do with a request. It is the server's own code that decides. Nothing is asked of backends, and nobody's
// password is checked; of files it is looked which there are. An error is a question that is no request.
func Explain(cfg *config.Config, q Question) (*Explanation, error) {
	r, u, err := q.request()
	if err != nil {
		return nil, err
	}
	e := &Explanation{Request: r.Method + " " + u.String()}
	secure := u.Scheme == "https" || u.Scheme == "wss"
	g := &generation{cfg: cfg, table: newTable(cfg, nowhere{}), certs: settled{}, tlsPort: firstTLSPort(cfg)}
	from := q.from(u, secure)
	x := &exchange{gen: g, from: from, in: g.inbound(r, &from, "wstunnel-ID")}
	x.trace = &trace{cfg: cfg}
	e.noteListener(cfg, u.Port(), secure)
	d := x.decide()
	e.Sites = explainSites(cfg, x)
	e.check(x)
	first := x.location
	d, script := x.decideOnDisk(d)
	if x.location != first {
		e.check(x)
	}
	e.Looks = x.trace.looks
	e.conclude(x, d, script)
	return e, nil
}

// request makes the request as it comes off the wire, and takes it apart as the server does.
func (q *Question) request() (*head.Request, *url.URL, error) {
	u, err := url.Parse(q.URL)
	if parsing, ok := errors.AsType[*url.Error](err); ok {
		return nil, nil, fmt.Errorf("%q is no URL: %w", q.URL, parsing.Err)
	}
	switch {
	case u.Scheme == "" || u.Host == "":
		return nil, nil, fmt.Errorf("%q is no URL: write https://%s", q.URL, strings.TrimPrefix(q.URL, "//"))
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ws" && u.Scheme != "wss":
		return nil, nil, fmt.Errorf("%q begins with %s://, where ws, wss, http or https is allowed", q.URL, u.Scheme)
	}
	request := head.Request{Method: q.Method, Target: u.RequestURI(), Host: u.Host}
	if request.Method == "" {
		request.Method = http.MethodGet
	}
	if u.Scheme == "ws" || u.Scheme == "wss" {
		request.Protocol = "websocket"
		request.Fields.Add(head.SecWebSocketKey, "dGhlIHNhbXBsZSBub25jZQ==") // of RFC 6455, section 1.3
		request.Fields.Add(head.SecWebSocketVersion, ws.Version)
	}
	for _, f := range q.Fields {
		if f.ID == head.Host {
			request.Host = f.Value
		} else {
			request.Fields = append(request.Fields, f)
		}
	}
	u.Fragment, u.User = "", nil
	var decoder http1.RequestDecoder
	_, event, err := decoder.Next(http1.AppendRequest(nil, &request))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("no site is asked for: %w", err)
	case event != http1.Head:
		return nil, nil, errors.New("the request has no end")
	}
	return decoder.Request, u, nil
}

// from is the connection that the request comes on.
func (q *Question) from(u *url.URL, secure bool) clientInfo {
	port := uint16(80)
	if secure {
		port = 443
	}
	if parsed, err := netip.ParseAddrPort("0.0.0.0:" + u.Port()); err == nil {
		port = parsed.Port()
	}
	from := clientInfo{remote: netip.AddrPortFrom(q.From, 1024), public: netip.AddrPortFrom(netip.IPv4Unspecified(), port), secure: secure}
	if secure {
		from.handshake = &handshakeInfo{serverName: u.Hostname(), version: tls.VersionTLS13}
	}
	return from
}

// nowhere gives a table what it refers to without any connection, log or file behind it.
type nowhere struct{}

func (nowhere) upstream(t *config.Target) *upstream.Upstream { return &upstream.Upstream{Target: t} }
func (nowhere) accessLog(config.AccessLog) *logs.Log         { return nil }
func (nowhere) counts(site string) *siteCounts               { return &siteCounts{name: site} }
func (nowhere) users(file string) *access.Users              { return access.OpenUsers(file, time.Now) }

// settled are certificates that are all there, on connections that were made for the host that is asked for.
type settled struct{}

func (settled) Config() *tls.Config                  { return nil }
func (settled) CACertificate() []byte                { return nil }
func (settled) Challenge(string, string) []byte      { return nil }
func (settled) Misdirected(_, authority string) bool { return false }
func (settled) Pending(string) bool                  { return false }

// firstTLSPort is where redirect_https leads.
func firstTLSPort(cfg *config.Config) string {
	for _, l := range cfg.Listen {
		if _, port, err := net.SplitHostPort(l.Address); err == nil && l.TLS {
			return port
		}
	}
	return ""
}

// noteListener notes a request that no listener takes.
func (e *Explanation) noteListener(cfg *config.Config, port string, secure bool) {
	kind := "without TLS"
	if secure {
		kind = "with TLS"
	}
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[secure]
	}
	for _, l := range cfg.Listen {
		_, own, err := net.SplitHostPort(l.Address)
		if number, lookup := net.LookupPort("tcp", own); err == nil && lookup == nil && fmt.Sprint(number) == port && l.TLS == secure {
			return
		}
	}
	e.Notes = append(e.Notes, "no listener is on port "+port+" "+kind+": this is what one would do")
}

// check tells what is checked at the location before anything is done.
func (e *Explanation) check(x *exchange) {
	if x.location == nil || !x.location.guarded {
		return
	}
	a := &x.location.Access
	if len(a.Allow)+len(a.Deny) > 0 {
		said := "is let in"
		if _, inside := x.location.judgeAddress(x.in.Client); !inside {
			said = "is refused"
		}
		e.Checks = append(e.Checks, "allow, deny: "+x.in.Client.String()+" "+said)
	}
	if a.BasicAuth != nil {
		said := "the request brings none, and is answered 401"
		if name, _, ok := credentials(x.in.Request.Fields); ok {
			said = "those of " + name + " are checked"
		}
		e.Checks = append(e.Checks, "basic_auth: a name and a password of "+a.BasicAuth.Users+" are wanted; "+said)
	}
	if a.AuthRequest != nil {
		e.Checks = append(e.Checks, "auth_request: "+a.AuthRequest.Target.URL+" is asked; any 2xx lets the request in")
	}
	if a.Any && len(e.Checks) > 1 {
		e.Checks = append(e.Checks, "satisfy: any, so that one of these is enough")
	}
}
