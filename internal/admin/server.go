package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Bounds of what a peer may send.
const (
	headTimeout = 5 * time.Second
	maxHead     = 16 << 10
	maxBody     = 2 << 20 // a message as JSON, or base64, may have it
	// smallBody is what a body may have beyond which only maxLarge are held at a time.
	smallBody = 64 << 10
	maxLarge  = 32
	// longest is how long an answer may take in any case: a reload, or an upgrade.
	longest = 15 * time.Minute
	// maxStrangers is how many connections of those who may not ask are open at a time.
	maxStrangers = 16
	// maxCallers is how many connections of those who may are, on the control socket, and as many over TCP.
	maxCallers = 256
)

// Server answers on the control socket.
type Server struct {
	http   *http.Server
	sorter *sorter
	end    context.CancelFunc // of what lines have ordered
}

// Serve answers on a socket until the server is closed. The server owns the socket.
func (d *Desk) Serve(socket *Socket) *Server {
	s := &Server{sorter: &sorter{
		door: newDoor(socket, &d.gate), desk: d, crowd: newCrowd(d.most), asking: make(chan net.Conn), closed: make(chan struct{}),
	}}
	s.sorter.ctx, s.end = context.WithCancel(context.Background())
	s.http = d.newHTTP(s.sorter.crowd, s.answer)
	s.sorter.all.Go(s.sorter.sort)
	go func() {
		if err := s.http.Serve(s.sorter); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("the control socket is closed", "error", err)
		}
	}()
	return s
}

// answer answers a request of whoever may ask. No page in a browser does, which would be sent there by somebody else.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	p := connectionOf(r.Context()).member.(*caller).peer
	g := s.sorter.desk.user(p)
	switch {
	case g == nil:
		refuse(w, http.StatusForbidden, p.refusal())
	case r.Header["Origin"] != nil:
		refuse(w, http.StatusForbidden, "requests of pages in browsers, which have an Origin, are not answered here")
	default:
		s.sorter.desk.serve(w, r, g)
	}
}

// lastAnswer is how long who has asked may still wait for an answer when the server is closed.
const lastAnswer = 500 * time.Millisecond

// Close ends the answering: who has been answered reads that to its end, and what takes longer is broken off.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswer)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.sorter.door.Close()
	s.sorter.crowd.unwatch()
	s.sorter.leave(false)
	talked := make(chan struct{})
	go func() {
		s.sorter.all.Wait()
		close(talked)
	}()
	select {
	case <-talked:
	case <-ctx.Done():
	}
	s.end()
	s.sorter.leave(true)
	s.sorter.all.Wait()
}

// Leave ends the listening, and the watching. Who has asked already has an answer, which may take as long as it does.
func (s *Server) Leave() {
	s.sorter.leave(false)
	go s.http.Shutdown(context.Background())
}
