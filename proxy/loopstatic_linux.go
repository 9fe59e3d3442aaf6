//go:build linux && !portable

package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// filePiece is how much of a file is read at a time.
const filePiece = 128 << 10

var filePieces = sync.Pool{New: func() any { return new([filePiece]byte) }}

// A stream over HTTP/2 shares its connection with others, and what it may have waiting is less.
const streamPiece = 64 << 10

var streamPieces = sync.Pool{New: func() any { return new([streamPiece]byte) }}

var errClientGone = errors.New("the client is gone")

// fileAnswer is an answer from a directory, which is made on a goroutine: a disk may be cold. It is a ResponseWriter there. What it is given goes to the
// loop, a piece at a time: the next one is read when the client has taken the one before.
type fileAnswer struct {
	x      *loopExchange
	header http.Header
	client *session.Client // nil for a stream over HTTP/2
	piece  []byte          // nil until there is something to send
	length int
	most   int // of a piece

	// These belong to the goroutine until a piece is on its way, and then to the loop until it is taken.
	status int
	sent   bool // the head has left

	pipe    *reactor.Pipe // for the next piece of a file, or nil
	waiting bool          // for the client to take a piece; belongs to the loop
	taken   chan bool     // whether to go on
}

// sendFile answers from the location's directory.
func (x *loopExchange) sendFile() {
	request := x.in.request
	f := &fileAnswer{x: x, header: http.Header{}, taken: make(chan bool, 1), most: filePiece}
	if f.client = x.Sink(); f.client == nil {
		f.most = x.client.Room()
	}
	x.file = f
	own := *x.exchange // the loop goes on with its own
	r := &http.Request{
		Method: request.Method, RequestURI: x.in.target, Host: request.Host, Header: headerOf(request.Fields),
		ProtoMajor: 1, ProtoMinor: request.Minor,
	}
	go func() {
		defer f.end(&own)
		own.static(newResponseWriter(f, r, nil), r)
	}()
}

// Header implements [http.ResponseWriter].
func (f *fileAnswer) Header() http.Header { return f.header }

// WriteHeader implements [http.ResponseWriter].
func (f *fileAnswer) WriteHeader(status int) { f.status = status }

// Write implements [http.ResponseWriter].
func (f *fileAnswer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		room := f.room()
		m := copy(room, p)
		f.length += m
		n, p = n+m, p[m:]
		if m == len(room) {
			if err := f.push(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// ReadFrom reads pieces as large as they are sent. Of a long file, to a client without TLS, they move inside the kernel.
func (f *fileAnswer) ReadFrom(r io.Reader) (n int64, err error) {
	if limited, ok := r.(*io.LimitedReader); ok && limited.N > filePiece {
		if file, ok := limited.R.(*os.File); ok {
			if n, err = f.splice(file, limited); err != nil {
				return n, err
			}
		}
	}
	for {
		room := f.room()
		m, err := io.ReadFull(r, room)
		f.length += m
		n += int64(m)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return n, nil
		case err != nil:
			return n, err
		}
		if err := f.push(); err != nil {
			return n, err
		}
	}
}

// splice sends what there are pipes for.
func (f *fileAnswer) splice(file *os.File, limited *io.LimitedReader) (n int64, err error) {
	err = f.push() // the head
	for err == nil && f.pipe != nil && limited.N > 0 {
		moved, _ := f.pipe.FillFile(file, int(min(limited.N, filePiece)))
		if moved == 0 {
			return n, nil // copying will tell why
		}
		n += int64(moved)
		limited.N -= int64(moved)
		err = f.push()
	}
	return n, err
}

// room returns where the next bytes go.
func (f *fileAnswer) room() []byte {
	if f.piece == nil {
		f.takePiece()
	}
	return f.piece[f.length:f.most]
}

func (f *fileAnswer) takePiece() {
	if f.client != nil {
		f.piece = filePieces.Get().(*[filePiece]byte)[:]
	} else {
		f.piece = streamPieces.Get().(*[streamPiece]byte)[:]
	}
}

// putPiece gives back the memory of a piece that was written.
func (f *fileAnswer) putPiece() {
	switch len(f.piece) {
	case filePiece:
		filePieces.Put((*[filePiece]byte)(f.piece))
	case streamPiece:
		streamPieces.Put((*[streamPiece]byte)(f.piece))
	}
	f.piece = nil
}

// push sends a piece, and waits until the client has taken it.
func (f *fileAnswer) push() error {
	if !f.post(func() { f.deliver(false) }) || !<-f.taken {
		return errClientGone
	}
	f.length = 0
	return nil
}

// post runs a function on the exchange's loop.
func (f *fileAnswer) post(then func()) bool {
	conn := f.x.client.Conn()
	return conn.Loop().Post(func() { conn.Do(then) })
}

// end sends the last piece, when all is written. A fault ends the connection.
func (f *fileAnswer) end(own *exchange) {
	if fault := recover(); fault != nil {
		own.err = fmt.Errorf("internal fault: %v", fault)
		own.server.log.Error("internal fault", "fault", fault, "path", own.in.path, "stack", string(debug.Stack()))
		f.status, f.length = 0, 0
	}
	f.post(func() {
		if !f.x.over {
			f.x.err = own.err
		}
		f.deliver(true)
		f.putPiece()
		if f.pipe != nil {
			f.client.PutPipe(f.pipe)
		}
	})
}

// deliver gives a piece to the client, on the loop.
func (f *fileAnswer) deliver(last bool) {
	x := f.x
	if x.over {
		f.goOn(false)
		return
	}
	var p []byte
	if f.piece != nil {
		p = f.piece[:f.length]
	}
	if !f.sent {
		f.begin(last)
	}
	x.sent += int64(len(p))
	x.client.Write(p)
	if f.pipe != nil && f.pipe.Held() > 0 {
		x.sent += int64(f.pipe.Held())
		f.client.WritePipe(f.pipe)
		f.pipe = nil
	}
	switch {
	case x.over:
		f.goOn(false)
	case last && f.status == 0:
		x.finish()
		x.client.Abort()
	case last:
		x.finish()
		x.client.End(nil)
	default:
		x.client.Flush()
		if f.waiting = x.client.Pending() > 0; f.waiting {
			f.putPiece()
		} else {
			f.next()
		}
	}
}

// next lets the goroutine make the next piece.
func (f *fileAnswer) next() {
	if f.pipe == nil && f.client != nil {
		f.pipe = f.client.Pipe()
	}
	f.goOn(true)
}

// drained says that the client has taken all there was.
func (f *fileAnswer) drained() {
	if f.waiting {
		f.waiting = false
		f.next()
	}
}

// begin writes the head of the answer. Where it is whole it has the length that it has.
func (f *fileAnswer) begin(whole bool) {
	x := f.x
	f.sent = true
	fields := slices.DeleteFunc(fieldsOf(f.header), func(f head.Field) bool { return f.ID == head.Connection })
	length := int64(head.Unknown)
	if n, err := strconv.ParseInt(fields.Get(head.ContentLength), 10, 64); err == nil {
		length = n
	} else if whole {
		length = int64(f.length)
	}
	x.addHSTS(&fields)
	x.status = f.status
	x.client.Respond(&head.Response{Status: f.status, Fields: fields, Length: length})
}

// goOn lets the goroutine go on, or end.
func (f *fileAnswer) goOn(on bool) {
	select {
	case f.taken <- on:
	default:
	}
}
