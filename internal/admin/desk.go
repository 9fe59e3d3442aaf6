package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// Desk answers those who ask of a running server, and knows who may: on the control socket, and over TCP.
type Desk struct {
	gate
	service  Service
	tunnels  Tunnels
	log      *slog.Logger
	watchers *watchers
	handler  *router
	page     http.Handler
	web      web
	most     int           // connections on each listener
	large    chan struct{} // requests with long bodies
}

// NewDesk returns a desk that is open nowhere yet. The page, if not nil, is what it shows over TCP at / without asking for a token.
func NewDesk(service Service, tunnels Tunnels, page http.Handler, log *slog.Logger) *Desk {
	d := &Desk{
		service: service, tunnels: tunnels, page: page, log: log, most: maxCallers, large: make(chan struct{}, maxLarge),
	}
	d.watchers = newWatchers(tunnels, d.holds, d.site)
	d.handler = d.routes()
	return d
}

// Admit says who may ask from now on. Where that changes, those are let go who watch, but for the owner.
func (d *Desk) Admit(a *Access) {
	if !reflect.DeepEqual(d.access.Load(), a) {
		d.access.Store(a)
		d.watchers.dismiss()
	}
}

// newHTTP returns a server of the connections of a crowd.
func (d *Desk) newHTTP(c *crowd, h http.HandlerFunc) *http.Server {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headTimeout, MaxHeaderBytes: maxHead, IdleTimeout: headTimeout,
		DisableGeneralOptionsHandler: true, // who may not ask has no answer to OPTIONS either
		ErrorLog:                     slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return withWatching(withConnection(ctx, &connection{conn.(member), c}), c.watching)
		},
		ConnState: func(conn net.Conn, state http.ConnState) {
			if state == http.StateIdle && !c.occupy(conn.(member), false) {
				conn.Close()
			}
		},
	}
	server.RegisterOnShutdown(c.unwatch)
	return server
}

type connectionKey struct{}

// connection is one that requests come on.
type connection struct {
	member
	crowd *crowd
}

// withConnection notes which connection a request comes on.
func withConnection(ctx context.Context, c *connection) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

func connectionOf(ctx context.Context) *connection { return ctx.Value(connectionKey{}).(*connection) }

// serve answers a request of one who may ask, whose connection is busy from then on: those of all others make room. The body has as much time as a head.
func (d *Desk) serve(w http.ResponseWriter, r *http.Request, g *Grant) {
	if c := connectionOf(r.Context()); !c.crowd.occupy(c.member, true) {
		panic(http.ErrAbortHandler) // it was told to go
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longest))
	if r.ContentLength < 0 || r.ContentLength > smallBody {
		select {
		case d.large <- struct{}{}:
			defer func() { <-d.large }()
		case <-time.After(headTimeout):
			w.Header().Set("Connection", "close")
			fail(w, http.StatusServiceUnavailable, "too many long requests at a time; try again")
			return
		}
	}
	control := http.NewResponseController(w)
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
	if !d.holds(g) { // the body has had its time
		give(w, nil, errChanged)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	d.handler.ServeHTTP(w, r.WithContext(withGrant(r.Context(), g)))
}

// refuse answers one who may not ask, and reads nothing more of what is said.
func refuse(w http.ResponseWriter, status int, text string) {
	http.NewResponseController(w).SetReadDeadline(time.Now())
	w.Header().Set("Connection", "close")
	fail(w, status, text)
}

// note logs what was changed by one who is not the owner, and how many it was for. What was said is not told.
func (d *Desk) note(g *Grant, what string, n int, err error, more ...any) {
	if g.owner || err != nil {
		return
	}
	d.log.Info("ordered from outside", append([]any{"who", g.Who, "order", what, "n", n}, more...)...)
}

func (d *Desk) routes() *router {
	mux := &router{}
	mux.HandleFunc("POST /v1/reload", needsAll(Manage, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		d.note(g, "reload", 1, nil)
		if err := d.service.Reload(r.Context()); err != nil {
			fail(w, http.StatusUnprocessableEntity, strings.Split(err.Error(), "\n")...)
			return
		}
		answer(w, http.StatusOK, d.service.Status())
	}))
	mux.HandleFunc("POST /v1/drain", needs(Manage, d.drain))
	mux.HandleFunc("POST /v1/upgrade", needsAll(Manage, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		d.note(g, "upgrade", 1, nil)
		upgraded, err := d.service.Upgrade(r.Context())
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, strings.Split(err.Error(), "\n")...)
			return
		}
		answer(w, http.StatusOK, upgraded)
	}))
	mux.HandleFunc("GET /v1/status", needsAll(List, func(w http.ResponseWriter, _ *http.Request, _ *Grant) { answer(w, http.StatusOK, d.service.Status()) }))
	d.handleTunnels(mux)
	d.handleInventory(mux)
	d.watchers.handle(mux)
	handleOverview(mux, d.service)
	mux.HandleFunc("POST /publish", needs(Send, d.publish))
	mux.HandleFunc("POST /publish/{$}", needs(Send, d.publish))
	return mux
}

// drain is for those who have the whole server, or the site that is meant.
func (d *Desk) drain(w http.ResponseWriter, r *http.Request, g *Grant) {
	var order DrainOrder
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = unmarshalStrictly(body, &order)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "the body is no order to drain: "+err.Error())
		return
	}
	if site, err := d.site(g, order.Site); err == nil && site != "" {
		order.Site = site
	} else if err := g.mayAll(Manage); err != nil {
		give(w, nil, err)
		return
	}
	tunnels, err := d.service.Drain(order)
	d.note(g, "drain", tunnels, err, "site", order.Site, "upstream", order.Upstream, "server", order.Server, "end", order.End)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, http.StatusOK, drained{tunnels})
}

// site returns the first host of the site that one means by any of its hosts; nothing for nothing. A site that is no more is there as long as it has tunnels.
func (d *Desk) site(g *Grant, host string) (string, error) {
	if host == "" {
		return "", nil
	}
	first, ok := d.service.Site(host)
	if !ok && d.tunnels.Count([]string{host}) > 0 {
		first, ok = host, true
	}
	switch {
	case ok && g.sees(first):
		return first, nil
	case g.Sites == nil:
		return "", &StatusError{http.StatusNotFound, fmt.Errorf("there is no site %s", quoted(host))}
	}
	return "", &StatusError{http.StatusNotFound, fmt.Errorf("there is no site %s among those of %s", quoted(host), g.Who)}
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
	prepare(w, "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// prepare begins an answer, which has its time from then on.
func prepare(w http.ResponseWriter, kind string) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
}

// noRoom is a 503 for a connection of which no request was read.
func noRoom() string {
	body, _ := json.Marshal(failure{[]string{noRoomText}})
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

const noRoomText = "too many connections: this one has waited longest, or all others are busy; try again"
