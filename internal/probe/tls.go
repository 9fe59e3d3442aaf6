package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"wstunnel/internal/upstream"
)

// tlsConfig is that of a browser that would open a WebSocket. The certificate is judged later, so that what is wrong with it can be told.
func (p *probe) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName: p.Target.host, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			p.certificateAsked = true
			return &tls.Certificate{}, nil
		},
	}
}

// secure makes the TLS handshake.
func (p *probe) secure(ctx context.Context, s *Step) *failure {
	conn := tls.Client(p.conn, p.tlsConfig())
	begin := time.Now()
	err := conn.HandshakeContext(ctx)
	s.Took = Milliseconds(time.Since(begin)) // without a second look
	if err != nil {
		s.Result = "no TLS: " + plainly(err)
		return p.withoutTLS(ctx, err)
	}
	p.first = &recorded{Conn: conn}
	p.conn = p.first
	state := conn.ConnectionState()
	protocol := "no protocol agreed on, which means HTTP/1.1"
	if state.NegotiatedProtocol != "" {
		protocol = state.NegotiatedProtocol
	}
	s.Result = fmt.Sprintf("%s, %s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), protocol)
	return p.judgeCertificates(s, state.PeerCertificates)
}

// withoutTLS says why a TLS handshake failed.
func (p *probe) withoutTLS(ctx context.Context, err error) *failure {
	var timeout net.Error
	silent := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
	closed := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	_, noRecord := errors.AsType[tls.RecordHeaderError](err)
	language := upstream.LanguageOf(p.first.came)
	switch {
	case isAlert(err):
		return p.alerted(err)
	case noRecord && language == upstream.PlainHTTP, (silent || closed) && p.answersPlainly(ctx):
		return fail(NoTLS, "The port "+p.port()+" speaks plain HTTP, without TLS.",
			"write "+p.Target.withScheme(false)+", or the port that has TLS",
			"in wstunnel a listener needs `tls: true`, in nginx `listen 443 ssl`, in Apache `SSLEngine on`")
	case noRecord && language != "":
		return fail(NoTLS, "The port "+p.port()+" speaks "+string(language)+", not TLS.", "see whether the port is right")
	case silent:
		return fail(NoTLS, fmt.Sprintf("The TLS handshake did not end within %v.", p.Timeout),
			"see whether port "+p.port()+" has TLS: a server without waits for more",
			"a firewall can let small packets pass and lose large ones (MTU)")
	case closed:
		return fail(NoTLS, "The server closed the connection in the middle of the TLS handshake.",
			"see whether port "+p.port()+" has TLS, and the server's log",
			"a listener with the PROXY protocol closes connections that do not begin with its header")
	case strings.Contains(err.Error(), "unsupported protocol version"):
		return fail(NoTLS, "The server has nothing newer than TLS 1.1, which browsers refuse.", "let the server have TLS 1.2 and 1.3")
	}
	return fail(NoTLS, "The TLS handshake failed: "+strings.TrimPrefix(err.Error(), "tls: ")+".")
}

// withoutCertificate is the way past a server that wants a certificate of its clients.
const withoutCertificate = "probe the backend itself, or from a browser that has such a certificate"

// alerted says what a TLS server meant with its alert (RFC 8446, section 6.2).
func (p *probe) alerted(err error) *failure {
	op, _ := errors.AsType[*net.OpError](err)
	alert := strings.TrimPrefix(op.Err.Error(), "tls: ")
	if p.certificateAsked {
		return fail(NoTLS, "The server wants a certificate of its clients, and this probe has none (TLS alert: "+alert+").", withoutCertificate)
	}
	switch alert {
	case "unrecognized name", "internal error":
		cause := "The server has no certificate for " + p.Target.host + " (TLS alert: " + alert + ")."
		return fail(NoTLS, cause, "see whether a site of that name is configured, with a certificate",
			"where certificates are ordered at the first visit, the server's log says why that failed; in wstunnel `wstunnel certs` does too")
	case "no application protocol":
		return fail(NoTLS, "The server and a browser have no protocol in common: it does not take http/1.1 (TLS alert: "+alert+").",
			"let the server offer http/1.1 beside h2 (ALPN); a WebSocket over HTTP/1.1 needs it")
	case "protocol version not supported":
		return fail(NoTLS, "The server and a browser have no version of TLS in common (TLS alert: "+alert+").", "let the server have TLS 1.2 and 1.3")
	case "handshake failure", "insufficient security level":
		return fail(NoTLS, "The server and a browser have no cipher in common, or it has no certificate for "+p.Target.host+" (TLS alert: "+alert+").",
			"see whether a site of that name is configured, with a certificate", "let the server have the ciphers of its defaults")
	}
	return fail(NoTLS, "The server ended the TLS handshake (TLS alert: "+alert+").", "the server's log may say more")
}
