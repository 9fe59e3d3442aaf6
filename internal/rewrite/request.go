package rewrite

import (
	"net/netip"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/route"
	"wstunnel/internal/tags"
)

// endsHere are the fields that end at a proxy (RFC 9110, section 7.6.1), with those that this one
// answers itself, writes itself or never passes on: Expect, Content-Length, Proxy (httpoxy), h2c's settings.
var endsHere = head.SetOf(head.Connection, head.KeepAlive, head.ProxyConnection, head.TE, head.TransferEncoding, head.Upgrade,
	head.Expect, head.HTTP2Settings, head.Proxy, head.Host, head.ContentLength, head.Trailer)

// claims are the fields by which proxies tell what a client asked for, with all others whose names begin with X-Forwarded-. They end here where an
// untrusted peer sends them: backends believe them.
var claims = head.SetOf(head.Forwarded, head.XForwardedFor, head.XForwardedHost, head.XForwardedPort, head.XForwardedProto, head.XOriginalURL,
	head.XRewriteURL)

// replaced are the fields that this front end sets to what it knows itself.
var replaced = head.SetOf(head.CDNLoop, head.XForwardedFor, head.XForwardedHost, head.XForwardedPort, head.XForwardedProto, head.XRealIP, head.XClientSubject)

// handshakeFields are what Connection cannot remove from a request for a WebSocket.
var handshakeFields = head.SetOf(head.SecWebSocketKey, head.SecWebSocketVersion)

const forwardedPrefix = "x-forwarded-"

func isClaim(f *head.Field) bool {
	return claims.Has(f.ID) || len(f.Name) > len(forwardedPrefix) && strings.EqualFold(f.Name[:len(forwardedPrefix)], forwardedPrefix)
}

// isOwn reports a field that says who asked and how. This front end sets it, or has it from a trusted proxy; Connection cannot remove it.
func isOwn(f *head.Field) bool { return replaced.Has(f.ID) || isClaim(f) }

// Request makes the head that the target of a location is sent, with its fields behind those in dst. It is pure: in is not modified. Of a request
// for a WebSocket the protocol says so.
func Request(dst head.Fields, in *Inbound, l *config.Location, target *config.Target, protocol string) head.Request {
	r := in.Request
	out := head.Request{
		Method: r.Method, Target: rewriteTarget(in, l.Match, target), Host: r.Host, Protocol: protocol, Length: r.Length,
		Major: 1, Minor: 1,
	}
	if l.BackendHost {
		out.Host = target.Host
	}
	out.Fields = AppendForwarding(AppendOwn(dst, in, l.Forwarded, protocol), in, l.Forwarded)
	out.Fields = append(out.Fields, in.Granted...)
	ApplyRequestRules(&out, in, l.Headers.Request)
	return out
}

// AppendOwn adds the fields of the client's own that go on.
func AppendOwn(dst head.Fields, in *Inbound, forwarded bool, protocol string) head.Fields {
	fields := in.Request.Fields
	listed := ListedIn(fields)
	for i := range fields {
		f := &fields[i]
		if in.WhyDropped(f, listed, forwarded, protocol) == "" {
			dst = append(dst, *f)
		}
	}
	return dst
}

// WhyDropped says why a field of the client's own does not go on; it is empty for one that does.
func (in *Inbound) WhyDropped(f *head.Field, listed connectionNames, forwarded bool, protocol string) string {
	switch {
	case endsHere.Has(f.ID):
		return "ends at each proxy (RFC 9110, section 7.6.1), or is written anew"
	case tags.IsPrivate(f):
		return "for backends and this front end alone"
	case replaced.Has(f.ID), f.ID == head.Forwarded && forwarded:
		return "written anew, with what is known here"
	case f.ID == head.Other && !head.IsPlain(f.Name):
		return "its name is not of letters, digits and hyphens only: CGI takes it for another one"
	case !in.Trusted && isClaim(f):
		return "says who asks and how, and comes from none of trusted_proxies"
	case listed.has(f) && !isOwn(f) && !(protocol != "" && handshakeFields.Has(f.ID)):
		return "listed in Connection"
	case in.Grantable(f.Name):
		return "for the server of auth_request to set"
	}
	return ""
}

// Grantable reports a field that is for the server of auth_request to set.
func (in *Inbound) Grantable(name string) bool {
	return slices.ContainsFunc(in.Grants, func(granted string) bool { return strings.EqualFold(granted, name) })
}

// connectionNames are the names that Connection lists, in lower case (RFC 9110, section 7.6.1); nil for none but those that say what becomes of the
// connection.
type connectionNames map[string]bool

func ListedIn(fields head.Fields) (listed connectionNames) {
	for i := range fields {
		if fields[i].ID != head.Connection {
			continue
		}
		for token := range strings.SplitSeq(fields[i].Value, ",") {
			name := strings.ToLower(head.Trim(token))
			switch name {
			case "", "close", "keep-alive", "upgrade":
				continue
			}
			if listed == nil {
				listed = connectionNames{}
			}
			listed[name] = true
		}
	}
	return listed
}

func (l connectionNames) has(f *head.Field) bool { return l != nil && l[strings.ToLower(f.Name)] }

// rewriteTarget maps the request target. Without a path in the location's target it goes on as it came;
// with one, that replaces the matched prefix, joined with exactly one slash, and what follows goes on as it came.
func rewriteTarget(in *Inbound, match config.Match, target *config.Target) string {
	raw, query := route.Split(in.Target)
	if !target.PathTemplate.Empty() {
		url := URL(target.PathTemplate, in.Value)
		if bringsQuery(target.PathTemplate) {
			return url
		}
		return WithQuery(url, query)
	}
	if target.Path == "" {
		if len(raw)+len(query) == len(in.Target) {
			return in.Target
		}
		return raw + query
	}
	if match.Kind == config.MatchExact {
		return target.Path + query
	}
	prefix := strings.TrimSuffix(match.Path, "/")
	rest, ok := route.CutPrefix(raw, prefix)
	if !ok {
		rest = route.Escape(strings.TrimPrefix(in.Path, prefix))
	}
	if rest == "" {
		return target.Path + query
	}
	return strings.TrimSuffix(target.Path, "/") + rest + query
}

// WithQuery adds the query of a request to a URL that was made for it: behind its own, or none if that ends in a bare question mark, as nginx does.
func WithQuery(url, query string) string {
	if bare, ok := strings.CutSuffix(url, "?"); ok {
		return bare
	}
	if query = strings.TrimPrefix(query, "?"); query == "" {
		return url
	}
	if strings.Contains(url, "?") {
		return url + "&" + query
	}
	return url + "?" + query
}

// AppendForwarding tells the backend who asked and how. What an untrusted peer says of itself is
// replaced; what a trusted proxy says is kept and added to.
func AppendForwarding(dst head.Fields, in *Inbound, forwarded bool) head.Fields {
	fields := in.Request.Fields
	peer := in.Peer.String()
	client, chain, port := peer, peer, in.Port
	if in.Trusted {
		if prior := fields.Joined(head.XForwardedFor); prior != "" {
			chain = prior + ", " + chain
		}
		port = firstOf(fields, head.XForwardedPort, port)
		client = in.Client.String()
	}
	loop := in.LoopID
	if prior := fields.Joined(head.CDNLoop); prior != "" {
		loop = prior + ", " + loop
	}
	dst.Add(head.CDNLoop, loop)
	dst.Add(head.XForwardedFor, chain)
	dst.Add(head.XForwardedHost, in.PublicHost())
	dst.Add(head.XForwardedPort, port)
	dst.Add(head.XForwardedProto, in.PublicScheme())
	dst.Add(head.XRealIP, client)
	if in.Subject != "" {
		dst.Add(head.XClientSubject, in.Subject)
	}
	if forwarded {
		element := forwardedElement(in.Peer, in.Request.Host, in.Secure)
		if prior := fields.Joined(head.Forwarded); in.Trusted && prior != "" {
			element = prior + ", " + element
		}
		dst.Add(head.Forwarded, element)
	}
	return dst
}

// forwardedElement is one element of a Forwarded header (RFC 7239, section 4).
func forwardedElement(peer netip.Addr, host string, secure bool) string {
	node := peer.String()
	if peer.Is6() {
		node = `"[` + node + `]"`
	}
	element := "for=" + node
	if host != "" {
		element += `;host="` + host + `"`
	}
	if secure {
		return element + ";proto=https"
	}
	return element + ";proto=http"
}
