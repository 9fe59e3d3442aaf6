package processes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/history"
)

// Older are the tunnels of an older process. What can't be asked of it because it has ended meanwhile is as if it had none.
type Older struct {
	pid     int
	connect func() (net.Conn, error)
	log     *slog.Logger
	told    atomic.Int64 // when it was last told that it does not answer, in seconds
	owed    atomic.Int64 // answers that did not come in time, and have not come since

	mu     sync.Mutex
	before map[string]history.Counts // nil until they are asked for
	last   map[string]history.Counts // what was returned
}

// NewOlder returns those of the process that a connection leads to. connect fails with [net.ErrClosed] where the process is known to have ended.
func NewOlder(pid int, connect func() (net.Conn, error), log *slog.Logger) *Older {
	return &Older{pid: pid, connect: connect, log: log}
}

// errNone is what is said of a tunnel where there is no process to be asked.
var errNone = &admin.StatusError{Status: http.StatusNotFound, Err: errors.New("no such tunnel")}

// errSilent is what is said of a tunnel that may be in a process that can't be asked.
var errSilent = &admin.StatusError{Status: http.StatusServiceUnavailable, Err: errors.New("an older process of the server does not answer")}

// ask asks, and waits for the answer for a time. As long as the process owes one for longer than that, nobody else waits for it.
func (o *Older) ask(ctx context.Context, c *call, within time.Duration) (a answer, err error) {
	if o.owed.Load() > 0 {
		return a, errSilent
	}
	conn, err := o.connect()
	switch {
	case errors.Is(err, net.ErrClosed):
		return a, errNone
	case err != nil:
		o.complain(c, err)
		return a, errSilent
	}
	c.Until = time.Now().Add(within)
	conn.SetDeadline(c.Until)
	left := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	if err = json.NewEncoder(conn).Encode(c); err == nil {
		err = json.NewDecoder(conn).Decode(&a)
	}
	if left() && errors.Is(err, os.ErrDeadlineExceeded) {
		o.complain(c, err)
		o.owed.Add(1)
		go o.await(conn)
		return a, errSilent
	}
	conn.Close()
	switch {
	case err == nil && a.Error != "":
		return a, &admin.StatusError{Status: a.Status, Err: errors.New(a.Error)}
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return a, &admin.StatusError{Status: http.StatusServiceUnavailable, Err: ctx.Err()}
	}
	return a, errNone // its end
}

// await waits until a process that has not answered in time says anything, or ends.
func (o *Older) await(conn net.Conn) {
	defer o.owed.Add(-1)
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	conn.Read(make([]byte, 1))
}

// complain logs, once a minute, that the process does not answer.
func (o *Older) complain(c *call, why error) {
	now, before := time.Now().Unix(), o.told.Load()
	if now-before >= 60 && o.told.CompareAndSwap(before, now) {
		o.log.Warn("an older process does not answer: its tunnels are left out", "process", o.pid, "asked", c.Do, "error", why)
	}
}

// List implements [admin.Tunnels].
func (o *Older) List(f admin.Filter) admin.Page {
	a, _ := o.ask(context.Background(), &call{Do: doList, Filter: f, Among: f.Among}, patience)
	return a.Page
}

// Count implements [admin.Tunnels].
func (o *Older) Count(among []string) int {
	a, _ := o.ask(context.Background(), &call{Do: doCount, Among: among}, patience)
	return a.Count
}

// Counts are the tunnels that it has, and what was counted there since they were asked for the first time: before, it was the process that serves. Where it does not answer
// they are what they were, so that nothing is counted again when it does.
func (o *Older) Counts() map[string]history.Counts {
	a, err := o.ask(context.Background(), &call{Do: doCounts}, patience)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(err, errSilent):
		return o.last
	case err != nil:
		return nil
	}
	if o.before == nil {
		o.before = a.Counts
	}
	since := make(map[string]history.Counts, len(a.Counts))
	for site, c := range a.Counts {
		before := o.before[site]
		c.Since(&before)
		since[site] = c
	}
	o.last = since
	return since
}

// Pass has an hour go on with what was counted there in the hour before.
func (o *Older) Pass(hour *history.Hour) error {
	a, err := o.ask(context.Background(), &call{Do: doHour}, patience)
	if err == nil {
		err = json.Unmarshal(a.Hour, hour)
	}
	return err
}

// Tunnel implements [admin.Tunnels].
func (o *Older) Tunnel(id string) (admin.Tunnel, error) {
	a, err := o.ask(context.Background(), &call{Do: doTunnel, ID: id}, patience)
	return a.Tunnel, err
}

// Kick implements [admin.Tunnels].
func (o *Older) Kick(id string, code uint16, reason string) error {
	_, err := o.ask(context.Background(), &call{Do: doKick, ID: id, Code: code, Reason: reason}, patience)
	return err
}

// Join implements [admin.Tunnels].
func (o *Older) Join(id, group string) error {
	_, err := o.ask(context.Background(), &call{Do: doJoin, ID: id, Group: group}, patience)
	return err
}

// Leave implements [admin.Tunnels].
func (o *Older) Leave(id, group string) error {
	_, err := o.ask(context.Background(), &call{Do: doLeave, ID: id, Group: group}, patience)
	return err
}

// Push implements [admin.Tunnels].
func (o *Older) Push(ctx context.Context, to admin.Audience, m admin.Message) (admin.Pushed, error) {
	a, err := o.ask(ctx, &call{Do: doPush, Audience: to, Among: to.Among, Message: m}, patienceFor(&m))
	return a.Pushed, err
}

// PushTo implements [admin.Tunnels].
func (o *Older) PushTo(ctx context.Context, id string, m admin.Message) (admin.Pushed, error) {
	a, err := o.ask(ctx, &call{Do: doPushTo, ID: id, Message: m}, patienceFor(&m))
	return a.Pushed, err
}

func patienceFor(m *admin.Message) time.Duration {
	if m.Wait {
		return admin.MaxTTL + patience
	}
	return patience
}

// Watch implements [admin.Tunnels].
func (o *Older) Watch(among []string) admin.Watch {
	conn, err := o.connect()
	if err != nil {
		return ended{}
	}
	conn.SetWriteDeadline(time.Now().Add(patience))
	json.NewEncoder(conn).Encode(&call{Do: doWatch, Among: among})
	return &olderWatch{conn: conn, in: json.NewDecoder(conn)}
}

// olderWatch is what happens to the tunnels of an older process.
type olderWatch struct {
	conn net.Conn
	in   *json.Decoder
}

// Next implements [admin.Watch]. It fails for ever when ctx is done, and with the process.
func (w *olderWatch) Next(ctx context.Context) (missed int, some []admin.Event, err error) {
	defer context.AfterFunc(ctx, func() { w.conn.Close() })()
	var a answer
	err = w.in.Decode(&a)
	return a.Missed, a.Events, err
}

func (w *olderWatch) Close() { w.conn.Close() }

// ended is of a process that has ended.
type ended struct{}

func (ended) Next(context.Context) (int, []admin.Event, error) { return 0, nil, net.ErrClosed }
func (ended) Close()                                           {}
