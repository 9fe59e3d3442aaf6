package http2

import (
	"net/http"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
)

// request makes a request of a header block (RFC 9113, section 8.3.1). One that is malformed is told by an *Error and ends its stream; one that is refused
// with a status, by a *head.Error.
func (b *block) request(endStream, extended bool) (r *head.Request, refused *head.Error, malformed *Error) {
	if b.large {
		return nil, tooLarge, nil
	}
	if b.bad == nil {
		b.checkPseudo(extended)
	}
	if b.bad != nil {
		return nil, nil, b.bad
	}
	r = &head.Request{
		Method: b.pseudo[pseudoMethod], Target: b.pseudo[pseudoPath], Scheme: b.pseudo[pseudoScheme], Host: b.pseudo[pseudoAuthority],
		Protocol: b.pseudo[pseudoProtocol], Major: 2, Fields: b.fields,
	}
	if r.Method == http.MethodConnect && r.Protocol == "" {
		r.Target = r.Host
	}
	if refused = checkHost(r, b.has[pseudoAuthority]); refused == nil {
		refused = frame(r, endStream)
	}
	return r, refused, nil
}

// checkPseudo finds what makes a request malformed.
func (b *block) checkPseudo(extended bool) {
	method, path := b.pseudo[pseudoMethod], b.pseudo[pseudoPath]
	connect := method == http.MethodConnect
	switch {
	case !head.IsToken(method):
		b.malformed("method %s is no token", head.Quoted(method))
	case b.has[pseudoProtocol] && (!connect || !extended || !head.IsToken(b.pseudo[pseudoProtocol])):
		b.malformed(":protocol %s", head.Quoted(b.pseudo[pseudoProtocol]))
	case connect && !b.has[pseudoProtocol]:
		if b.has[pseudoScheme] || b.has[pseudoPath] || !b.has[pseudoAuthority] {
			b.malformed("CONNECT with a scheme or a path, or without an authority")
		}
	case b.pseudo[pseudoScheme] != "http" && b.pseudo[pseudoScheme] != "https":
		b.malformed("scheme %s is neither http nor https", head.Quoted(b.pseudo[pseudoScheme]))
	case path == "*" && method == http.MethodOptions:
	case !strings.HasPrefix(path, "/"):
		b.malformed(":path %s does not begin with a slash", head.Quoted(path))
	default:
		for i := range len(path) {
			if c := path[i]; c <= ' ' || c == 0x7F || c == '#' {
				b.malformed("byte 0x%02x in :path", c)
				return
			}
		}
	}
}

// checkHost finds the authority that a request is for.
func checkHost(r *head.Request, hasAuthority bool) *head.Error {
	hosts := r.Fields.Count(head.Host)
	named := r.Fields.Get(head.Host)
	switch {
	case hosts > 1:
		return head.Bad("%d Host fields", hosts)
	case hosts == 1 && hasAuthority && !sameAuthority(r, named):
		return head.Bad("Host %s contradicts :authority %s", head.Quoted(named), head.Quoted(r.Host))
	case hosts == 1 && !hasAuthority:
		r.Host = named
	}
	if !host.Valid(r.Host) {
		return head.Bad(":authority %s is no host name or address", head.Quoted(r.Host))
	}
	return nil
}

func sameAuthority(r *head.Request, named string) bool {
	return named == r.Host || host.Valid(named) && host.Valid(r.Host) && host.Authority(r.Scheme, named) == host.Authority(r.Scheme, r.Host)
}

// frame finds out how long the body is.
func frame(r *head.Request, endStream bool) *head.Error {
	f := r.Fields
	r.Length = head.Unknown
	if endStream {
		r.Length = 0
	}
	switch n, known, err := f.BodyLength(); {
	case err != nil:
		return err
	case known && endStream && n > 0:
		return head.Bad("Content-Length %d of a request without a body", n)
	case known:
		r.Length = n
	}
	var err *head.Error
	r.Expect, err = f.ExpectsContinue()
	return err
}

// trailers returns the fields of a trailer section (RFC 9113, section 8.1).
func (b *block) trailers() (head.Fields, *Error) {
	switch {
	case b.bad != nil:
		return nil, b.bad
	case b.large:
		return nil, failure(EnhanceYourCalm, "trailers of too many fields or bytes")
	case b.has != [pseudoCount]bool{}:
		return nil, failure(ProtocolError, "pseudo-header fields in trailers")
	}
	return b.fields, nil
}
