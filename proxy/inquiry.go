package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/route"
	"wstunnel/internal/session"
	"wstunnel/internal/tags"
	"wstunnel/internal/upstream"
)

// inquiry asks the server of auth_request whether a request may go on, with its head.
type inquiry struct {
	guard    *guard
	out      head.Request
	way      upstream.Way
	backend  *upstream.Conn
	answered func() // what follows from the answer; nil before it has come
	read     int    // of its body
	stale    bool   // a kept connection was
	timer    reactor.Timer
}

// maxInquiryBody is how much of an answer's body is read, so that its connection can be kept.
const maxInquiryBody = 64 << 10

// conditions are the fields of a request that are about what it asks for, and not about who asks.
var conditions = head.SetOf(head.ContentType, head.ContentEncoding, head.Range, head.IfMatch, head.IfModifiedSince, head.IfNoneMatch, head.IfRange,
	head.IfUnmodifiedSince, head.AcceptEncoding, head.SecWebSocketKey, head.SecWebSocketExtensions, head.SecWebSocketVersion)

// told are the fields that tell the server what is asked for; it has them from nobody else.
var told = []string{"X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Method"}

func (q *inquiry) begin() {
	q.out = q.question()
	q.timer.On = q
	q.guard.client.Conn().Loop().Set(&q.timer, inquiryTimeout)
	q.connect(upstream.Any)
}

// question makes the head that the server is sent.
func (q *inquiry) question() head.Request {
	in, target := &q.guard.in, q.guard.location.Access.AuthRequest.Target
	fields := slices.DeleteFunc(rewrite.AppendOwn(nil, in, false, ""), func(f head.Field) bool {
		return conditions.Has(f.ID) || isTold(f.Name)
	})
	fields = rewrite.AppendForwarding(fields, in, false)
	path, query := route.Split(in.Request.Target)
	for i, value := range []string{in.PublicScheme() + "://" + in.PublicHost() + path + query, path + query, in.Request.Method, path + query, in.Request.Method} {
		fields = append(fields, head.Field{Name: told[i], Value: value, ID: head.IDOf(told[i])})
	}
	out := head.Request{Method: http.MethodGet, Target: "/", Host: in.Request.Host, Major: 1, Minor: 1, Fields: fields}
	switch {
	case !target.PathTemplate.Empty():
		out.Target = rewrite.URL(target.PathTemplate, in.Value)
	case target.Path != "":
		out.Target = target.Path
	}
	return out
}

// isTold reports a name of one of told. Other spellings of it, with underscores, go nowhere.
func isTold(name string) bool {
	return slices.ContainsFunc(told, func(t string) bool { return strings.EqualFold(t, name) })
}

func (q *inquiry) connect(maxIdle time.Duration) {
	g := q.guard
	needs := upstream.Needs{MaxIdle: maxIdle, Connect: g.location.Timeouts.Connect}
	q.way.Begin(g.location.asked, q, g.client.Conn(), g.client.Worker(), needs)
}

// Introduction is none.
func (q *inquiry) Introduction() []byte { return nil }

// Connected asks.
func (q *inquiry) Connected(b *upstream.Conn) {
	q.backend = b
	b.Ask(q, &q.out, nil)
}

// Expired ends the wait for a server that does not come to an end, be it that it never stops sending.
func (q *inquiry) Expired() { q.guard.client.Conn().Do(q.endWait) }

func (q *inquiry) endWait() {
	switch {
	case q.guard.over:
	case q.answered != nil:
		q.backend.Close()
		q.goOn()
	default:
		q.fail(fmt.Errorf("no answer within %s: %w", inquiryTimeout, os.ErrDeadlineExceeded))
	}
}

// Unreachable refuses the request: nobody says that it may go on.
func (q *inquiry) Unreachable(err error) { q.fail(err) }

// Answered takes the head of the answer.
func (q *inquiry) Answered(r *head.Response) {
	if r.Status == http.StatusSwitchingProtocols {
		q.fail(errors.New("the server switched protocols, which nobody had asked for"))
		return
	}
	if r.Status < http.StatusOK {
		return
	}
	q.backend.NoteAnswer(r)
	g := q.guard
	fields := slices.Clone(r.Fields)
	for _, f := range fields {
		if f.ID == head.SetCookie && !slices.Contains(g.cookies, f) { // it may be asked again, when the request goes on elsewhere
			g.cookies = append(g.cookies, f)
		}
	}
	switch {
	case r.Status < 300:
		q.grant(fields)
		q.answered = g.letIn
		if err := q.tag(fields); err != nil {
			q.answered = func() { q.fail(err) }
		}
	default:
		q.answered = func() {
			g.refused = q.refusal(r.Status, fields)
			g.refuse()
		}
	}
}

// grant takes over what the backend is to be told.
func (q *inquiry) grant(fields head.Fields) {
	in := &q.guard.in
	in.Granted = nil
	for _, name := range q.guard.location.Access.AuthRequest.CopyHeaders {
		for _, f := range fields {
			if strings.EqualFold(f.Name, name) {
				in.Granted = append(in.Granted, f)
			}
		}
	}
}

// tag takes over what the answer says of a tunnel.
func (q *inquiry) tag(fields head.Fields) error {
	in := &q.guard.in
	if in.Tags = nil; in.Request.Protocol == "" {
		return nil
	}
	is, err := tags.Of(fields)
	if err == nil && (is.User != "" || len(is.Groups) > 0 || is.NoPush) {
		in.Tags = &is
	}
	return err
}

// refusal is what the client is answered for an answer that does not let its request go on.
func (q *inquiry) refusal(status int, fields head.Fields) *answer {
	g := q.guard
	page := g.in.Request.Protocol == "" // clients of WebSocket follow no redirects
	elsewhere := g.location.Access.AuthRequest.On401
	switch {
	case status == http.StatusUnauthorized && page && !elsewhere.Empty():
		a := textAnswer(http.StatusFound, "log in first")
		a.fields.Add(head.Location, rewrite.URL(elsewhere, g.in.Value))
		return a
	case status == http.StatusUnauthorized:
		a := textAnswer(status, "you have to log in")
		for _, f := range fields {
			if strings.EqualFold(f.Name, "WWW-Authenticate") {
				a.fields = append(a.fields, f)
			}
		}
		return a
	case status == http.StatusForbidden:
		return textAnswer(status, "you may not have this")
	case status < 400 && fields.Count(head.Location) == 1 && page:
		a := textAnswer(status, "log in first")
		a.fields.Add(head.Location, fields.Get(head.Location))
		return a
	case status < 400 && fields.Count(head.Location) == 1:
		return textAnswer(http.StatusUnauthorized, "you have to log in")
	}
	g.err = fmt.Errorf("the server of auth_request answered %d", status)
	return textAnswer(http.StatusBadGateway, "it could not be found out whether you may have this")
}

// Body reads on, while that is worth it.
func (q *inquiry) Body(p []byte) {
	if q.read += len(p); q.read > maxInquiryBody {
		q.backend.Close()
		q.goOn()
	}
}

// Done goes on with what was answered.
func (q *inquiry) Done(head.Fields) {
	q.backend.Release()
	q.goOn()
}

func (q *inquiry) goOn() {
	q.backend = nil
	q.answered()
}

// Broke deals with a server that broke off.
func (q *inquiry) Broke(err error) {
	b := q.backend
	b.Close()
	switch {
	case q.answered != nil: // the rest of it is of no interest
		q.goOn()
		return
	case b.Reused() && !b.Began() && !q.stale && !errors.Is(err, os.ErrDeadlineExceeded):
		q.backend, q.stale = nil, true
		q.connect(0)
		return
	}
	q.backend = nil
	q.fail(err)
}

// fail refuses the request: nobody says that it may go on.
func (q *inquiry) fail(err error) {
	g := q.guard
	g.err = fmt.Errorf("auth_request: %w", err)
	g.refused = answerForFailure(err)
	g.refuse()
}

// Sink is none: the body is not for the client.
func (q *inquiry) Sink() *session.Client { return nil }

// Spliced does not happen.
func (q *inquiry) Spliced(int) {}

// Caught is of no interest.
func (q *inquiry) Caught() {}

// Took is of no interest: no more is sent.
func (q *inquiry) Took() {}

// leave ends what is under way.
func (q *inquiry) leave() {
	q.guard.client.Conn().Loop().Stop(&q.timer)
	q.way.Leave()
	if q.backend != nil {
		q.backend.Close()
		q.backend = nil
	}
}

// lowerUnderscore is a field's name as a variable has it.
func lowerUnderscore(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }
