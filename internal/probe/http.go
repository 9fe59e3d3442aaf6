package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/upstream"
	"wstunnel/internal/ws"
)

// offered is the extension that browsers offer.
const offered = "permessage-deflate; client_max_window_bits"

// request is the handshake's, as a browser makes it (RFC 6455, section 4.1).
func (p *probe) request() *head.Request {
	r := &head.Request{Method: http.MethodGet, Target: p.Target.uri(), Host: p.Target.authority, Protocol: "websocket"}
	r.Fields = head.Fields{{Name: "User-Agent", Value: "wstunnel-probe"}}
	if p.Origin != "" {
		r.Fields.Add(head.Origin, p.Origin)
	}
	if p.Target.authorization != "" {
		r.Fields.Add(head.Authorization, p.Target.authorization)
	}
	r.Fields.Add(head.SecWebSocketVersion, ws.Version)
	r.Fields.Add(head.SecWebSocketKey, newKey())
	r.Fields.Add(head.SecWebSocketExtensions, offered)
	if len(p.Subprotocols) > 0 {
		r.Fields.Add(head.SecWebSocketProtocol, strings.Join(p.Subprotocols, ", "))
	}
	r.Fields = slices.DeleteFunc(r.Fields, func(f head.Field) bool {
		_, replaced := p.Fields.Lookup(f.Name)
		return replaced
	})
	for _, f := range p.Fields {
		if f.ID == head.Host {
			r.Host = f.Value
		} else {
			r.Fields = append(r.Fields, f)
		}
	}
	return r
}

// newKey is 16 random bytes (RFC 6455, section 4.1).
func newKey() string {
	var nonce [16]byte
	rand.Read(nonce[:])
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// shakeHands asks for the WebSocket.
func (p *probe) shakeHands(ctx context.Context, s *Step) *failure {
	deadline, _ := ctx.Deadline()
	p.conn.SetDeadline(deadline)
	request := p.request()
	p.conn.Write(http1.AppendRequest(nil, request)) // a server that does not read on may have answered all the same
	begin := time.Now()
	a, err := p.readAnswer()
	s.Took = Milliseconds(time.Since(begin))
	if err != nil {
		s.Result = "no answer: " + plainly(err)
		return p.unanswered(ctx, err)
	}
	s.Result = fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	s.Answer = a.told()
	if a.Status != http.StatusSwitchingProtocols {
		s.Details = a.details()
		return p.refused(a)
	}
	return p.judgeSwitching(s, request.Fields, a.Fields)
}

// answer is the head of an answer, with how its body begins.
type answer struct {
	*head.Response
	body []byte
}

const (
	maxBody      = 4 << 10     // of a body that is read
	bodyPatience = time.Second // with a body, behind its head
)

// readAnswer reads the answer, and of its body as much as is wanted. What comes behind a 101 is kept.
func (p *probe) readAnswer() (*answer, error) {
	var decoder http1.ResponseDecoder
	decoder.Expect(http.MethodGet)
	var a *answer
	for buffer := make([]byte, 16<<10); ; {
		n, err := p.conn.Read(buffer)
		for came, more := buffer[:n], n > 0; more; {
			n, event, bad := decoder.Next(came)
			came = came[n:]
			switch {
			case bad != nil && a == nil:
				return nil, bad
			case bad != nil, event == http1.End:
				return a, nil
			case event == http1.Head && decoder.Response.Status == http.StatusSwitchingProtocols:
				p.early = bytes.Clone(came)
				return &answer{Response: decoder.Response}, nil
			case event == http1.Head && decoder.Response.Status < http.StatusOK:
				p.note(fmt.Sprintf("%d %s came first", decoder.Response.Status, http.StatusText(decoder.Response.Status)))
			case event == http1.Head:
				a = &answer{Response: decoder.Response}
				p.conn.SetReadDeadline(time.Now().Add(min(p.Timeout, bodyPatience)))
			case event == http1.Data:
				a.body = append(a.body, decoder.Data...)
			default:
				more = false
			}
		}
		switch {
		case a != nil && (err != nil || len(a.body) >= maxBody):
			return a, nil
		case errors.Is(err, io.EOF):
			return nil, decoder.EOF()
		case err != nil:
			return nil, err
		}
	}
}

// unanswered says why there is no answer.
func (p *probe) unanswered(ctx context.Context, err error) *failure {
	came := p.first.came
	silence := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	_, notHTTP := errors.AsType[*http1.NotHTTPError](err)
	switch {
	case notHTTP:
		return p.otherLanguage(upstream.LanguageOf(came))
	case isAlert(err):
		return p.alerted(err)
	case errors.Is(err, os.ErrDeadlineExceeded) && len(came) == 0:
		return fail(Broken, fmt.Sprintf("The server took the connection and said nothing within %v.", p.Timeout),
			"see whether the server is busy or hangs: its log, its CPU time",
			"see whether the port is right: a server of another protocol may wait for something else")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(Broken, fmt.Sprintf("The head of the answer was not whole within %v.", p.Timeout), "see what hangs: the server, or a proxy before it")
	case silence && !p.Target.secure:
		if language := p.asked(ctx); language != "" {
			return p.otherLanguage(language)
		}
	}
	if silence {
		return fail(Broken, "The server closed the connection without a word.",
			"see the server's log: it may have failed while it read the request",
			"a listener with the PROXY protocol closes connections that do not begin with its header")
	}
	return fail(Broken, "The answer is malformed: "+err.Error()+".", "see what program answers there; a browser takes this answer as little as this probe")
}

// told is the answer as the report has it.
func (a *answer) told() *Answer {
	told := &Answer{Status: a.Status, Body: a.says()}
	for _, f := range a.Fields {
		told.Fields = append(told.Fields, Field{f.Name, f.Value})
	}
	return told
}

// telling are the fields of a refusal that say who refused, and why.
var telling = []string{
	"Server", "Via", "X-Powered-By", "Content-Type", "Location", "WWW-Authenticate", "Retry-After", "Allow", "Upgrade", "Sec-WebSocket-Version",
}

// details are the lines of a refusal that say who refused, and why.
func (a *answer) details() (lines []string) {
	for _, name := range telling {
		if value, ok := a.Fields.Lookup(name); ok {
			lines = append(lines, name+": "+shortened(value))
		}
	}
	if text := a.says(); text != "" {
		lines = append(lines, "it says: "+text)
	}
	return lines
}

// field returns the value of a field, in any spelling; empty for none.
func (a *answer) field(name string) string {
	value, _ := a.Fields.Lookup(name)
	return value
}

// says returns the first line of a text, or the title of a page.
func (a *answer) says() string {
	text := string(a.body)
	lower := strings.ToLower(text)
	if from := strings.Index(lower, "<title>"); from >= 0 {
		from += len("<title>")
		if to := strings.Index(lower[from:], "</title>"); to >= 0 && len(lower) == len(text) {
			return shortened(strings.Join(strings.Fields(text[from:from+to]), " "))
		}
	}
	if strings.Contains(lower, "<html") {
		return ""
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return shortened(line)
		}
	}
	return ""
}

// mostShown is how much of a string of a peer's is shown.
const mostShown = 200

func shortened(s string) string {
	if runes := []rune(s); len(runes) > mostShown {
		return string(runes[:mostShown]) + "..."
	}
	return s
}
