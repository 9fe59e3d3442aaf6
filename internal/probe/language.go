package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/upstream"
)

// speaks says what a server speaks whose first bytes are no answer of HTTP; it is empty where that is not known.
func speaks(came []byte) string {
	begins := func(s string) bool { return bytes.HasPrefix(came, []byte(s)) }
	switch {
	case begins("HTTP/"):
		return "plain HTTP"
	case begins("SSH-"):
		return "SSH"
	case begins("220"):
		return "SMTP or FTP"
	case begins("+OK"):
		return "POP3"
	case begins("* OK"):
		return "IMAP"
	case begins("-ERR"), begins("-DENIED"), begins("-NOAUTH"):
		return "Redis"
	case begins("RFB "):
		return "VNC"
	case len(came) < 4:
	case (came[0] == 0x15 || came[0] == 0x16) && came[1] == 3:
		return "TLS"
	case came[0] == 1 && 0 < came[1] && came[1] <= 11 && len(came) >= 8: // version and type of a record
		return "FastCGI"
	case came[3] == 4 && len(came) >= 9 && came[5] == 0 && came[8] == 0: // SETTINGS of stream 0
		return "HTTP/2"
	case came[3] == 0 && len(came) >= 5 && came[4] == 10: // the greeting of protocol 10
		return "MySQL"
	}
	return ""
}

// otherLanguage fails for a server that speaks something else than HTTP.
func (p *probe) otherLanguage(what string) *failure {
	switch what {
	case "TLS":
		return fail(Broken, "The port "+p.port()+" speaks TLS, and was asked without.", "write "+p.Target.withScheme(true))
	case "FastCGI":
		return fail(Broken, "This is no HTTP server: it speaks FastCGI, as PHP-FPM does, which knows no WebSockets.",
			"the pages of it belong behind `php:` in wstunnel, `fastcgi_pass` in nginx, or `SetHandler proxy:fcgi:` in Apache",
			"a WebSocket server written in PHP is a program of its own, with a port of its own")
	case "HTTP/2":
		return fail(Broken, "The server speaks nothing but HTTP/2, as servers of gRPC do; a WebSocket begins with HTTP/1.1.",
			"let the server take HTTP/1.1 on this port too, or look for its port for that")
	case "":
		return fail(Broken, "What came is no answer of HTTP: it begins with "+head.Quoted(string(p.first.came))+".", "see whether the port is right")
	}
	return fail(Broken, "The port "+p.port()+" speaks "+what+", not HTTP.", "see whether the port is right")
}

func (p *probe) port() string {
	if _, port, err := net.SplitHostPort(p.connected); err == nil {
		return port
	}
	return p.connected
}

// secondLook bounds what is asked on another connection, to find out why the first one failed.
const secondLook = 2 * time.Second

// again connects once more, for a short time.
func (p *probe) again(ctx context.Context) (conn net.Conn, cancel func(), err error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), min(p.Timeout, secondLook))
	var dialer net.Dialer
	if conn, err = dialer.DialContext(ctx, p.Network, p.connected); err != nil {
		stop()
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	return conn, func() { conn.Close(); stop() }, nil
}

// answersTLS asks whether the server speaks TLS. An alert is an answer too.
func (p *probe) answersTLS(ctx context.Context) bool {
	conn, end, err := p.again(ctx)
	if err != nil {
		return false
	}
	defer end()
	err = tls.Client(conn, p.tlsConfig()).Handshake()
	return err == nil || isAlert(err)
}

// isAlert reports an error that is the alert of a TLS server.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// answersPlainly asks whether the server speaks HTTP without TLS.
func (p *probe) answersPlainly(ctx context.Context) bool {
	conn, end, err := p.again(ctx)
	if err != nil {
		return false
	}
	defer end()
	if _, err := conn.Write(http1.AppendRequest(nil, p.request())); err != nil {
		return false
	}
	answer := make([]byte, len("HTTP/"))
	_, err = io.ReadFull(conn, answer)
	return err == nil && speaks(answer) == "plain HTTP"
}

// answersLikeFastCGI asks whether the server speaks FastCGI.
func (p *probe) answersLikeFastCGI(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(p.Timeout, secondLook))
	defer cancel()
	return upstream.AnswersLikeFastCGI(ctx, p.Network, p.connected)
}
