package proxy

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"sync"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/route"
	"wstunnel/internal/session"
	"wstunnel/internal/static"
)

// turnBytes is how much of a file a client is sent before others have their turn.
const turnBytes = 512 << 10

// pieces are what goroutines read into.
var pieces = sync.Pool{New: func() any { return new(piece) }}

type piece [64 << 10]byte

// download is an answer from a directory on its way to a client. It belongs to the loop, but while it waits for a disk.
type download struct {
	search
	said   head.Fields     // by the application that has named the file
	parts  []static.Part   // that are still to be sent
	client *session.Client // where the file can stay inside the kernel, or nil

	away   bool   // waits for a disk
	piece  *piece // that was read there, until it is written
	length int    // of what piece holds
	err    error  // of finding or reading
}

// serve answers from the location's directory.
func (d *download) serve() {
	if len(d.x.location.TryFiles) == 0 && !d.mayAnswer() {
		d.x.give(onlyGet())
		return
	}
	if d.tries == nil {
		d.tries = d.x.tries()
	}
	d.err = d.find(d.findNow)
	if errors.Is(d.err, reactor.ErrWouldWait) {
		d.x.hold() // the body may be for somebody else
		d.offload(d.findSlowly, d.foundSlowly)
		return
	}
	d.found()
}

// mayAnswer reports whether the request can be answered with a file. One that an application has named answers any.
func (d *download) mayAnswer() bool { return d.named != "" || mayBeFile(d.x.in.Request) }

// foundSlowly answers, and lets the request's body come to whoever does.
func (d *download) foundSlowly() {
	d.found()
	d.x.release()
}

// findSlowly finds the file on a goroutine.
func (d *download) findSlowly() {
	d.err = d.find(d.x.server.files.Find)
	if d.err == nil && d.listed != "" {
		var entries []listed
		if entries, d.err = listDirectory(d.x.location.Directory(), d.listed, d.x.location.ServeSources); d.err == nil {
			d.page = listing(d.x.in.Path, entries)
		}
	}
}

// findNow finds a file on the loop.
func (d *download) findNow(v static.Variant) (*static.File, error) {
	s := d.x.server
	return s.files.FindNow(s.clients.rooms[d.x.client.Conn().Loop()].recent, v)
}

// offload has work done that may wait for a disk, and goes on then if the exchange does.
func (d *download) offload(work, then func()) {
	d.away, d.err = true, reactor.ErrWouldWait // until it is done
	conn := d.x.client.Conn()
	conn.Loop().Offload(work, func() {
		d.away = false
		if d.x.over {
			d.leave()
			return
		}
		conn.Do(then)
	})
}

// found answers, when it is known what there is.
func (d *download) found() {
	x := d.x
	switch {
	case d.err != nil:
		d.notFound()
		return
	case !d.mayAnswer():
		x.give(onlyGet())
		return
	case d.listed != "" && d.page == nil: // a directory is read on a goroutine
		d.offload(d.findSlowly, d.found)
		return
	case d.listed != "":
		x.give(d.page)
		return
	case d.lacksSlash:
		x.give(x.redirectToDirectory())
		return
	}
	a, refused := x.answerFile(d.file)
	if refused != nil {
		x.give(refused)
		return
	}
	a.Fields = sayOf(a.Fields, d.said)
	if x.in.Request.Method == http.MethodHead {
		a.Fields.Add(head.ContentLength, strconv.FormatInt(a.Length, 10))
	} else {
		d.parts = a.Parts
	}
	x.respond(a.Status, a.Fields, a.Length)
	if client, ok := x.client.(*session.Client); ok && a.Length > static.ShortMost && client.SendsFiles() {
		d.client = client
	}
	d.send()
}

// TurnEnded goes on when others have had their turn.
func (d *download) TurnEnded() {
	if !d.x.over {
		d.x.client.Conn().Do(d.send)
	}
}

// send sends for a turn, or as long as the client takes it.
func (d *download) send() {
	x := d.x
	for sent := 0; sent < turnBytes; {
		if !d.nextPart() {
			x.complete(nil)
			return
		}
		n, err := d.sendPiece(turnBytes - sent)
		sent += n
		switch {
		case errors.Is(err, reactor.ErrWouldWait):
			d.file.Rest()
			d.offload(d.read, d.sendRead)
			return
		case err != nil:
			d.fail(err)
			return
		case x.over:
			return
		case x.client.Pending() > 0:
			d.file.Rest()
			return
		}
	}
	d.file.Rest()
	x.client.Flush()
	x.client.Conn().Loop().AtTurnsEnd(d)
}

// nextPart goes on to the next part that is not sent yet. It reports false where there is none.
func (d *download) nextPart() bool {
	for len(d.parts) > 0 && d.parts[0].Before == "" && d.parts[0].Length == 0 {
		d.parts = d.parts[1:]
	}
	return len(d.parts) > 0
}

// sendPiece sends at most so many bytes of the next part, as far as they are in the kernel's cache.
func (d *download) sendPiece(most int) (n int, err error) {
	part := &d.parts[0]
	if part.Before != "" {
		d.x.sent += int64(len(part.Before))
		d.x.client.Write([]byte(part.Before))
		part.Before = ""
	}
	if most = int(min(int64(most), part.Length)); most == 0 {
		return 0, nil
	}
	if err := d.file.OpenNow(); err != nil {
		return 0, err
	}
	if d.client != nil {
		n, err = d.client.SendFile(d.file.Opened(), part.Offset, most)
		d.sent(n)
		return n, err
	}
	p, err := d.file.ReadNow(d.x.client.Worker().Piece(min(most, d.x.client.Room())), part.Offset)
	if err == nil {
		d.sent(len(p))
		d.x.client.Write(p)
	}
	return len(p), err
}

func (d *download) sent(n int) {
	d.x.sent += int64(n)
	d.parts[0].Offset += int64(n)
	d.parts[0].Length -= int64(n)
}

// read reads the next piece from the disk.
func (d *download) read() {
	d.piece = pieces.Get().(*piece)
	part := &d.parts[0]
	d.length, d.err = d.file.ReadAt(d.piece[:min(part.Length, int64(len(d.piece)))], part.Offset)
}

// sendRead sends what was read.
func (d *download) sendRead() {
	if d.err != nil {
		d.fail(d.err)
		return
	}
	d.sent(d.length)
	d.x.client.Write(d.piece[:d.length])
	d.putPiece()
	switch {
	case d.x.over:
	case d.x.client.Pending() > 0:
		d.file.Rest()
	default:
		d.send()
	}
}

// drained goes on when the client has taken what it was sent.
func (d *download) drained() {
	if !d.away {
		d.send()
	}
}

// fail ends an answer that has begun.
func (d *download) fail(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = static.ErrChanged
	}
	d.x.abort(err)
}

// data drops what a request has of a body: nobody reads it.
func (d *download) data([]byte) {}

// whole is of no interest.
func (d *download) whole(head.Fields) {}

// leave lets go of what the download holds, once nothing is read for it any more.
func (d *download) leave() {
	if d.away {
		return
	}
	d.putPiece()
	d.close()
}

func (d *download) putPiece() {
	if d.piece != nil {
		pieces.Put(d.piece)
		d.piece = nil
	}
}

func onlyGet() *answer {
	a := textAnswer(http.StatusMethodNotAllowed, "only GET and HEAD are served here")
	a.add("Allow", "GET, HEAD")
	return a
}

// answerFile answers with what was found, or refuses.
func (x *exchange) answerFile(file *static.File) (a static.Answer, refused *answer) {
	fields := x.addExpires(x.answerFields())
	if x.location.Precompressed {
		fields.Add(head.Vary, "Accept-Encoding")
	}
	if a = file.Representation(time.Now()).Answer(fields, x.in.Request, x.start); a.Refusal != "" {
		refused = textAnswer(a.Status, a.Refusal)
		refused.fields = append(refused.fields, a.Fields...)
	}
	return a, refused
}

// addExpires says how long a file may be kept without asking again.
func (x *exchange) addExpires(fields head.Fields) head.Fields {
	e := x.location.Expires
	switch {
	case !e.Set:
	case e.For < 0:
		fields.Add(head.CacheControl, "no-cache")
		fields = append(fields, head.Field{Name: "Expires", Value: time.Unix(0, 0).UTC().Format(http.TimeFormat)})
	default:
		fields.Add(head.CacheControl, "max-age="+strconv.FormatInt(int64(e.For/time.Second), 10))
		fields = append(fields, head.Field{Name: "Expires", Value: x.start.Add(e.For).UTC().Format(http.TimeFormat)})
	}
	return fields
}

// redirectToDirectory sends the client to the directory's name with its slash, on which relative links depend.
func (x *exchange) redirectToDirectory() *answer {
	a := textAnswer(http.StatusMovedPermanently, "a directory's name ends in a slash")
	a.fields.Add(head.Location, route.Escape(x.in.Path)+"/"+x.in.Query())
	return a
}

func noSuchFile() *answer { return textAnswer(http.StatusNotFound, "no such file") }

// answerFileError answers for a file that can't be opened. What lies outside the root, or behind a file, does not exist.
func (x *exchange) answerFileError(err error) *answer {
	if errors.Is(err, fs.ErrPermission) {
		x.err = err
		return textAnswer(http.StatusForbidden, "the file may not be read")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		x.err = err
	}
	if static.IsTrouble(err) {
		a := textAnswer(http.StatusServiceUnavailable, "the file can't be read now")
		a.fields.Add(head.RetryAfter, "1")
		return a
	}
	return noSuchFile()
}
