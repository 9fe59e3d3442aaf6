package tunnel

import (
	"errors"
	"net"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// Transport makes conn, a TCP connection or a Unix socket, fit for a TLS connection that is to become an end of a
// tunnel. It is put under tls.Server or tls.Client before the handshake, and owns conn.
func Transport(conn net.Conn) net.Conn { return reactor.NewTransport(conn) }

// New makes a tunnel between two ends; [Tunnel.Start] sets it going. Both are put on an event loop, as TCP connections, Unix sockets,
// and TLS connections over a [Transport] can be.
func New(client, backend End, opts Options) *Tunnel {
	t := &Tunnel{ends: &[2]End{client, backend}, loops: opts.Loops}
	t.init(opts)
	return t
}

// Start moves bytes until both ends are done, then closes both and calls done, once, on the tunnel's loop, which must not be kept, or on a
// goroutine where it can't be put on one. It returns at once.
func (t *Tunnel) Start(done func(Result)) {
	t.done = done
	ends := t.ends
	t.ends = nil
	client, backend, err := t.adopt(ends)
	if err != nil {
		go done(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
		return
	}
	loops := t.loops
	t.loops = nil
	if loops == nil {
		if loops, err = shared.acquire(); err != nil {
			client.Close()
			backend.Close()
			go done(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
			return
		}
		t.shares = true
	}
	loop := loops.Pick()
	t.client.conn, t.backend.conn = client, backend
	posted := loop.Post(func() {
		t.loop.Store(loop)
		if err := errors.Join(loop.Add(client, &t.client), loop.Add(backend, &t.backend)); err != nil {
			t.note(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
			t.finish()
			return
		}
		client.SetKeepAlive(KeepAlive)
		backend.SetKeepAlive(KeepAlive)
		client.Do(func() { t.begin(ends[0].Early, ends[1].Early) })
	})
	if !posted {
		client.Close()
		backend.Close()
		t.release()
		go done(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: net.ErrClosed})
		return
	}
	t.loop.Store(loop) // whoever sees it posts behind begin
}

// adopt takes both connections over. If one can't be had, both are closed.
func (t *Tunnel) adopt(ends *[2]End) (client, backend *reactor.Conn, err error) {
	if client, err = reactor.Adopt(ends[0].Conn); err != nil {
		ends[0].Conn.Close()
		ends[1].Conn.Close()
		return nil, nil, err
	}
	if backend, err = reactor.Adopt(ends[1].Conn); err != nil {
		client.Close()
		ends[1].Conn.Close()
		return nil, nil, err
	}
	return client, backend, nil
}
