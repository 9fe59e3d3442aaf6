package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Language is what a server speaks that was asked in HTTP, or in TLS; empty where that is not known.
type Language string

// The languages that there is more to say about than that they are not the one that was asked in.
const (
	PlainHTTP Language = "plain HTTP"
	TLS       Language = "TLS"
	FastCGI   Language = "FastCGI"
	HTTP2     Language = "HTTP/2"
)

// LanguageOf tells a language by what a server said first.
func LanguageOf(came []byte) Language {
	begins := func(s string) bool { return bytes.HasPrefix(came, []byte(s)) }
	switch {
	case begins("HTTP/"):
		return PlainHTTP
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
	case (came[0] == 0x15 || came[0] == 0x16) && came[1] == 3: // an alert or a handshake, and the version
		return TLS
	case came[0] == 1 && 0 < came[1] && came[1] <= 11 && len(came) >= 8: // version and type of a record
		return FastCGI
	case came[3] == 4 && len(came) >= 9 && came[5] == 0 && came[8] == 0: // SETTINGS of stream 0
		return HTTP2
	case came[3] == 0 && len(came) >= 5 && came[4] == 10: // the greeting of protocol 10
		return "MySQL"
	}
	return ""
}

// plainToTLS are what servers say in plain HTTP that have TLS and were asked without.
var plainToTLS = [][]byte{
	[]byte("plain http request was sent to https port"), []byte("speaking plain http to an ssl-enabled server"), []byte("sent an http request to an https server"),
	[]byte("plain http was sent to a port that speaks https"),
}

// ComplainsOfPlainHTTP reports whether the body of a 400 says that the port has TLS.
func ComplainsOfPlainHTTP(body []byte) bool {
	lower := bytes.ToLower(body[:min(len(body), 1<<10)])
	for _, text := range plainToTLS {
		if bytes.Contains(lower, text) {
			return true
		}
	}
	return false
}

// A FastCGI application closes the connection of one who speaks HTTP to it, without a word, and so do some servers with TLS. They are asked in their own
// language.
const (
	// fastCGIQuestion is a management record, FCGI_GET_VALUES: how many connections at most? Any application answers it.
	fastCGIQuestion = "\x01\x09\x00\x00\x00\x10\x00\x00\x0e\x00FCGI_MAX_CONNS"
	// fastCGIAnswer begins the record that it answers with, FCGI_GET_VALUES_RESULT.
	fastCGIAnswer = "\x01\x0a\x00\x00"
	// questionPatience bounds the questions, and questionPause is the time until they are asked again.
	questionPatience = time.Second
	questionPause    = time.Minute
)

// LanguageError is a server that speaks something else than HTTP.
type LanguageError struct {
	Language
	err error
}

func (e *LanguageError) Error() string {
	return fmt.Sprintf("%v; this looks like %s", e.err, e.Language)
}

func (e *LanguageError) Unwrap() error { return e.err }

// diagnose adds to the error of a server that broke off without a word what it looks like.
func (p *Pool) diagnose(ctx context.Context, err error) error {
	var timeout net.Error
	if p.secure || p.applications || !IsSilence(err) || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	if language := p.askLanguage(ctx); language != "" {
		return &LanguageError{language, err}
	}
	return err
}

// askLanguage asks the server now and then, and remembers what it said.
func (p *Pool) askLanguage(ctx context.Context) Language {
	now := int64(p.clock.Elapsed())
	if last := p.asked.Load(); last != 0 && now-last < int64(questionPause) || !p.asked.CompareAndSwap(last, now) {
		if language := p.language.Load(); language != nil {
			return *language
		}
		return ""
	}
	ctx, cancel := within(ctx, p.clock, questionPatience)
	defer cancel()
	language := AskLanguage(ctx, p.network, p.address)
	p.language.Store(&language)
	return language
}

// AskLanguage asks a server that was silent whether it speaks FastCGI, or TLS.
func AskLanguage(ctx context.Context, network, address string) Language {
	switch {
	case answersFastCGI(ctx, network, address):
		return FastCGI
	case answersTLS(ctx, network, address):
		return TLS
	}
	return ""
}

// ask connects for a question. The connection ends with the context.
func ask(ctx context.Context, network, address string) (conn net.Conn, end func(), err error) {
	var dialer net.Dialer
	if conn, err = dialer.DialContext(ctx, network, address); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

func answersFastCGI(ctx context.Context, network, address string) bool {
	conn, end, err := ask(ctx, network, address)
	if err != nil {
		return false
	}
	defer end()
	answer := make([]byte, len(fastCGIAnswer))
	if _, err := io.WriteString(conn, fastCGIQuestion); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == fastCGIAnswer
}

// answersTLS reports whether a TLS handshake succeeds, or fails with an alert.
func answersTLS(ctx context.Context, network, address string) bool {
	conn, end, err := ask(ctx, network, address)
	if err != nil {
		return false
	}
	defer end()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake() // nothing but the handshake is said
	op, failed := errors.AsType[*net.OpError](err)
	return err == nil || failed && op.Op == "remote error"
}
