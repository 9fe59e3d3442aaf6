//go:build !linux || portable

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
)

// errBodyRead marks a request body that the client did not deliver as it announced.
var errBodyRead = errors.New("reading the request body")

// forward carries one exchange to a backend and its response back, both streamed.
func (x *exchange) forward(w *responseWriter, r *http.Request, u *upstream) {
	out := rewriteRequest(nil, &x.in, x.location, u.target, "")
	out.Close = r.ContentLength != 0 && !http1.BodyExpected(r.Method) || u.target.KeepAlive == 0
	resp, up, err := x.roundTrip(w, r, u, out)
	if up != nil {
		defer up.abandon()
	}
	if err != nil {
		x.fail(w, err)
		return
	}
	early := !up.isWhole()
	clean, err := x.respond(w, resp, u)
	left := resp.conn.detach()
	if err == nil && left && clean && !early && !resp.Close && !out.Close && up.sent() {
		resp.conn.release()
		return
	}
	resp.conn.Close()
	if err != nil {
		x.abort(w, err)
	}
}

// abort ends the client's connection, or its HTTP/2 stream, in the middle of a response: a shortened answer must not look
// whole. An HTTP/1.0 client, whose answer ends with the connection, can tell by a reset only.
func (x *exchange) abort(w *responseWriter, err error) {
	x.err = err
	if !x.in.request.AtLeast11() {
		w.client.resetOnClose()
	}
	panic(http.ErrAbortHandler)
}

func resetOnClose(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = socketUnder(secure)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}

// socketUnder returns the connection that carries TLS.
func socketUnder(secure *tls.Conn) net.Conn {
	conn := secure.NetConn()
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return wrapped.NetConn()
	}
	return conn
}

// roundTrip sends the request and reads the response head. A kept-alive connection that proves stale is replaced
// once, if the request can be sent twice. Response and upload belong to the caller; there may be an upload beside an error.
func (x *exchange) roundTrip(w *responseWriter, r *http.Request, u *upstream, out *head.Request) (*backendResponse, *upload, error) {
	repeatable := r.ContentLength == 0 && idempotent(r.Method)
	maxIdle := idleConnLife
	switch {
	case out.Close:
		maxIdle = 0
	case !repeatable:
		maxIdle = freshConn
	}
	for {
		conn, err := u.attempt().conn(r.Context(), x.location.Timeouts.Connect, maxIdle)
		if err != nil {
			return nil, nil, err
		}
		x.attach(r.Context(), conn)
		resp, up, err := x.exchangeHeads(w, r, conn, out)
		if err == nil {
			return resp, up, nil
		}
		conn.detach()
		conn.Close()
		if !conn.reused && !conn.answered {
			err = conn.pool.diagnose(r.Context(), err)
		}
		if !conn.reused || !repeatable || !isStale(err) {
			return nil, up, err
		}
		maxIdle = 0
	}
}

// isStale reports an error that says that the backend closed the connection before it saw the request.
func isStale(err error) bool {
	var timeout net.Error
	return err == io.EOF || errors.As(err, &timeout) && !timeout.Timeout()
}

// attach ends the backend's part when the client goes away.
func (x *exchange) attach(ctx context.Context, conn *backendConn) {
	x.backend = conn.pool.address
	conn.detach = context.AfterFunc(ctx, func() { conn.Close() })
}

// exchangeHeads sends the request on a connection, its body in the background, and reads heads until the one that
// counts. 1xx heads go on to the client as they come (RFC 9110, section 15.2).
func (x *exchange) exchangeHeads(w *responseWriter, r *http.Request, conn *backendConn, out *head.Request) (*backendResponse, *upload, error) {
	up, err := startUpload(w, r, conn, out, x.location.Timeouts.ResponseHead)
	if err != nil {
		return nil, nil, err
	}
	for range maxInformational {
		resp, err := conn.readResponse(r.Method)
		if err != nil {
			if r.Context().Err() != nil {
				<-up.done // the client's part has broken off; the upload knows why, or will at once
			}
			if failed := up.failure(); errors.Is(failed, errBodyRead) {
				err = failed
			}
			return nil, up, err
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, up, errors.New("the backend switched protocols, which nobody had asked for")
		case resp.StatusCode >= 200:
			up.answered()
			return resp, up, nil
		case resp.StatusCode != http.StatusContinue:
			w.informational(r, resp)
		}
	}
	return nil, up, fmt.Errorf("more than %d informational responses", maxInformational)
}

// respond passes the response on and reports whether its end left the connection in step.
func (x *exchange) respond(w *responseWriter, resp *backendResponse, u *upstream) (clean bool, err error) {
	fields := fieldsOf(resp.Header)
	rewritten := rewriteResponse(nil, fields, resp.StatusCode, &x.in, x.location, u.target)
	x.hintAtHTTPS(resp.StatusCode, rewritten)
	h := w.Header()
	for _, f := range rewritten {
		if f.ID == head.Upgrade {
			x.offerWebSocket(w)
		} else {
			h[f.Name] = append(h[f.Name], f.Value)
		}
	}
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // no guess of ours
	}
	announced := headerOf(rewriteTrailers(namesOf(resp.Trailer), fields))
	for name := range announced {
		h.Add("Trailer", name)
	}
	w.WriteHeader(resp.StatusCode)
	if err := x.copyBody(w, resp); err != nil {
		return false, err
	}
	for name, values := range headerOf(rewriteTrailers(fieldsOf(resp.Trailer), fields)) {
		if _, ok := announced[name]; !ok {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
	return resp.delimited, nil
}

// copyBody copies a response body. Whenever the backend pauses, what came so far is flushed: an event, half a page. A backend that pauses for
// longer than response_body has broken off.
func (x *exchange) copyBody(w *responseWriter, resp *backendResponse) error {
	if resp.body == http.NoBody {
		return nil
	}
	exact, isExact := resp.body.(*exactBody)
	flush := func() {
		if resp.conn.br.Buffered() == 0 && (!isExact || exact.left > 0) {
			w.FlushError()
		}
	}
	flush()
	if isExact {
		if err := x.spliceBody(w, resp.conn, exact); err != nil {
			return err
		}
	}
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	defer resp.conn.SetReadDeadline(time.Time{})
	for {
		if !isExact || resp.conn.br.Buffered() == 0 {
			resp.conn.SetReadDeadline(time.Now().Add(x.location.Timeouts.ResponseBody))
		}
		n, err := resp.body.Read(buf[:])
		if n > 0 {
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

const (
	// spliceMin is the length from which a body moves inside the kernel where it can.
	spliceMin = 64 << 10
	// kernelReadWait is how long the kernel waits for the next bytes of it at most, so that the time of the last one is known well enough.
	kernelReadWait = time.Second
)

// spliceBody moves what it can of a long body between two plain connections, and leaves the rest to the caller.
func (x *exchange) spliceBody(w *responseWriter, conn *backendConn, body *exactBody) error {
	src, ok := conn.Conn.(*net.TCPConn)
	if !ok || w.client == nil || body.left < spliceMin {
		return nil
	}
	if _, plain := w.client.Conn.(*net.TCPConn); !plain {
		return nil
	}
	defer conn.SetReadDeadline(time.Time{})
	patience := x.location.Timeouts.ResponseBody
	lastByte := time.Now()
	for body.left > 0 {
		// The kernel's wait for the client is bounded. What it waits for the backend must not count, so that
		// waiting is done here.
		conn.SetReadDeadline(lastByte.Add(patience))
		if _, err := conn.br.Peek(1); err != nil {
			return fmt.Errorf("reading the response body: %w", noEOF(err))
		}
		held := min(body.left, int64(conn.br.Buffered()))
		moved, err := w.ReadFrom(io.LimitReader(conn.br, held))
		body.left -= moved
		if err != nil {
			return fmt.Errorf("writing to the client: %w", err)
		}
		if body.left == 0 {
			break
		}
		w.FlushError()
		start := time.Now()
		lastByte = start
		conn.SetReadDeadline(start.Add(min(patience/4, kernelReadWait)))
		moved, err = w.ReadFrom(&io.LimitedReader{R: src, N: min(body.left, kernelCopyStep)})
		body.left -= moved
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(start) < kernelCopyStall {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("passing on the response body: %w", err)
		}
		if moved > 0 {
			lastByte = time.Now()
		}
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fail answers for a backend that did not, unless a request body broke off, which is the client's fault.
func (x *exchange) fail(w *responseWriter, err error) {
	x.err = err
	switch {
	case errors.Is(err, errBodyRead) && errors.Is(err, os.ErrDeadlineExceeded):
		x.answer(w, http.StatusRequestTimeout, "the request body did not come in time")
	case x.ctx.Err() != nil && !errors.Is(err, errChunk):
		x.clientGone = true
		panic(http.ErrAbortHandler)
	case errors.Is(err, errBodyRead):
		x.answer(w, http.StatusBadRequest, "the request body is malformed or incomplete")
	default:
		x.send(w, answerForFailure(err))
	}
}
