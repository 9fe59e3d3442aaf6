package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// Bounds of what a peer may send.
const (
	headTimeout = 5 * time.Second
	maxHead     = 16 << 10
	maxBody     = 2 << 20 // a message as JSON, or base64, may have it
	// maxStrangers is how many connections of those who may not ask are open at a time.
	maxStrangers = 16
)

// Server answers on the control socket.
type Server struct {
	http   http.Server
	sorter *sorter
	end    context.CancelFunc // of what lines have ordered
}

// Serve answers on a socket until the server is closed. The server owns the socket.
func Serve(socket *Socket, service Service, tunnels Tunnels, log *slog.Logger) *Server {
	s := &Server{}
	door := newDoor(socket)
	s.http = http.Server{
		Handler: door.gate.onlyFor(handler(service, tunnels)), ReadHeaderTimeout: headTimeout, MaxHeaderBytes: maxHead, IdleTimeout: headTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), ConnContext: withPeer,
	}
	s.sorter = &sorter{
		door: door, service: service, tunnels: tunnels, asking: make(chan net.Conn), closed: make(chan struct{}), talks: map[*caller]bool{},
	}
	s.sorter.ctx, s.end = context.WithCancel(context.Background())
	s.sorter.all.Go(s.sorter.sort)
	go func() {
		if err := s.http.Serve(s.sorter); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket is closed", "error", err)
		}
	}()
	return s
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
	s.end()
	s.sorter.leave(true)
	s.sorter.all.Wait()
}

// Leave ends the listening. Who has asked already has an answer, which may take as long as it does.
func (s *Server) Leave() {
	s.sorter.leave(false)
	go s.http.Shutdown(context.Background())
}

// onlyFor lets those in who may do something. The body of a request has as much time as its head.
func (g *gate) onlyFor(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		p, _ := r.Context().Value(peerKey{}).(peer)
		grant := g.grant(p)
		if grant == nil {
			control.SetReadDeadline(time.Now())
			w.Header().Set("Connection", "close")
			fail(w, http.StatusForbidden, p.refusal())
			return
		}
		control.SetReadDeadline(time.Now().Add(headTimeout))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			w.Header().Set("Connection", "close")
			status := http.StatusBadRequest
			if tooLong, _ := errors.AsType[*http.MaxBytesError](err); tooLong != nil {
				status = http.StatusRequestEntityTooLarge
			}
			fail(w, status, "reading the body: "+err.Error())
			return
		}
		control.SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r.WithContext(withGrant(r.Context(), grant)))
	})
}

func handler(service Service, tunnels Tunnels) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/reload", needsAll(Manage, func(w http.ResponseWriter, r *http.Request) {
		if err := service.Reload(r.Context()); err != nil {
			fail(w, http.StatusUnprocessableEntity, strings.Split(err.Error(), "\n")...)
			return
		}
		answer(w, http.StatusOK, service.Status())
	}))
	mux.HandleFunc("POST /v1/drain", needs(Manage, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		var order DrainOrder
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = unmarshalStrictly(body, &order)
		}
		if err != nil {
			fail(w, http.StatusBadRequest, "the body is no order to drain: "+err.Error())
			return
		}
		if order.Site == "" || !g.sees(order.Site) {
			if err := g.mayAll(Manage); err != nil {
				give(w, nil, err)
				return
			}
		}
		tunnels, err := service.Drain(order)
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		answer(w, http.StatusOK, drained{tunnels})
	}))
	mux.HandleFunc("POST /v1/upgrade", needsAll(Manage, func(w http.ResponseWriter, r *http.Request) {
		upgraded, err := service.Upgrade(r.Context())
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, strings.Split(err.Error(), "\n")...)
			return
		}
		answer(w, http.StatusOK, upgraded)
	}))
	mux.HandleFunc("GET /v1/status", needsAll(List, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, service.Status()) }))
	handleTunnels(mux, tunnels)
	return mux
}

// unmarshalStrictly reads one value of JSON, without fields that mean nothing.
func unmarshalStrictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows it")
	}
	return nil
}

// drained answers an order to drain.
type drained struct {
	Tunnels int `json:"tunnels"`
}

// failure is every answer that is no success.
type failure struct {
	Errors []string `json:"errors"`
}

func fail(w http.ResponseWriter, status int, texts ...string) { answer(w, status, failure{texts}) }

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
