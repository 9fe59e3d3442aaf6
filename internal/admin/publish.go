package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// published is an item of what clients of Pushpin publish (the Extensible Pubsub Control Protocol, over HTTP), as far as it is for WebSockets.
type published struct {
	group  string
	nobody bool // it has formats for others only
	Message
	close  bool
	code   uint16
	reason string
}

// publishRequest is what is posted. What is for other transports, and ids, by which those sort what they are sent, mean nothing here.
type publishRequest struct {
	Items *[]struct {
		Channel *string         `json:"channel"`
		ID      *string         `json:"id"`
		PrevID  *string         `json:"prev-id"`
		Formats *publishFormats `json:"formats"`
		publishFormats
	} `json:"items"`
}

// publishFormats stand in formats or, from older clients, in the item itself.
type publishFormats struct {
	WebSocket    *publishMessage `json:"ws-message"`
	HTTPResponse json.RawMessage `json:"http-response"`
	HTTPStream   json.RawMessage `json:"http-stream"`
}

// publishMessage is the format of messages to WebSockets.
type publishMessage struct {
	Action  string  `json:"action"`
	Type    string  `json:"type"`
	Content *string `json:"content"`
	Binary  *[]byte `json:"content-bin"`
	Code    *int    `json:"code"`
	Reason  string  `json:"reason"`
}

// parsePublish reads all items, or none.
func parsePublish(body []byte) ([]published, error) {
	bad := func(format string, args ...any) ([]published, error) {
		return nil, &StatusError{http.StatusBadRequest, fmt.Errorf(format, args...)}
	}
	if !utf8.Valid(body) {
		return bad("the body is not UTF-8")
	}
	var r publishRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return bad("%w", err)
	}
	if r.Items == nil {
		return bad("object does not contain 'items'")
	}
	all := make([]published, 0, len(*r.Items))
	for i, item := range *r.Items {
		if item.Channel == nil {
			return bad("item %d: no channel", i)
		}
		formats := item.publishFormats
		if item.Formats != nil {
			formats = *item.Formats
		}
		p := published{group: *item.Channel, nobody: formats.WebSocket == nil}
		if item.Formats == nil && formats.WebSocket == nil && formats.HTTPResponse == nil && formats.HTTPStream == nil {
			return bad("item %d: no formats specified", i)
		}
		if !p.nobody {
			if err := formats.WebSocket.read(&p); err != nil {
				if e, ok := errors.AsType[*StatusError](err); ok {
					return nil, &StatusError{e.Status, fmt.Errorf("item %d: %w", i, err)}
				}
				return bad("item %d: ws-message: %w", i, err)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// read reads what is to be done.
func (m *publishMessage) read(p *published) error {
	switch m.Action {
	case "", "send":
		return m.readMessage(p)
	case "close":
		p.close, p.code, p.reason = true, kickCode, m.Reason
		if m.Code != nil {
			if *m.Code < 0 || *m.Code > 65535 {
				return fmt.Errorf("the code %d is no close code", *m.Code)
			}
			p.code = uint16(*m.Code)
		}
		return CheckReason(p.reason)
	case "hint", "refresh": // which are for clients that ask again
		p.nobody = true
		return nil
	}
	return fmt.Errorf("unknown action %s", quoted(m.Action))
}

func (m *publishMessage) readMessage(p *published) error {
	switch m.Type {
	case "", "text", "binary":
	case "ping", "pong": // of which each tunnel has its own
		p.nobody = true
		return nil
	default:
		return fmt.Errorf("unknown type %s", quoted(m.Type))
	}
	switch {
	case m.Binary != nil:
		p.Data, p.Binary = *m.Binary, m.Type != "text"
	case m.Content != nil:
		p.Data, p.Binary = []byte(*m.Content), m.Type == "binary"
	default:
		return errors.New("does not contain 'content' or 'content-bin'")
	}
	return p.check()
}

// publish does what clients of Pushpin ask for: a channel is a group.
func (d *Desk) publish(w http.ResponseWriter, r *http.Request, g *Grant) {
	body, err := io.ReadAll(r.Body)
	var items []published
	if err == nil {
		items, err = parsePublish(body)
	}
	if err != nil {
		status := http.StatusBadRequest
		if e, ok := errors.AsType[*StatusError](err); ok {
			status = e.Status
		}
		say(w, status, "Invalid format: "+err.Error())
		return
	}
	if slices.ContainsFunc(items, func(p published) bool { return p.close }) {
		if err := g.may(Kick); err != nil {
			say(w, http.StatusForbidden, err.Error())
			return
		}
	}
	for i := range items {
		if p := &items[i]; !p.nobody {
			n, err := d.publishItem(r, g, p)
			if err != nil {
				give(w, nil, err)
				return
			}
			d.note(g, "publish", n, nil, "to", p.group)
		}
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Accept")); kind == "application/json" {
		answer(w, http.StatusOK, publishAnswer{"Published"})
		return
	}
	say(w, http.StatusOK, "Published")
}

// publishAnswer is what those are told who want JSON.
type publishAnswer struct {
	Message string `json:"message"`
}

// publishItem returns for how many tunnels it was.
func (d *Desk) publishItem(r *http.Request, g *Grant, p *published) (n int, err error) {
	if !p.close {
		sent, err := d.tunnels.Push(r.Context(), Audience{Groups: []string{p.group}, Among: g.Sites}, p.Message)
		return sent.Matched, err
	}
	for f := (Filter{Group: p.group, Limit: pageLength, Among: g.Sites}); ; {
		page := d.tunnels.List(f)
		for i := range page.Tunnels {
			err := d.tunnels.Kick(page.Tunnels[i].ID, p.code, p.reason)
			switch e, _ := errors.AsType[*StatusError](err); {
			case err == nil:
				n++
			case e == nil || e.Status != http.StatusNotFound && e.Status != http.StatusGone: // which others may have closed meanwhile
				return n, err
			}
		}
		if page.Next == "" {
			return n, nil
		}
		if _, err := fmt.Sscan(page.Next, &f.After); err != nil {
			return n, err
		}
	}
}

// say answers with a line of text.
func say(w http.ResponseWriter, status int, text string) {
	prepare(w, "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, strings.ReplaceAll(text, "\n", "; ")+"\n")
}
