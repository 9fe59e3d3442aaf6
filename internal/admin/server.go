package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Bounds of what a peer may send.
const (
	headTimeout = 5 * time.Second
	maxHead     = 16 << 10
	maxBody     = 64 << 10
)

// Server answers on the control socket.
type Server struct {
	http http.Server
}

// Serve answers on a socket until the server is closed. The server owns the socket.
func Serve(socket *Socket, service Service, log *slog.Logger) *Server {
	s := &Server{}
	s.http = http.Server{
		Handler: onlyFor(handler(service)), ReadHeaderTimeout: headTimeout, MaxHeaderBytes: maxHead, IdleTimeout: headTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	go func() {
		if err := s.http.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket is closed", "error", err)
		}
	}()
	return s
}

// Close ends the answering, and breaks off what is under way.
func (s *Server) Close() { s.http.Close() }

// Leave ends the listening. Who has asked already has an answer, which may take as long as it does.
func (s *Server) Leave() { go s.http.Shutdown(context.Background()) }

// peer is who has connected.
type peer struct {
	uid uint32
	err error // it is not known
}

type peerKey struct{}

func peerOf(c net.Conn) peer {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: errors.New("not a Unix socket")}
	}
	uid, err := peerUID(conn)
	return peer{uid, err}
}

// onlyFor lets root and the user of this process in.
func onlyFor(h http.Handler) http.Handler {
	own := uint32(os.Geteuid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p, _ := r.Context().Value(peerKey{}).(peer); {
		case p.err != nil:
			fail(w, http.StatusForbidden, fmt.Sprintf("who asks is not known: %v", p.err))
		case p.uid != 0 && p.uid != own:
			fail(w, http.StatusForbidden, fmt.Sprintf("user %d may not; root and user %d may", p.uid, own))
		default:
			h.ServeHTTP(w, r)
		}
	})
}

func handler(service Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		if err := service.Reload(r.Context()); err != nil {
			fail(w, http.StatusUnprocessableEntity, strings.Split(err.Error(), "\n")...)
			return
		}
		answer(w, http.StatusOK, service.Status())
	})
	mux.HandleFunc("POST /v1/drain", func(w http.ResponseWriter, r *http.Request) {
		var order DrainOrder
		body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		body.DisallowUnknownFields()
		if err := body.Decode(&order); err != nil {
			fail(w, http.StatusBadRequest, "the body is no order to drain: "+err.Error())
			return
		}
		tunnels, err := service.Drain(order)
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		answer(w, http.StatusOK, drained{tunnels})
	})
	mux.HandleFunc("POST /v1/upgrade", func(w http.ResponseWriter, r *http.Request) {
		upgraded, err := service.Upgrade(r.Context())
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, strings.Split(err.Error(), "\n")...)
			return
		}
		answer(w, http.StatusOK, upgraded)
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, service.Status()) })
	return mux
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
