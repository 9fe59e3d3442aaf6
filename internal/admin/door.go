package admin

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
)

// peer is who has connected.
type peer struct {
	uid uint32
	err error // it is not known
}

type peerKey struct{}

// refusal tells one why who may not.
func (p peer) refusal() string {
	if p.err != nil {
		return fmt.Sprintf("who asks is not known: %v", p.err)
	}
	return fmt.Sprintf("user %d may not; root and user %d may", p.uid, os.Geteuid())
}

// door is the control socket as the server uses it: of those who may not ask it lets only a few in at a time, to be told so, and none of their connections takes
// the place of a client's.
type door struct {
	*Socket
	gate      gate
	strangers chan struct{}
}

func newDoor(s *Socket) *door { return &door{Socket: s, strangers: make(chan struct{}, maxStrangers)} }

// Accept returns the next connection that is let in.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.AcceptUnix()
		if err != nil {
			return nil, err
		}
		c := &caller{UnixConn: conn}
		if c.peer.uid, c.peer.err = peerUID(conn); d.gate.grant(c.peer) != nil {
			return c, nil
		}
		select {
		case d.strangers <- struct{}{}:
			c.left = sync.OnceFunc(func() { <-d.strangers })
			return c, nil
		default:
			conn.Close()
		}
	}
}

// caller is a connection, and whose it is.
type caller struct {
	*net.UnixConn
	peer  peer
	left  func() // nil for one who may ask
	first *bufio.Reader
}

// Read reads, with what was looked at to know what the connection speaks.
func (c *caller) Read(p []byte) (int, error) { return c.first.Read(p) }

// Close closes the connection.
func (c *caller) Close() error {
	if c.left != nil {
		c.left()
	}
	return c.UnixConn.Close()
}

// withPeer notes whose connection it is.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, c.(*caller).peer)
}
