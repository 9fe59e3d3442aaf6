package proxy

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/upstream"
	"wstunnel/internal/ws"
)

// answer is an answer of this front end's own.
type answer struct {
	status int
	fields head.Fields
	body   string
	// page says that a page is made of it, in the form that the client wants, with reason.
	page   bool
	reason string
	// close ends the connection behind it.
	close bool
}

// textAnswer says something in a few words. With an error's status it becomes a page, see [exchange.dress]. The reason is for the client to read; what the operator needs beyond it stands in the log.
func textAnswer(status int, reason string) *answer {
	a := &answer{status: status, page: true, reason: reason, body: strconv.Itoa(status) + " " + http.StatusText(status) + ": " + reason + "\n"}
	a.fields.Add(head.ContentType, "text/plain; charset=utf-8")
	a.add("X-Content-Type-Options", "nosniff")
	return a
}

func (a *answer) add(name, value string) {
	a.fields = append(a.fields, head.Field{Name: name, Value: value, ID: head.IDOf(name)})
}

// answerFor returns what a request is answered that no backend and no file is asked for.
func (x *exchange) answerFor(d decision) *answer {
	switch d.action {
	case answerOptions:
		return &answer{status: http.StatusOK}
	case giveCA:
		a := &answer{status: http.StatusOK, body: string(x.gen.ca)}
		a.fields.Add(head.ContentType, "application/x-x509-ca-cert")
		a.add("Content-Disposition", `attachment; filename="wstunnel-ca.pem"`)
		return a
	case redirect:
		a := textAnswer(d.status, d.reason)
		a.fields.Add(head.Location, d.location)
		return a
	case awaitCertificate:
		return certificateIsComing()
	}
	a := textAnswer(d.status, d.reason)
	if d.retryAfter != "" {
		a.fields.Add(head.RetryAfter, d.retryAfter)
	}
	switch d.status {
	case http.StatusUpgradeRequired:
		a.fields.Add(head.SecWebSocketVersion, ws.Version)
		a.fields.Add(head.Upgrade, "websocket")
	case http.StatusLoopDetected:
		a.fields.Add(head.CacheControl, "no-store")
	case http.StatusMethodNotAllowed:
		a.add("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	case http.StatusBadRequest:
		a.close = true
	}
	return a
}

// answerForChallenge returns the answer to an ACME authority on a plain listener, whatever site and location the request would go to, and
// before any redirect; nil for all other requests. Challenges that this process knows nothing of are for the backend.
func (x *exchange) answerForChallenge() *answer {
	r := x.in.Request
	token, ok := strings.CutPrefix(r.Target, challengePath)
	if !ok || x.in.Secure || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	key := x.gen.certs.Challenge(r.Host, token)
	if key == nil {
		return nil
	}
	a := &answer{status: http.StatusOK, body: string(key)}
	a.fields.Add(head.ContentType, "application/octet-stream")
	return a
}

// certificateIsComing answers for a site that is served over https, but not yet: an order takes seconds.
func certificateIsComing() *answer {
	a := &answer{
		status: http.StatusServiceUnavailable,
		body: pageStart("One moment", refresh(firstCertificatePause)) + "<main class=\"error\">\n<h1>One moment</h1>\n" +
			"<p>This site is served over https, and its certificate is on its way. The page loads again by itself.</p>\n</main>\n",
	}
	a.fields.Add(head.ContentType, "text/html; charset=utf-8")
	a.fields.Add(head.CacheControl, "no-store")
	a.fields.Add(head.RetryAfter, firstCertificatePause)
	return a
}

// noServerPause is how many seconds clients are to wait where no server is up.
const noServerPause = "5"

// answerForFailure answers for a backend that did not: 503 where no server of several is there, or where it was not asked, since as many connections were open as
// the descriptors or max_connections allow, or as many handshakes waited; 504 where time ran out, else 502.
func answerForFailure(err error) *answer {
	var timeout net.Error
	switch {
	case errors.Is(err, upstream.ErrNoServer):
		a := textAnswer(http.StatusServiceUnavailable, "no backend is there at the moment")
		a.fields.Add(head.RetryAfter, noServerPause)
		return a
	case errors.Is(err, upstream.ErrFull), errors.Is(err, upstream.ErrNoTurn), errors.Is(err, upstream.ErrTooManyHandshakes):
		a := textAnswer(http.StatusServiceUnavailable, "the server has too much to do")
		a.fields.Add(head.RetryAfter, "1")
		return a
	case errors.As(err, &timeout) && timeout.Timeout():
		return textAnswer(http.StatusGatewayTimeout, "the backend did not answer in time")
	}
	return textAnswer(http.StatusBadGateway, "the backend could not be reached or gave no valid answer")
}

// addHSTS tells browsers to come over https only (RFC 6797, section 7.1); over plain HTTP nothing may be said (section 7.2).
func (x *exchange) addHSTS(fields *head.Fields) {
	if x.site != nil && x.site.HSTS > 0 && x.in.Secure {
		fields.Add(head.StrictTransportSecurity, "max-age="+strconv.FormatInt(int64(x.site.HSTS/time.Second), 10))
	}
}

// tell logs what was decided beside the answer.
func (x *exchange) tell(d decision) {
	x.err = d.err
	if d.hint != "" {
		x.server.hints.tell(x.server.log, d.hint, "site", x.site.name, "location", x.location.pattern)
	}
}
