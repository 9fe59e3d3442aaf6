package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/route"
)

// endsHere are the fields that end at a proxy (RFC 9110, section 7.6.1), with those that this one
// answers itself, writes itself or never passes on: Expect, Content-Length, Proxy (httpoxy), h2c's settings.
var endsHere = head.SetOf(head.Connection, head.KeepAlive, head.ProxyConnection, head.TE, head.TransferEncoding, head.Upgrade,
	head.Expect, head.HTTP2Settings, head.Proxy, head.Host, head.ContentLength, head.Trailer)

// headOnly are the fields that no trailer section may bring: who asks, on what condition, and what the content is (RFC 9110, section 6.5.1).
var headOnly = head.SetOf(head.Authorization, head.Cookie, head.SetCookie, head.ContentEncoding, head.ContentType, head.ContentRange, head.Range,
	head.IfMatch, head.IfModifiedSince, head.IfNoneMatch, head.IfRange, head.IfUnmodifiedSince)

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

// rewriteRequest makes the head that the target of a location is sent, with its fields behind those in dst. It is pure: in is not modified. Of a request
// for a WebSocket the protocol says so.
func rewriteRequest(dst head.Fields, in *inbound, l *location, target *config.Target, protocol string) head.Request {
	r := in.request
	out := head.Request{
		Method: r.Method, Target: rewriteTarget(in, l.Match, target), Host: r.Host, Protocol: protocol, Length: r.Length,
		Major: 1, Minor: 1,
	}
	if l.BackendHost {
		out.Host = target.Host
	}
	out.Fields = appendForwarding(appendOwn(dst, in, l.Forwarded, protocol), in, l.Forwarded)
	out.Fields = append(out.Fields, in.granted...)
	applyRequestRules(&out, in, l.Headers.Request)
	return out
}

// appendOwn adds the fields of the client's own that go on.
func appendOwn(dst head.Fields, in *inbound, forwarded bool, protocol string) head.Fields {
	fields := in.request.Fields
	listed := listedIn(fields)
	for i := range fields {
		f := &fields[i]
		if in.whyDropped(f, listed, forwarded, protocol) == "" {
			dst = append(dst, *f)
		}
	}
	return dst
}

// whyDropped says why a field of the client's own does not go on; it is empty for one that does.
func (in *inbound) whyDropped(f *head.Field, listed connectionNames, forwarded bool, protocol string) string {
	switch {
	case endsHere.Has(f.ID):
		return "ends at each proxy (RFC 9110, section 7.6.1), or is written anew"
	case isPrivate(f):
		return "for backends and this front end alone"
	case replaced.Has(f.ID), f.ID == head.Forwarded && forwarded:
		return "written anew, with what is known here"
	case f.ID == head.Other && !head.IsPlain(f.Name):
		return "its name is not of letters, digits and hyphens only: CGI takes it for another one"
	case !in.trusted && isClaim(f):
		return "says who asks and how, and comes from none of trusted_proxies"
	case listed.has(f) && !isOwn(f) && !(protocol != "" && handshakeFields.Has(f.ID)):
		return "listed in Connection"
	case in.grantable(f.Name):
		return "for the server of auth_request to set"
	}
	return ""
}

// grantable reports a field that is for the server of auth_request to set.
func (in *inbound) grantable(name string) bool {
	return slices.ContainsFunc(in.grants, func(granted string) bool { return strings.EqualFold(granted, name) })
}

// connectionNames are the names that Connection lists, in lower case (RFC 9110, section 7.6.1); nil for none but those that say what becomes of the
// connection.
type connectionNames map[string]bool

func listedIn(fields head.Fields) (listed connectionNames) {
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

// rewriteTrailers returns the fields of a trailer section that go on: none that would have meant something in the
// head (RFC 9110, section 6.5.1), and none that the message's Connection lists.
func rewriteTrailers(trailers, fields head.Fields) (out head.Fields) {
	listed := listedIn(fields)
	for i := range trailers {
		f := &trailers[i]
		if !endsHere.Has(f.ID) && !headOnly.Has(f.ID) && !isOwn(f) && !listed.has(f) && head.IsPlain(f.Name) && !isPrivate(f) {
			out = append(out, *f)
		}
	}
	return out
}

// announce adds a Trailer field with the names that a message announces, as far as they go on.
func announce(dst, fields head.Fields) head.Fields {
	if !fields.Has(head.Trailer) {
		return dst
	}
	var trailers head.Fields
	for name := range strings.SplitSeq(fields.Joined(head.Trailer), ",") {
		if name = head.Trim(name); head.IsToken(name) {
			trailers = append(trailers, head.Field{Name: name, ID: head.IDOf(name)})
		}
	}
	var names []string
	for _, f := range rewriteTrailers(trailers, fields) {
		names = append(names, f.Name)
	}
	if len(names) > 0 {
		dst.Add(head.Trailer, strings.Join(names, ", "))
	}
	return dst
}

// rewriteTarget maps the request target. Without a path in the location's target it goes on as it came;
// with one, that replaces the matched prefix, joined with exactly one slash, and what follows goes on as it came.
func rewriteTarget(in *inbound, match config.Match, target *config.Target) string {
	raw, query := route.Split(in.target)
	if !target.PathTemplate.Empty() {
		url := expandURL(target.PathTemplate, in.value)
		if bringsQuery(target.PathTemplate) {
			return url
		}
		return withQuery(url, query)
	}
	if target.Path == "" {
		if len(raw)+len(query) == len(in.target) {
			return in.target
		}
		return raw + query
	}
	if match.Kind == config.MatchExact {
		return target.Path + query
	}
	prefix := strings.TrimSuffix(match.Path, "/")
	rest, ok := route.CutPrefix(raw, prefix)
	if !ok {
		rest = route.Escape(strings.TrimPrefix(in.path, prefix))
	}
	if rest == "" {
		return target.Path + query
	}
	return strings.TrimSuffix(target.Path, "/") + rest + query
}

// withQuery adds the query of a request to a URL that was made for it: behind its own, or none if that ends in a bare question mark, as nginx does.
func withQuery(url, query string) string {
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

// appendForwarding tells the backend who asked and how. What an untrusted peer says of itself is
// replaced; what a trusted proxy says is kept and added to.
func appendForwarding(dst head.Fields, in *inbound, forwarded bool) head.Fields {
	fields := in.request.Fields
	peer := in.peer.String()
	client, chain, port := peer, peer, in.port
	if in.trusted {
		if prior := fields.Joined(head.XForwardedFor); prior != "" {
			chain = prior + ", " + chain
		}
		port = firstOf(fields, head.XForwardedPort, port)
		client = in.client.String()
	}
	loop := in.loopID
	if prior := fields.Joined(head.CDNLoop); prior != "" {
		loop = prior + ", " + loop
	}
	dst.Add(head.CDNLoop, loop)
	dst.Add(head.XForwardedFor, chain)
	dst.Add(head.XForwardedHost, in.publicHost())
	dst.Add(head.XForwardedPort, port)
	dst.Add(head.XForwardedProto, in.publicScheme())
	dst.Add(head.XRealIP, client)
	if in.subject != "" {
		dst.Add(head.XClientSubject, in.subject)
	}
	if forwarded {
		element := forwardedElement(in.peer, in.request.Host, in.secure)
		if prior := fields.Joined(head.Forwarded); in.trusted && prior != "" {
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

// responseEndsHere are the fields of a response that end at a proxy. Upgrade is among them: a backend's offer of
// h2c is not for the client.
var responseEndsHere = head.SetOf(head.Connection, head.KeepAlive, head.ProxyConnection, head.TE, head.TransferEncoding, head.Upgrade, head.Trailer)

// neverListed are the fields of a response that its Connection cannot remove.
var neverListed = head.SetOf(head.ContentLength, head.SecWebSocketAccept, head.SecWebSocketExtensions, head.SecWebSocketProtocol, head.SecWebSocketVersion)

// dropHopByHop returns the fields of an informational response without those that end here.
func dropHopByHop(fields head.Fields) (out head.Fields) {
	listed := listedIn(fields)
	for i := range fields {
		if f := &fields[i]; !responseEndsHere.Has(f.ID) && !listed.has(f) && f.ID != head.ContentLength && !isPrivate(f) {
			out = append(out, *f)
		}
	}
	return out
}

// rewriteResponse changes the fields of a backend's response to what the client is answered, and returns them behind those in dst. A 426 keeps the
// protocol that it asks for.
func rewriteResponse(dst head.Fields, fields head.Fields, status int, in *inbound, l *location, target *config.Target) head.Fields {
	if status == 426 && fields.HasToken(head.Upgrade, "websocket") {
		dst.Add(head.Upgrade, "websocket")
	}
	var m *urlMapping
	known := false // whether there is one
	listed := listedIn(fields)
	for i := range fields {
		f := fields[i]
		switch {
		case responseEndsHere.Has(f.ID) || listed.has(&f) && !neverListed.Has(f.ID):
			continue
		case isPrivate(&f):
			continue
		case f.ID == head.ContentLength && (status < 200 || status == 204):
			continue // RFC 9110, section 8.6
		case f.ID == head.StrictTransportSecurity && l.site.HSTS > 0:
			continue // the operator has said it for the whole site, and twice is wrong (RFC 6797, section 7.1)
		case mayNameURL.Has(f.ID):
			if !known {
				m, known = newURLMapping(in, l, target), true
			}
			if m != nil {
				f.Value = m.field(&f, fields)
			}
		}
		dst = append(dst, f)
	}
	return dst
}
