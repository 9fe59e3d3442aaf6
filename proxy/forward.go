package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/ws"
)

// clientStall is how long a client may leave an exchange without sending a byte of its request's body, or without
// taking a byte of the response's.
const clientStall = 60 * time.Second

// copyBuffers are the buffers that bodies pass through.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// errBodyRead marks a request body that the client did not deliver as it announced.
var errBodyRead = errors.New("reading the request body")

// forward carries one exchange to a backend and its response back, both streamed.
func (x *exchange) forward(w *responseWriter, r *http.Request, u *upstream) {
	out := rewriteRequest(&x.in, x.location, u.target)
	out.close = r.ContentLength != 0 && !bodyExpected(r.Method)
	resp, up, err := x.roundTrip(w, r, u, out)
	if err != nil {
		x.fail(w, err)
		return
	}
	early := !up.complete.Load()
	clean, err := x.respond(w, resp, u)
	left := x.detach()
	if err != nil || !up.finished() {
		// Nobody wants the rest of the request.
		resp.conn.Close()
		up.abandon(w)
	}
	if err != nil {
		x.abort(err)
	}
	if left && clean && !early && !resp.Close && !out.close {
		resp.conn.release()
		return
	}
	resp.conn.Close()
}

// abort ends the client's connection, or its HTTP/2 stream, in the middle of a response: a shortened answer must not look
// whole. An HTTP/1.0 client, whose answer ends with the connection, can tell by a reset only.
func (x *exchange) abort(err error) {
	x.err = err
	if x.proto10 {
		resetOnClose(x.client.Conn)
	}
	panic(http.ErrAbortHandler)
}

func resetOnClose(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}

// bodyExpected reports whether backends read the body of such a request. One that does not takes the body for the
// next request, so that the connection must not be used again.
func bodyExpected(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
		return false
	}
	return true
}

// idempotent reports whether a request can be sent again after a connection broke under it (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// roundTrip sends the request and reads the response head. A kept-alive connection that proves stale is replaced
// once, if the request can be sent twice. Response and upload belong to the caller.
func (x *exchange) roundTrip(w *responseWriter, r *http.Request, u *upstream, out *outbound) (*backendResponse, *upload, error) {
	repeatable := r.ContentLength == 0 && idempotent(r.Method)
	maxIdle := idleConnLife
	switch {
	case out.close:
		maxIdle = 0
	case !repeatable:
		maxIdle = freshConn
	}
	for {
		conn, err := u.conn(r.Context(), x.location.Timeouts.Connect, maxIdle)
		if err != nil {
			return nil, nil, err
		}
		x.attach(r.Context(), conn)
		resp, up, err := x.exchangeHeads(w, r, conn, out)
		if err == nil {
			return resp, up, nil
		}
		x.detach()
		conn.Close()
		if !conn.reused || !repeatable || !isStale(err) {
			return nil, nil, err
		}
		maxIdle = 0
	}
}

// isStale reports an error that says that the backend closed the connection before it saw the request.
func isStale(err error) bool {
	var timeout net.Error
	return err == io.EOF || errors.As(err, &timeout) && !timeout.Timeout()
}

// attach ends the backend's part when the client goes away; detach undoes it, and reports whether the
// connection was left alone.
func (x *exchange) attach(ctx context.Context, conn *backendConn) {
	x.backend = conn.pool.address
	x.stopCancel = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

func (x *exchange) detach() bool { return x.stopCancel() }

// exchangeHeads sends the request on a connection, its body in the background, and reads heads until the one that
// counts. 1xx heads go on to the client as they come (RFC 9110, section 15.2).
func (x *exchange) exchangeHeads(w *responseWriter, r *http.Request, conn *backendConn, out *outbound) (*backendResponse, *upload, error) {
	up, err := startUpload(w, r, conn, out, x.location.Timeouts.ResponseHead)
	if err != nil {
		return nil, nil, err
	}
	for range maxInformational {
		resp, err := conn.readResponse(r.Method)
		if err != nil {
			conn.Close()
			up.abandon(w)
			if errors.Is(up.err, errBodyRead) {
				err = up.err
			}
			return nil, nil, err
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			conn.Close()
			up.abandon(w)
			return nil, nil, errors.New("the backend switched protocols, which nobody had asked for")
		case resp.StatusCode >= 200:
			conn.SetReadDeadline(time.Time{})
			return resp, up, nil
		case resp.StatusCode != http.StatusContinue:
			w.informational(r, resp)
		}
	}
	conn.Close()
	up.abandon(w)
	return nil, nil, fmt.Errorf("more than %d informational responses", maxInformational)
}

// upload is a request on its way to the backend.
type upload struct {
	done     chan struct{}
	err      error       // once done
	complete atomic.Bool // all of it was written
}

// startUpload writes the head, in one write, and then the body in a goroutine of its own. The time for the response
// head runs from the end of the request.
func startUpload(w *responseWriter, r *http.Request, conn *backendConn, out *outbound, headTimeout time.Duration) (*upload, error) {
	up := &upload{done: make(chan struct{})}
	switch {
	case r.ContentLength > 0:
		out.header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	case r.ContentLength < 0:
		out.header["Transfer-Encoding"] = []string{"chunked"}
		if names := trailerNames(rewriteTrailers(r.Trailer)); names != "" {
			out.header["Trailer"] = []string{names}
		}
	case bodyExpected(r.Method):
		out.header["Content-Length"] = []string{"0"}
	}
	conn.SetWriteDeadline(time.Now().Add(headTimeout))
	if _, err := conn.Write(out.append(make([]byte, 0, 1024))); err != nil {
		return nil, err
	}
	if r.ContentLength == 0 {
		conn.SetReadDeadline(time.Now().Add(headTimeout))
		up.complete.Store(true)
		close(up.done)
		return up, nil
	}
	go up.send(w, r, conn, headTimeout)
	return up, nil
}

func trailerNames(t http.Header) string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (u *upload) finished() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// abandon ends an upload whose backend connection is closed.
func (u *upload) abandon(w *responseWriter) {
	if !u.finished() {
		http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	}
	<-u.done
}

// send copies the body. If the client fails, the backend's connection is closed, so that it can't take half a body
// for a whole one; if the backend fails, it may still have answered.
func (u *upload) send(w *responseWriter, r *http.Request, conn *backendConn, headTimeout time.Duration) {
	defer close(u.done)
	u.err = u.copy(http.NewResponseController(w), r, conn, headTimeout)
	if errors.Is(u.err, errBodyRead) {
		conn.Close()
		return
	}
	u.complete.Store(u.err == nil)
	conn.SetReadDeadline(time.Now().Add(headTimeout))
}

func (u *upload) copy(rc *http.ResponseController, r *http.Request, conn *backendConn, stall time.Duration) error {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	wire := bufio.NewWriterSize(conn, len(buf)+64) // a piece and its chunk header leave in one write
	var body io.Writer = wire
	var chunks io.WriteCloser
	if r.ContentLength < 0 {
		chunks = httputil.NewChunkedWriter(wire)
		body = chunks
	}
	for {
		rc.SetReadDeadline(time.Now().Add(clientStall))
		n, err := r.Body.Read(buf[:])
		if n > 0 {
			conn.SetWriteDeadline(time.Now().Add(stall))
			if _, err := body.Write(buf[:n]); err != nil {
				return err
			}
			if err := wire.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBodyRead, err)
		}
	}
	rc.SetReadDeadline(time.Time{})
	if chunks != nil {
		chunks.Close()
		wire.Write(append(appendHeader(nil, rewriteTrailers(r.Trailer)), "\r\n"...))
	}
	return wire.Flush()
}

// respond passes the response on and reports whether its end left the connection in step.
func (x *exchange) respond(w *responseWriter, resp *backendResponse, u *upstream) (clean bool, err error) {
	rewriteResponse(resp.Header, resp.StatusCode, &x.in, x.location, u.target)
	h := w.Header()
	for name, values := range resp.Header {
		h[ws.HeaderName(name)] = values
	}
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // no guess of ours
	}
	announced := rewriteTrailers(resp.Trailer)
	for name := range announced {
		h.Add("Trailer", name)
	}
	w.WriteHeader(resp.StatusCode)
	if err := x.copyBody(w, resp); err != nil {
		return false, err
	}
	for name, values := range rewriteTrailers(resp.Trailer) {
		if _, ok := announced[name]; !ok {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
	return resp.delimited, nil
}

// copyBody copies a response body. Whenever the backend pauses, what came so far is flushed: an event, half a page.
func (x *exchange) copyBody(w *responseWriter, resp *backendResponse) error {
	if resp.body == http.NoBody {
		return nil
	}
	rc := http.NewResponseController(w)
	exact, isExact := resp.body.(*exactBody)
	flush := func() {
		if resp.conn.br.Buffered() == 0 && (!isExact || exact.left > 0) {
			rc.Flush()
		}
	}
	flush()
	if isExact {
		if err := x.spliceBody(w, rc, resp.conn, exact); err != nil {
			return err
		}
	}
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := resp.body.Read(buf[:])
		if n > 0 {
			rc.SetWriteDeadline(time.Now().Add(clientStall))
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("writing to the client: %w", err)
			}
			flush()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the response body: %w", err)
		}
	}
}

// spliceMin is the length from which a body moves inside the kernel where it can, spliceStep bytes at a time.
const (
	spliceMin  = 64 << 10
	spliceStep = 256 << 10
)

// spliceBody moves what it can of a long body between two plain connections, and leaves the rest to the caller.
func (x *exchange) spliceBody(w *responseWriter, rc *http.ResponseController, conn *backendConn, body *exactBody) error {
	src, ok := conn.Conn.(*net.TCPConn)
	if _, plain := x.client.Conn.(*net.TCPConn); !ok || !plain || x.protoMajor != 1 || body.left < spliceMin {
		return nil
	}
	for body.left > 0 {
		var from io.Reader = src
		n := min(body.left, spliceStep)
		if held := conn.br.Buffered(); held > 0 {
			from, n = conn.br, min(body.left, int64(held))
		} else {
			rc.Flush()
		}
		rc.SetWriteDeadline(time.Now().Add(clientStall))
		moved, err := w.ReadFrom(&io.LimitedReader{R: from, N: n})
		body.left -= moved
		if err == nil && moved < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("passing on the response body: %w", err)
		}
	}
	return nil
}

// fail answers for a backend that did not: 504 where time ran out, else 502. A request body that broke off is the
// client's fault.
func (x *exchange) fail(w *responseWriter, err error) {
	x.err = err
	var timeout net.Error
	switch {
	case x.ctx.Err() != nil && !errors.Is(err, errChunk):
		x.clientGone = true
		panic(http.ErrAbortHandler)
	case errors.Is(err, errBodyRead):
		if errors.Is(err, os.ErrDeadlineExceeded) {
			x.answer(w, http.StatusRequestTimeout, "the request body did not come in time")
			return
		}
		x.answer(w, http.StatusBadRequest, "the request body is malformed or incomplete")
	case errors.As(err, &timeout) && timeout.Timeout():
		x.answer(w, http.StatusGatewayTimeout, "the backend did not answer in time")
	default:
		x.answer(w, http.StatusBadGateway, "the backend could not be reached or gave no valid answer")
	}
}
