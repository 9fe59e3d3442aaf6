package rewrite

import (
	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/tags"
)

// responseEndsHere are the fields of a response that end at a proxy. Upgrade is among them: a backend's offer of
// h2c is not for the client.
var responseEndsHere = head.SetOf(head.Connection, head.KeepAlive, head.ProxyConnection, head.TE, head.TransferEncoding, head.Upgrade, head.Trailer)

// neverListed are the fields of a response that its Connection cannot remove.
var neverListed = head.SetOf(head.ContentLength, head.SecWebSocketAccept, head.SecWebSocketExtensions, head.SecWebSocketProtocol, head.SecWebSocketVersion)

// Informational returns the fields of an informational response without those that end here.
func Informational(fields head.Fields) (out head.Fields) {
	listed := ListedIn(fields)
	for i := range fields {
		if f := &fields[i]; !responseEndsHere.Has(f.ID) && !listed.has(f) && f.ID != head.ContentLength && !tags.IsPrivate(f) {
			out = append(out, *f)
		}
	}
	return out
}

// Response changes the fields of a backend's response to what the client is answered, and returns them behind those in dst. A 426 keeps the
// protocol that it asks for.
func Response(dst head.Fields, fields head.Fields, status int, in *Inbound, l *config.Location, target *config.Target, ownHSTS bool) head.Fields {
	if status == 426 && fields.HasToken(head.Upgrade, "websocket") {
		dst.Add(head.Upgrade, "websocket")
	}
	var m *urlMapping
	known := false // whether there is one
	listed := ListedIn(fields)
	for i := range fields {
		f := fields[i]
		switch {
		case responseEndsHere.Has(f.ID) || listed.has(&f) && !neverListed.Has(f.ID):
			continue
		case tags.IsPrivate(&f):
			continue
		case f.ID == head.ContentLength && (status < 200 || status == 204):
			continue // RFC 9110, section 8.6
		case f.ID == head.StrictTransportSecurity && ownHSTS:
			continue // the operator has said it for the whole site, and twice is wrong (RFC 6797, section 7.1)
		case mayNameURL.Has(f.ID):
			if !known {
				m, known = NewURLMapping(in, l, target), true
			}
			if m != nil {
				f.Value = m.field(&f, fields)
			}
		}
		dst = append(dst, f)
	}
	return dst
}
