package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Bounds of connections that speak in lines.
const (
	talkTimeout  = 10 * time.Minute // between two lines
	writeTimeout = 30 * time.Second // of one answer, or of a page of a list
	// How long after one that could not be accepted the next is tried: longer each time.
	minAcceptWait, maxAcceptWait = 5 * time.Millisecond, time.Second
)

// errNoRoom is said to connections beyond those that may be open.
var errNoRoom = &StatusError{http.StatusServiceUnavailable, errors.New(noRoomText)}

// requestLine is the first line of HTTP (RFC 9112, section 3): what ends otherwise is an order.
var requestLine = regexp.MustCompile(`^[A-Z]+ \S+ HTTP/1\.[01]\r?\n$`)

// sorter is a listener of the connections that speak HTTP. It answers those that speak in lines itself.
type sorter struct {
	*door
	desk   *Desk
	crowd  *crowd
	asking chan net.Conn
	closed chan struct{}
	ctx    context.Context // ends with the answering
	all    sync.WaitGroup
}

// sort takes connections in until the socket is closed. Where there is no room for one in the machine it waits for some.
func (s *sorter) sort() {
	defer close(s.closed)
	wait := minAcceptWait
	for {
		c, err := s.door.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.desk.log.Error("the control socket takes nobody in", "error", err, "again_in", wait)
			select {
			case <-time.After(wait):
			case <-s.ctx.Done():
				return
			}
			wait = min(2*wait, maxAcceptWait)
			continue
		}
		wait = minAcceptWait
		stranger := c.left
		c.left = func() {
			s.crowd.left(c)
			if stranger != nil {
				stranger()
			}
		}
		c.first = bufio.NewReaderSize(c.UnixConn, maxHead)
		g := s.desk.user(c.peer)
		in, late := s.crowd.admit(c, g != nil && g.owner)
		switch {
		case in:
			s.all.Go(func() { s.receive(c) })
		case late:
			s.all.Go(func() { s.turnAway(c) })
		default:
			c.Close()
		}
	}
}

// Accept returns the next connection that speaks HTTP.
func (s *sorter) Accept() (net.Conn, error) {
	select {
	case c := <-s.asking:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// turnAway tells a connection, in what it speaks, that there is no room.
func (s *sorter) turnAway(c *caller) {
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(farewell))
	_, isHTTP := peekLine(c.first)
	c.http.Store(isHTTP)
	c.dismiss()
}

// receive finds out what a connection speaks.
func (s *sorter) receive(c *caller) {
	c.SetReadDeadline(time.Now().Add(headTimeout))
	peeked, isHTTP := peekLine(c.first)
	if isHTTP {
		c.http.Store(true)
		c.SetReadDeadline(time.Time{})
		select {
		case s.asking <- c:
			return
		case <-s.closed:
		case <-s.ctx.Done():
		}
	} else if len(peeked) > 0 {
		s.talk(c)
	}
	c.Close()
}

// peekLine returns what there is of the first line, and whether it is one of HTTP.
func peekLine(r *bufio.Reader) (line []byte, isHTTP bool) {
	for n := 1; ; n = r.Buffered() + 1 {
		_, err := r.Peek(min(n, maxHead))
		line, _ = r.Peek(r.Buffered())
		for i, b := range line {
			if b == '\n' {
				return line[:i+1], requestLine.Match(line[:i+1])
			}
		}
		if err != nil || len(line) >= maxHead {
			return line, false
		}
	}
}

// talk answers line by line.
func (s *sorter) talk(c *caller) {
	w := bufio.NewWriter(c.UnixConn)
	lines := bufio.NewReader(c)
	for {
		line, err := readLine(lines)
		if len(line) == 0 && err != nil {
			return
		}
		c.SetWriteDeadline(time.Now().Add(writeTimeout))
		if !s.crowd.occupy(c, true) {
			return
		}
		grant := s.desk.user(c.peer)
		switch {
		case grant == nil:
			err = &StatusError{http.StatusForbidden, errors.New(c.peer.refusal())}
			tell(w, 0, err)
		case err != nil:
			tell(w, 0, err)
		default:
			err = s.obey(c, w, grant, strings.TrimSuffix(line, "\r"))
		}
		c.SetReadDeadline(time.Now().Add(talkTimeout))
		if w.Flush() != nil || err != nil || !s.crowd.occupy(c, false) {
			return
		}
	}
}

// readLine reads a line without its end. It fails for one that is too long, or that breaks off.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > maxLine:
			return string(line[:1]), &StatusError{http.StatusRequestEntityTooLarge, fmt.Errorf("a line has more than %d bytes", maxLine)}
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return string(line), &StatusError{http.StatusBadRequest, errors.New("the line has no end")}
		case err != nil:
			return "", err
		default:
			return string(line[:len(line)-1]), nil
		}
	}
}

// tell answers with a number, or with what is wrong.
func tell(w io.Writer, n int, err error) {
	if err == nil {
		fmt.Fprintf(w, "OK %d\n", n)
		return
	}
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*StatusError](err); ok {
		status = e.Status
	}
	fmt.Fprintf(w, "ERR %d %s\n", status, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// obey carries an order out, and answers. An error says that the answer could not be written.
func (s *sorter) obey(c *caller, w *bufio.Writer, g *Grant, line string) error {
	o, err := parseOrder(line)
	if err == nil {
		err = s.permit(g, &o)
	}
	if err != nil {
		tell(w, 0, err)
		return nil
	}
	switch o.verb {
	case listTunnels:
		return s.list(c, w, g)
	case watchEvents:
		return s.watch(c, w, g, o.name)
	}
	n, err := s.carryOut(g, &o)
	tell(w, n, err)
	return nil
}

// orderNeeds is what has to be granted for an order.
var orderNeeds = map[verb]Verbs{
	listTunnels: List, countThem: List, watchEvents: List,
	sendMessage: Send, sendUser: Send, sendGroup: Send, joinGroup: Group, leaveGroup: Group, kickTunnel: Kick, drainAll: Manage,
}

// permit fails where an order is not granted.
func (s *sorter) permit(g *Grant, o *lineOrder) error {
	if err := g.may(orderNeeds[o.verb]); err != nil {
		return err
	}
	switch o.verb {
	case drainAll:
		return g.mayAll(Manage)
	case sendMessage, joinGroup, leaveGroup, kickTunnel:
		return g.reach(s.desk.tunnels, o.name)
	}
	return nil
}

// carryOut carries out an order that a number answers.
func (s *sorter) carryOut(g *Grant, o *lineOrder) (n int, err error) {
	var p Pushed
	m := Message{Data: []byte(o.text)}
	switch o.verb {
	case countThem:
		return s.desk.tunnels.Count(g.Sites), nil
	case sendMessage:
		p, err = s.desk.tunnels.PushTo(s.ctx, o.name, m)
	case sendUser:
		p, err = s.desk.tunnels.Push(s.ctx, Audience{Users: []string{o.name}, Among: g.Sites}, m)
	case sendGroup:
		p, err = s.desk.tunnels.Push(s.ctx, Audience{Groups: []string{o.name}, Among: g.Sites}, m)
	case joinGroup:
		n, err = 1, s.desk.tunnels.Join(o.name, o.group)
	case leaveGroup:
		n, err = 1, s.desk.tunnels.Leave(o.name, o.group)
	case kickTunnel:
		n, err = 1, s.desk.tunnels.Kick(o.name, o.code, o.text)
	case drainAll:
		n, err = s.desk.service.Drain(DrainOrder{})
	}
	n += p.Written + p.Queued
	s.desk.note(g, strings.ToLower(string(o.verb)), n, err, "to", o.name)
	return n, err
}

// list writes each tunnel on a line, and an empty one behind them.
func (s *sorter) list(c *caller, w *bufio.Writer, g *Grant) error {
	lines := json.NewEncoder(w)
	f := Filter{Limit: maxPage, Among: g.Sites}
	for {
		page := s.desk.tunnels.List(f)
		c.SetWriteDeadline(time.Now().Add(writeTimeout))
		for i := range page.Tunnels {
			if err := lines.Encode(&page.Tunnels[i]); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return w.WriteByte('\n')
		}
		if _, err := fmt.Sscan(page.Next, &f.After); err != nil {
			return err
		}
	}
}

// leave ends the connections that wait for an order, and all others with theirs; with now, those too. Those that speak HTTP end with their server.
func (s *sorter) leave(now bool) {
	for _, m := range s.crowd.close(now) {
		if c := m.(*caller); now || !c.http.Load() {
			c.Close()
		}
	}
}
