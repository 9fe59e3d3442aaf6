package processes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/history"
)

// Own are the tunnels of a process.
type Own interface {
	admin.Tunnels
	// Counts are what was counted since the start, by the first hosts of sites.
	Counts() map[string]history.Counts
	// Hour is what was counted in the last hour.
	Hour() *history.Hour
}

// Answer does what is asked on a connection of another process, which may do all, and closes it.
func Answer(conn net.Conn, own Own) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := json.NewDecoder(conn)
	var c call
	if in.Decode(&c) != nil || !c.Until.IsZero() && time.Now().After(c.Until) { // what was said in vain is not done later
		return
	}
	conn.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // nothing more is said: it waits for the other's end
		defer cancel()
		io.Copy(io.Discard, conn)
	}()
	out := json.NewEncoder(conn)
	if c.Do == doWatch {
		c.watch(ctx, conn, out, own)
		return
	}
	a, err := c.do(ctx, own)
	if err != nil {
		a.Error, a.Status = err.Error(), http.StatusInternalServerError
		if e, ok := errors.AsType[*admin.StatusError](err); ok {
			a.Status = e.Status
		}
	}
	conn.SetWriteDeadline(time.Now().Add(patience))
	out.Encode(&a)
}

func (c *call) do(ctx context.Context, own Own) (a answer, err error) {
	switch c.Do {
	case doList:
		c.Filter.Among = c.Among
		a.Page = own.List(c.Filter)
	case doCount:
		a.Count = own.Count(c.Among)
	case doCounts:
		a.Counts = own.Counts()
	case doHour:
		a.Hour, err = json.Marshal(own.Hour())
	case doTunnel:
		a.Tunnel, err = own.Tunnel(c.ID)
	case doKick:
		err = own.Kick(c.ID, c.Code, c.Reason)
	case doJoin:
		err = own.Join(c.ID, c.Group)
	case doLeave:
		err = own.Leave(c.ID, c.Group)
	case doPush:
		c.Audience.Among, c.Audience.Settled = c.Among, true
		a.Pushed, err = own.Push(ctx, c.Audience, c.Message)
	case doPushTo:
		a.Pushed, err = own.PushTo(ctx, c.ID, c.Message)
	default:
		err = &admin.StatusError{Status: http.StatusNotImplemented, Err: fmt.Errorf("an older process does not know how to %s", c.Do)}
	}
	return a, err
}

// watch tells what happens to tunnels. What happens to the server is of the process that serves.
func (c *call) watch(ctx context.Context, conn net.Conn, out *json.Encoder, own Own) {
	w := own.Watch(c.Among)
	defer w.Close()
	for {
		missed, some, err := w.Next(ctx)
		if err != nil {
			return
		}
		a := answer{Missed: missed}
		for _, e := range some {
			if e.Tunnel != nil {
				a.Events = append(a.Events, e)
			}
		}
		conn.SetWriteDeadline(time.Now().Add(watchPatience))
		if out.Encode(&a) != nil {
			return
		}
	}
}

// watchPatience is how long the other process may leave events unread: longer than it lets those who watch.
const watchPatience = time.Minute
