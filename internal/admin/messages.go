package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
	"unicode/utf8"
)

func (d *Desk) handleMessages(mux *router) {
	mux.HandleFunc("POST /v1/users/{user}/messages", d.toMany("send user", "user", func(r *http.Request) Audience {
		return Audience{Users: []string{r.PathValue("user")}, Site: r.URL.Query().Get("site")}
	}))
	mux.HandleFunc("POST /v1/groups/{group}/messages", d.toMany("send group", "group", func(r *http.Request) Audience {
		return Audience{Groups: []string{r.PathValue("group")}, Site: r.URL.Query().Get("site")}
	}))
	mux.HandleFunc("POST /v1/tunnels/{id}/messages", needs(Send, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		id := r.PathValue("id")
		_, m, err := messageOf(r, false)
		var p Pushed
		if err == nil {
			err = g.reach(d.tunnels, id)
		}
		if err == nil {
			p, err = d.tunnels.PushTo(r.Context(), id, m)
		}
		d.note(g, "send message", p.Matched, err, "to", id)
		give(w, p, err)
	}))
	mux.HandleFunc("POST /v1/push", needs(Send, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		to, m, err := messageOf(r, true)
		var p Pushed
		if err == nil {
			to.Among = g.Sites
			to.Site, err = d.site(g, to.Site)
		}
		if err == nil {
			p, err = d.tunnels.Push(r.Context(), *to, m)
		}
		d.note(g, "push", p.Matched, err)
		give(w, p, err)
	}))
}

// toMany says something to whom the path names.
func (d *Desk) toMany(what, name string, to func(*http.Request) Audience) http.HandlerFunc {
	return needs(Send, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		_, m, err := messageOf(r, false)
		var p Pushed
		audience := to(r)
		if err == nil {
			audience.Among = g.Sites
			audience.Site, err = d.site(g, audience.Site)
		}
		if err == nil {
			p, err = d.tunnels.Push(r.Context(), audience, m)
		}
		d.note(g, what, p.Matched, err, "to", r.PathValue(name))
		give(w, p, err)
	})
}

// push is a message in JSON.
type push struct {
	To     *pushTo         `json:"to,omitempty"`
	Text   *string         `json:"text,omitempty"`
	JSON   json.RawMessage `json:"json,omitempty"`
	Binary *[]byte         `json:"binary,omitempty"`
	TTLMS  *int64          `json:"ttl_ms,omitempty"`
	Wait   string          `json:"wait,omitempty"`
}

// pushTo is an audience in which a site that is named can be told from one that is not.
type pushTo struct {
	Audience
	Site *string `json:"site,omitempty"`
}

// messageOf reads a message: in JSON, or, where it has no audience of its own, as the body itself, which is a text unless its type is application/octet-stream.
func messageOf(r *http.Request, addressed bool) (*Audience, Message, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, Message{}, &StatusError{http.StatusBadRequest, fmt.Errorf("reading the body: %w", err)}
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if addressed || kind == "application/json" {
		return parsePush(body, addressed)
	}
	m := Message{Data: body, Binary: kind == "application/octet-stream"}
	return nil, m, m.check()
}

// parsePush reads a message in JSON.
func parsePush(body []byte, addressed bool) (*Audience, Message, error) {
	bad := func(status int, format string, args ...any) (*Audience, Message, error) {
		return nil, Message{}, &StatusError{status, fmt.Errorf(format, args...)}
	}
	var p push
	if !utf8.Valid(body) { // which JSON would mend
		return bad(http.StatusUnprocessableEntity, "the body is not UTF-8")
	}
	if err := unmarshalStrictly(body, &p); err != nil {
		return bad(http.StatusBadRequest, "the body is no message: %w", err)
	}
	var m Message
	switch {
	case p.Text != nil && p.JSON == nil && p.Binary == nil:
		m.Data = []byte(*p.Text)
	case p.Text == nil && p.JSON != nil && p.Binary == nil:
		m.Data = p.JSON
	case p.Text == nil && p.JSON == nil && p.Binary != nil:
		m.Data, m.Binary = *p.Binary, true
	default:
		return bad(http.StatusBadRequest, "a message has one of text, json and binary, which is in base64")
	}
	if p.TTLMS != nil {
		if *p.TTLMS < 1 || *p.TTLMS > MaxTTL.Milliseconds() {
			return bad(http.StatusBadRequest, "ttl_ms %d is not from 1 to %d", *p.TTLMS, MaxTTL.Milliseconds())
		}
		m.TTL = time.Duration(*p.TTLMS) * time.Millisecond
	}
	switch p.Wait {
	case "", "queued":
	case "written":
		m.Wait = true
	default:
		return bad(http.StatusBadRequest, "wait %q is neither queued nor written", p.Wait)
	}
	switch {
	case !addressed && p.To != nil:
		return bad(http.StatusBadRequest, "to is for /v1/push: here the path says who is meant")
	case addressed && (p.To == nil || len(p.To.IDs)+len(p.To.Users)+len(p.To.Groups) == 0):
		return bad(http.StatusBadRequest, "to names nobody: it has ids, users or groups")
	case addressed && p.To.Site != nil && *p.To.Site == "": // a variable that was not set, say
		return bad(http.StatusBadRequest, "to.site is empty")
	case addressed && len(p.To.IDs)+len(p.To.Users)+len(p.To.Groups) > maxAudience:
		return bad(http.StatusRequestEntityTooLarge, "to has more than %d names", maxAudience)
	}
	if !addressed {
		return nil, m, m.check()
	}
	if p.To.Site != nil {
		p.To.Audience.Site = *p.To.Site
	}
	return &p.To.Audience, m, m.check()
}

// check checks what a message carries.
func (m *Message) check() error {
	switch {
	case len(m.Data) > MaxMessage:
		return &StatusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the message has %d bytes; %d are allowed", len(m.Data), MaxMessage)}
	case !m.Binary && !utf8.Valid(m.Data):
		return &StatusError{http.StatusUnprocessableEntity, errors.New("the text is not UTF-8")}
	}
	return nil
}
