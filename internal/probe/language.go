package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/upstream"
)

// otherLanguage fails for a server that speaks something else than HTTP.
func (p *probe) otherLanguage(language upstream.Language) *failure {
	switch language {
	case upstream.TLS:
		return fail(Broken, "The port "+p.port()+" speaks TLS, and was asked without.", "write "+p.Target.withScheme(true))
	case upstream.FastCGI:
		return fail(Broken, "This is no HTTP server: it speaks FastCGI, as PHP-FPM does, which knows no WebSockets.",
			"the pages of it belong behind `php:` in wstunnel, `fastcgi_pass` in nginx, or `SetHandler proxy:fcgi:` in Apache",
			"a WebSocket server written in PHP is a program of its own, with a port of its own")
	case upstream.HTTP2:
		return fail(Broken, "The server speaks nothing but HTTP/2, as servers of gRPC do; a WebSocket begins with HTTP/1.1.",
			"let the server take HTTP/1.1 on this port too, or look for its port for that")
	case "":
		return fail(Broken, "What came is no answer of HTTP: it begins with "+head.Quoted(string(p.first.came))+".", "see whether the port is right")
	}
	return fail(Broken, "The port "+p.port()+" speaks "+string(language)+", not HTTP.", "see whether the port is right")
}

func (p *probe) port() string {
	if _, port, err := net.SplitHostPort(p.connected); err == nil {
		return port
	}
	return p.connected
}

// secondLook bounds what is asked on another connection, to find out why the first one failed.
const secondLook = 2 * time.Second

// isAlert reports an error that is the alert of a TLS server.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// answersPlainly asks whether the server speaks HTTP without TLS.
func (p *probe) answersPlainly(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(p.Timeout, secondLook))
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, p.Network, p.connected)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := conn.Write(http1.AppendRequest(nil, p.request())); err != nil {
		return false
	}
	answer := make([]byte, len("HTTP/"))
	_, err = io.ReadFull(conn, answer)
	return err == nil && upstream.LanguageOf(answer) == upstream.PlainHTTP
}

// asked asks a server that was silent what it speaks.
func (p *probe) asked(ctx context.Context) upstream.Language {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(p.Timeout, secondLook))
	defer cancel()
	return upstream.AskLanguage(ctx, p.Network, p.connected)
}
