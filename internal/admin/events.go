package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Event is one thing that has happened to a tunnel, or to the server.
type Event struct {
	// Event says what: opened, closed, joined, left, arrived and moved happen to tunnels, all others to the server. Of those that were missed there is one event, missed.
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
	// Tunnel is the one that it has happened to, as it was then.
	Tunnel *Tunnel `json:"tunnel,omitempty"`
	// Group was joined or left.
	Group string `json:"group,omitempty"`
	// Code, ClosedBy, Cause, DurationMS and Error say how a tunnel has ended.
	Code       uint16 `json:"code,omitempty"`
	ClosedBy   string `json:"closed_by,omitempty"`
	Cause      string `json:"cause,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	Error      string `json:"error,omitempty"`
	// Site, Upstream and Server are what is drained, or which server is up or down; Reason is why, or the version of an upgrade.
	Site     string `json:"site,omitempty"`
	Upstream string `json:"upstream,omitempty"`
	Server   string `json:"server,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Errors are what has kept a configuration, or a new binary, from being used.
	Errors []string `json:"errors,omitempty"`
	// N is how many events were missed.
	N int `json:"n,omitempty"`
}

// eventMissed stands for events that one has not taken in time.
const eventMissed = "missed"

// Watch is what happens, to one who watches.
type Watch interface {
	// Next waits until something has happened. It fails when ctx is done.
	Next(ctx context.Context) (missed int, some []Event, err error)
	Close()
}

// Bounds of those who watch.
const (
	maxWatchers = 64
	// watchTimeout is how long one may take nothing of what it is sent.
	watchTimeout = 30 * time.Second
	// watchPulse is how often a stream of events has something in it, if only a comment.
	watchPulse = 15 * time.Second
)

// watchers are those who watch, over either protocol.
type watchers struct {
	tunnels Tunnels
	holds   func(*Grant) bool // a grant is still given
	site    func(*Grant, string) (string, error)
	room    chan struct{}
	timeout time.Duration

	mu sync.Mutex
	// granted ends when what those may who are not the owner is not what it was.
	granted context.Context
	change  context.CancelFunc
}

func newWatchers(tunnels Tunnels, holds func(*Grant) bool, site func(*Grant, string) (string, error)) *watchers {
	ws := &watchers{tunnels: tunnels, holds: holds, site: site, room: make(chan struct{}, maxWatchers), timeout: watchTimeout}
	ws.granted, ws.change = context.WithCancel(context.Background())
	return ws
}

// dismiss lets all go but the owner: they may ask again, with what they may now.
func (ws *watchers) dismiss() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.change()
	ws.granted, ws.change = context.WithCancel(context.Background())
}

// watching is somebody who watches.
type watching struct {
	Watch
	sites   []string // nil for all
	granted context.Context
	leave   func()
}

// begin lets one watch what happens to the tunnels of a site, or of all sites that it may see. leave is to be called at the end.
func (ws *watchers) begin(g *Grant, site string) (*watching, error) {
	site, err := ws.site(g, site)
	if err != nil {
		return nil, err
	}
	select {
	case ws.room <- struct{}{}:
	default:
		return nil, &StatusError{http.StatusServiceUnavailable, fmt.Errorf("%d watch already; no more may", maxWatchers)}
	}
	w := &watching{sites: g.Sites, granted: context.Background()}
	if site != "" {
		w.sites = []string{site}
	}
	if !g.owner {
		ws.mu.Lock()
		w.granted = ws.granted
		ws.mu.Unlock()
		if !ws.holds(g) { // and nothing would end it
			<-ws.room
			return nil, errChanged
		}
	}
	w.Watch = ws.tunnels.Watch(w.sites)
	w.leave = func() {
		w.Close()
		<-ws.room
	}
	return w, nil
}

type watchingKey struct{}

// withWatching notes what ends when those are to go who watch.
func withWatching(ctx, watching context.Context) context.Context {
	return context.WithValue(ctx, watchingKey{}, watching)
}

func watchingOf(ctx context.Context) context.Context {
	return ctx.Value(watchingKey{}).(context.Context)
}

// errPulse says that nothing has happened for a while.
var errPulse = errors.New("nothing has happened")

// next waits for events, those that were missed before the others. It fails with errPulse where nothing happens for a while, and when ctx is done or what was granted is not.
func (w *watching) next(ctx context.Context) ([]Event, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, watchPulse, errPulse)
	defer cancel()
	defer context.AfterFunc(w.granted, cancel)()
	missed, some, err := w.Next(ctx)
	switch {
	case err != nil:
		return nil, context.Cause(ctx)
	case w.granted.Err() != nil:
		return nil, w.granted.Err()
	}
	if missed > 0 {
		some = slices.Insert(some, 0, Event{Event: eventMissed, Time: time.Now(), N: missed})
	}
	return some, nil
}

// handle answers with Server-Sent Events (HTML, section 9.2), until the one who watches goes.
func (ws *watchers) handle(mux *router) {
	mux.HandleFunc("GET /v1/events", needs(List, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		watch, err := ws.begin(g, r.URL.Query().Get("site"))
		if err != nil {
			give(w, nil, err)
			return
		}
		defer watch.leave()
		header := w.Header()
		header.Set("Content-Type", "text/event-stream")
		header.Set("Cache-Control", "no-store")
		ws.stream(w, r, watch)
	}))
}

// stream writes events as they happen.
func (ws *watchers) stream(w http.ResponseWriter, r *http.Request, watch *watching) {
	control := http.NewResponseController(w)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(watchingOf(ctx), cancel)()
	text := []byte(": from now on\n\n")
	for {
		control.SetWriteDeadline(time.Now().Add(ws.timeout))
		if _, err := w.Write(text); err != nil || control.Flush() != nil {
			return
		}
		some, err := watch.next(ctx)
		switch {
		case errors.Is(err, errPulse):
			text = append(text[:0], ": nothing new\n\n"...)
			continue
		case err != nil:
			return
		}
		text = text[:0]
		for i := range some {
			data, _ := json.Marshal(&some[i]) // which has no line break
			text = fmt.Appendf(text, "event: %s\ndata: %s\n\n", some[i].Event, data)
		}
	}
}
