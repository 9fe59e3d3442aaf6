package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// Tunnel is what is known of a live tunnel.
type Tunnel struct {
	// ID is what it is known by: its backend has it as X-Wstunnel-Id.
	ID       string `json:"id"`
	Site     string `json:"site"`
	Host     string `json:"host"`
	Path     string `json:"path"`
	Location string `json:"location"`
	// Client is address and port, or the address alone of a client that a trusted proxy names.
	Client      string    `json:"client"`
	Backend     string    `json:"backend"`
	User        string    `json:"user"`
	Groups      []string  `json:"groups"`
	Subprotocol string    `json:"subprotocol,omitempty"`
	Mode        string    `json:"mode"`
	TLS         bool      `json:"tls"`
	Pushable    bool      `json:"pushable"`
	Since       time.Time `json:"since"`
	IdleMS      int64     `json:"idle_ms"`
	ToBackend   Traffic   `json:"to_backend"`
	ToClient    Traffic   `json:"to_client"`
}

// Traffic is what has gone through a tunnel in one direction. What was pushed is not among it.
type Traffic struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

// Filter says which tunnels are meant; what is empty means all.
type Filter struct {
	Site, User, Group string
	Client            netip.Addr
	After             uint64 // the number at which the page before ended
	Limit             int
	// Among are the sites of which any are meant; nil for all.
	Among []string
}

// Page is some of the tunnels that are meant, the oldest first.
type Page struct {
	Tunnels []Tunnel `json:"tunnels"`
	// Next is where the next page begins; empty behind the last one.
	Next string `json:"next,omitempty"`
}

// Audience says whose tunnels get a message: any of these.
type Audience struct {
	IDs    []string `json:"ids,omitempty"`
	Users  []string `json:"users,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// Site, where it is not empty, leaves out the tunnels of others.
	Site string `json:"site,omitempty"`
	// Among, where it is not nil, leaves out the tunnels of all sites but these.
	Among []string `json:"-"`
	// Settled leaves out those that are on their way to another process, which was asked before.
	Settled bool `json:"-"`
}

// Message is a message to browsers.
type Message struct {
	Data   []byte
	Binary bool
	TTL    time.Duration // zero for the usual one
	Wait   bool          // until it is written or dropped
}

// Pushed is what became of a message.
type Pushed struct {
	Matched int `json:"matched"`
	Written int `json:"written"`
	Queued  int `json:"queued"`
	Dropped int `json:"dropped"`
}

// Tunnels is what can be asked of, and said into, live tunnels. Its errors carry their statuses: see [StatusError].
type Tunnels interface {
	List(f Filter) Page
	// Count counts the tunnels of some sites, or of all for nil, with those that are just being opened.
	Count(among []string) int
	Tunnel(id string) (Tunnel, error)
	Kick(id string, code uint16, reason string) error
	Join(id, group string) error
	Leave(id, group string) error
	// Push says something to all who are meant, and PushTo to one.
	Push(ctx context.Context, to Audience, m Message) (Pushed, error)
	PushTo(ctx context.Context, id string, m Message) (Pushed, error)
	// Watch tells what happens from now on to the tunnels of some sites, or, for nil, to all and to the server.
	Watch(among []string) Watch
}

// StatusError is an error with the status of HTTP that says so.
type StatusError struct {
	Status int
	Err    error
}

func (e *StatusError) Error() string { return e.Err.Error() }

func (e *StatusError) Unwrap() error { return e.Err }

// Bounds of messages and lists.
const (
	// MaxMessage is how many bytes a message may have.
	MaxMessage = 256 << 10
	// MaxTTL is how long one may wait for its place.
	MaxTTL      = time.Minute
	maxAudience = 10_000 // names
	pageLength  = 1_000
	maxPage     = 10_000
)

// Close codes and what else a kick says where nothing is said.
const (
	kickCode   = 1000
	kickReason = "closed by the server"
)

func (d *Desk) handleTunnels(mux *router) {
	mux.HandleFunc("GET /v1/tunnels", needs(List, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		f, err := filterOf(r)
		if err == nil {
			f.Among = g.Sites
			f.Site, err = d.site(g, f.Site)
		}
		if err != nil {
			give(w, nil, err)
			return
		}
		answer(w, http.StatusOK, d.tunnels.List(f))
	}))
	mux.HandleFunc("GET /v1/tunnels/{id}", needs(List, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		t, err := g.find(d.tunnels, r.PathValue("id"))
		give(w, t, err)
	}))
	mux.HandleFunc("DELETE /v1/tunnels/{id}", d.toOne(Kick, "kick", func(r *http.Request, id string) error {
		code, reason, err := closingOf(r)
		if err != nil {
			return err
		}
		return d.tunnels.Kick(id, code, reason)
	}))
	mux.HandleFunc("PUT /v1/tunnels/{id}/groups/{group}", d.toOne(Group, "join", func(r *http.Request, id string) error {
		return d.tunnels.Join(id, r.PathValue("group"))
	}))
	mux.HandleFunc("DELETE /v1/tunnels/{id}/groups/{group}", d.toOne(Group, "leave", func(r *http.Request, id string) error {
		return d.tunnels.Leave(id, r.PathValue("group"))
	}))
	d.handleMessages(mux)
}

// toOne does something to a tunnel that one may reach.
func (d *Desk) toOne(v Verbs, what string, do func(r *http.Request, id string) error) http.HandlerFunc {
	return needs(v, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		id := r.PathValue("id")
		err := g.reach(d.tunnels, id)
		if err == nil {
			err = do(r, id)
		}
		d.note(g, what, 1, err, "to", id)
		give(w, struct{}{}, err)
	})
}

// give answers with a value, or with what kept it from being.
func give(w http.ResponseWriter, v any, err error) {
	if err == nil {
		answer(w, http.StatusOK, v)
		return
	}
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*StatusError](err); ok {
		status = e.Status
	}
	fail(w, status, err.Error())
}

// filterOf reads the query of a list.
func filterOf(r *http.Request) (f Filter, err error) {
	bad := func(format string, args ...any) (Filter, error) {
		return f, &StatusError{http.StatusBadRequest, fmt.Errorf(format, args...)}
	}
	f.Limit = pageLength
	for name, values := range r.URL.Query() {
		value := values[0]
		switch name {
		case "site":
			f.Site = value
		case "user":
			f.User = value
		case "group":
			f.Group = value
		case "client":
			if f.Client, err = netip.ParseAddr(value); err != nil {
				return bad("client=%q is no address", value)
			}
		case "after":
			if f.After, err = strconv.ParseUint(value, 10, 64); err != nil {
				return bad("after=%q is not what an earlier page had as next", value)
			}
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 || f.Limit > maxPage {
				return bad("limit=%q is not from 1 to %d", value, maxPage)
			}
		}
	}
	return f, nil
}

// closingOf reads the query of a kick.
func closingOf(r *http.Request) (code uint16, reason string, err error) {
	code, reason = kickCode, kickReason
	query := r.URL.Query()
	if v := query.Get("code"); v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return 0, "", &StatusError{http.StatusUnprocessableEntity, fmt.Errorf("code=%q is no close code", v)}
		}
		code = uint16(n)
	}
	if query.Has("reason") {
		reason = query.Get("reason")
	}
	return code, reason, CheckReason(reason)
}

// CheckReason checks the reason of a Close frame (RFC 6455, section 5.5.1).
func CheckReason(reason string) error {
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return &StatusError{http.StatusUnprocessableEntity, fmt.Errorf("a reason is UTF-8 of %d bytes at most", maxReason)}
	}
	return nil
}

const maxReason = 123
