package proxy_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// patient is a connection of which each read and each write has patience, however many there are, unless the test sets a deadline of its own.
type patient struct {
	net.Conn
	ownRead, ownWrite atomic.Bool
}

func (p *patient) Read(b []byte) (int, error) {
	if !p.ownRead.Load() {
		p.Conn.SetReadDeadline(time.Now().Add(patience))
	}
	return p.Conn.Read(b)
}

func (p *patient) Write(b []byte) (int, error) {
	if !p.ownWrite.Load() {
		p.Conn.SetWriteDeadline(time.Now().Add(patience))
	}
	return p.Conn.Write(b)
}

func (p *patient) SetReadDeadline(at time.Time) error {
	p.ownRead.Store(true)
	return p.Conn.SetReadDeadline(at)
}

func (p *patient) SetWriteDeadline(at time.Time) error {
	p.ownWrite.Store(true)
	return p.Conn.SetWriteDeadline(at)
}

func (p *patient) SetDeadline(at time.Time) error {
	p.ownRead.Store(true)
	p.ownWrite.Store(true)
	return p.Conn.SetDeadline(at)
}

// dialPatiently is for an [http.Transport].
func dialPatiently(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &patient{Conn: conn}, nil
}

// endHaste gives both directions patience again.
func (p *patient) endHaste() {
	p.ownRead.Store(false)
	p.ownWrite.Store(false)
}

// watch knows how much of a server's time has gone by, of which some goes by itself, and the more the slower the machine is.
type watch struct {
	f       *front
	began   time.Time
	skipped time.Duration
}

func (f *front) watch() *watch { return &watch{f: f, began: time.Now()} }

// turnTo turns the clock, which nobody else is to turn, until so much has gone by since the watch began.
func (w *watch) turnTo(d time.Duration) {
	if left := d - time.Since(w.began) - w.skipped; left > 0 {
		w.skipped += left
		w.f.server.Skip(left)
	}
}

// waits turns the server's clock, and expects nothing to have come by then, nor the end.
func (c *client) waits(f *front, d time.Duration) {
	c.t.Helper()
	f.server.Skip(d)
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer c.endHaste()
	if got, err := c.br.Peek(1); !os.IsTimeout(err) {
		c.t.Fatalf("%v later came %q, %v", d, got, err)
	}
}

// isAnswered reports whether something comes within a time. It looks twice: a deadline may have passed before the system is asked.
func (c *client) isAnswered(within time.Duration) bool {
	defer c.endHaste()
	for range 2 {
		c.SetReadDeadline(time.Now().Add(within / 2))
		if _, err := c.br.Peek(1); !os.IsTimeout(err) {
			return true
		}
	}
	return false
}

// stall writes until nothing is taken any more, not even a part of a piece, and returns how much was.
func (c *client) stall() (n int) {
	defer c.endHaste()
	for piece := make([]byte, 64<<10); ; {
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		m, err := c.Write(piece)
		if n += m; err != nil && (m == 0 || !os.IsTimeout(err)) {
			return n
		}
	}
}

// hurry turns the server's clock forward all the time, a hundred times as fast as it goes, until the returned function is called.
func (f *front) hurry() (end func()) {
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				f.server.Skip(100 * time.Millisecond)
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}
