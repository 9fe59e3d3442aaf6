//go:build !linux || portable

package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
)

// copyBuffers are the buffers that bodies pass through.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// upload is a request on its way to the backend.
type upload struct {
	w           *responseWriter
	conn        *backendConn
	headTimeout time.Duration // for the response head; runs from the end of the request
	done        chan struct{} // closed when nothing more is written

	mu        sync.Mutex
	whole     bool // the body has come to its end, and its last bytes are being written
	head      bool // the response head that counts has come
	abandoned bool
	err       error
}

// startUpload writes the head, in one write, and then the body in a goroutine of its own, which [upload.abandon] waits for.
func startUpload(w *responseWriter, r *http.Request, conn *backendConn, out *head.Request, headTimeout time.Duration) (*upload, error) {
	up := &upload{w: w, conn: conn, headTimeout: headTimeout, done: make(chan struct{})}
	if names := headerNames(r.Trailer); names != "" {
		fields := fieldsOf(r.Header)
		fields.Add(head.Trailer, names)
		out.Fields = announce(out.Fields, fields)
	}
	conn.SetWriteDeadline(time.Now().Add(headTimeout))
	if _, err := conn.Write(http1.AppendRequest(make([]byte, 0, 1024), out)); err != nil {
		return nil, err
	}
	if r.ContentLength == 0 {
		conn.SetReadDeadline(time.Now().Add(headTimeout))
		up.whole = true
		close(up.done)
		return up, nil
	}
	go up.send(r)
	return up, nil
}

func headerNames(h http.Header) string { return strings.Join(slices.Sorted(maps.Keys(h)), ", ") }

// send copies the body. If the client fails, the backend's connection is closed, so that it can't take half a body
// for a whole one; if the backend fails, it may still have answered.
func (u *upload) send(r *http.Request) {
	defer close(u.done)
	err := u.copy(r)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
	switch {
	case errors.Is(err, errBodyRead):
		u.conn.Close()
	case !u.head:
		u.conn.SetReadDeadline(time.Now().Add(u.headTimeout))
	}
}

func (u *upload) copy(r *http.Request) error {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	wire := bufio.NewWriterSize(u.conn, len(buf)+64) // a piece and its chunk header leave in one write
	var body io.Writer = wire
	var chunks io.WriteCloser
	if r.ContentLength < 0 {
		chunks = httputil.NewChunkedWriter(wire)
		body = chunks
	}
	for {
		n, err := u.read(r.Body, buf[:])
		u.conn.SetWriteDeadline(time.Now().Add(u.headTimeout))
		if n > 0 {
			if _, err := body.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBodyRead, err)
		}
		if err := wire.Flush(); err != nil {
			return err
		}
	}
	if chunks != nil {
		chunks.Close()
		wire.Write(append(http1.AppendFields(nil, rewriteTrailers(fieldsOf(r.Trailer), fieldsOf(r.Header)), false), "\r\n"...))
	}
	return wire.Flush()
}

// read reads the next piece of the body, which the client has clientStall to send.
func (u *upload) read(body io.Reader, p []byte) (int, error) {
	u.mu.Lock()
	if u.abandoned {
		u.mu.Unlock()
		return 0, errors.New("nobody wants the rest")
	}
	u.w.rc.SetReadDeadline(time.Now().Add(clientStall))
	u.mu.Unlock()
	n, err := body.Read(p)
	if err == io.EOF {
		u.mu.Lock()
		u.whole = true
		u.w.rc.SetReadDeadline(time.Time{})
		u.mu.Unlock()
	}
	return n, err
}

// answered notes that the response head has come: no time runs for it any more.
func (u *upload) answered() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.head = true
	u.conn.SetReadDeadline(time.Time{})
}

// isWhole reports whether the body has come to its end. A backend that answers before that may not read the rest.
func (u *upload) isWhole() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.whole
}

// failure returns what went wrong so far.
func (u *upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// sentGrace is how long a complete response waits for the end of the write that sent its request's last bytes: an instant, if the
// backend has read them.
const sentGrace = 100 * time.Millisecond

// sent reports whether all of the request went out.
func (u *upload) sent() bool {
	select {
	case <-u.done:
		return u.failure() == nil
	default:
	}
	grace := time.NewTimer(sentGrace)
	defer grace.Stop()
	select {
	case <-u.done:
		return u.failure() == nil
	case <-grace.C:
		return false
	}
}

// abandon ends what is left of the upload; the backend's connection is closed or has it all. Afterwards the request's body
// is nobody's.
func (u *upload) abandon() {
	u.mu.Lock()
	u.abandoned = true
	select {
	case <-u.done:
	default:
		if !u.w.body.ended.Load() {
			u.w.rc.SetReadDeadline(time.Unix(1, 0))
		}
	}
	u.mu.Unlock()
	<-u.done
}
