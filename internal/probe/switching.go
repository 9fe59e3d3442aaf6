package probe

import (
	"fmt"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/ws"
)

// judgeSwitching checks a 101 as browsers do (RFC 6455, section 4.1; WHATWG WebSockets, section 3).
func (p *probe) judgeSwitching(s *Step, request, answer head.Fields) *failure {
	for _, judge := range []func(*Step, head.Fields, head.Fields) *failure{p.judgeUpgrade, p.judgeAccept, p.judgeSubprotocol, p.judgeExtensions} {
		if f := judge(s, request, answer); f != nil {
			return f
		}
	}
	if server, ok := answer.Lookup("Server"); ok {
		s.Details = append(s.Details, "Server: "+shortened(server))
	}
	return nil
}

// judgeUpgrade looks for the two fields that say that the protocol was switched.
func (p *probe) judgeUpgrade(_ *Step, _, answer head.Fields) *failure {
	for _, wanted := range []struct {
		id    head.ID
		token string
	}{{head.Upgrade, "websocket"}, {head.Connection, "Upgrade"}} {
		switch {
		case answer.HasToken(wanted.id, wanted.token):
		case !answer.Has(wanted.id):
			return fail(Broken, fmt.Sprintf("The 101 has no header %s: %s, so that browsers fail the connection.", wanted.id, wanted.token),
				"the server has to write it; a library for WebSockets does",
				"where the server does write it, a proxy on the way drops it: probe the backend itself, with --connect or its own URL")
		default:
			return fail(Broken, fmt.Sprintf("The 101 has %s: %s, where browsers want %s.", wanted.id, shortened(answer.Joined(wanted.id)), wanted.token),
				"the server has to write it; a library for WebSockets does")
		}
	}
	return nil
}

// judgeAccept checks that the 101 answers this very handshake.
func (p *probe) judgeAccept(s *Step, request, answer head.Fields) *failure {
	keys, got := request.Values(head.SecWebSocketKey), answer.Values(head.SecWebSocketAccept)
	advice := []string{
		"it is the base64 of the SHA-1 of the key with 258EAFA5-E914-47DA-95CA-C5AB0DC85B11 behind it (RFC 6455, section 4.2.2); a library for WebSockets does it right",
		"a cache on the way can answer with another client's 101: probe the backend itself, with --connect or its own URL",
	}
	switch {
	case len(keys) != 1:
		return fail(Broken, fmt.Sprintf("The request had %d keys, and the server opened all the same.", len(keys)), "leave Sec-WebSocket-Key to this probe")
	case len(got) == 0:
		return fail(Broken, "The 101 has no Sec-WebSocket-Accept, so that browsers fail the connection.", advice...)
	case len(got) > 1 || got[0] != ws.Accept(keys[0]):
		return fail(Broken, fmt.Sprintf("The Sec-WebSocket-Accept is wrong: %s, where the key asks for %s.", shortened(strings.Join(got, ", ")), ws.Accept(keys[0])), advice...)
	}
	s.Details = append(s.Details, "Sec-WebSocket-Accept fits the key")
	return nil
}

// judgeSubprotocol checks that the server chose one of those offered, if any was.
func (p *probe) judgeSubprotocol(s *Step, request, answer head.Fields) *failure {
	asked, got := request.Joined(head.SecWebSocketProtocol), answer.Values(head.SecWebSocketProtocol)
	switch {
	case len(got) == 0 && asked == "":
		return nil
	case len(got) == 0:
		return fail(Broken, "The server chose none of the subprotocols "+asked+", so that browsers fail the connection.",
			"let the server choose one, in the 101's Sec-WebSocket-Protocol", "or let the page ask for none: new WebSocket(url)")
	case len(got) > 1 || !request.HasToken(head.SecWebSocketProtocol, got[0]):
		return fail(Broken, "The server chose the subprotocol "+shortened(strings.Join(got, ", "))+", which was not asked for; browsers fail the connection.",
			"let the server answer with Sec-WebSocket-Protocol only where it was asked for one of its own", "--subprotocol "+shortened(got[0])+" asks for this one")
	}
	s.Details = append(s.Details, "subprotocol: "+shortened(got[0]))
	return nil
}

// judgeExtensions checks that the server agreed to nothing but what was offered.
func (p *probe) judgeExtensions(s *Step, request, answer head.Fields) *failure {
	got := answer.Joined(head.SecWebSocketExtensions)
	if got == "" {
		s.Details = append(s.Details, "extensions: none")
		return nil
	}
	p.extended = true
	for extension := range strings.SplitSeq(got, ",") {
		name, _, _ := strings.Cut(extension, ";")
		if name = head.Trim(name); !offers(request, name) {
			return fail(Broken, "The server agreed to the extension "+shortened(name)+", which was not offered; browsers fail the connection.",
				"let the server agree only to what Sec-WebSocket-Extensions of the request offers")
		}
	}
	s.Details = append(s.Details, "extensions: "+shortened(got))
	return nil
}

// offers reports whether a request offers an extension.
func offers(request head.Fields, name string) bool {
	for extension := range strings.SplitSeq(request.Joined(head.SecWebSocketExtensions), ",") {
		other, _, _ := strings.Cut(extension, ";")
		if strings.EqualFold(head.Trim(other), name) {
			return true
		}
	}
	return false
}
