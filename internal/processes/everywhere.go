package processes

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"wstunnel/internal/admin"
	"wstunnel/internal/history"
)

// Everywhere are the tunnels of all processes of a server.
type Everywhere struct {
	// Here are those of the process that serves.
	Here Own
	// Older returns the older processes, the youngest first. One is the same each time.
	Older func() []*Older
	// Settled reports whether no tunnel comes from one of them any more.
	Settled func() bool
	// Leaving reports whether tunnels go from this process to the next one, which is asked there.
	Leaving func() bool
}

var errLeaving = &admin.StatusError{Status: http.StatusServiceUnavailable, Err: errors.New("an upgrade is under way: ask again")}

// all returns the processes, the youngest first.
func (e *Everywhere) all() []admin.Tunnels {
	all := []admin.Tunnels{e.Here}
	for _, o := range e.Older() {
		all = append(all, o)
	}
	return all
}

// twice returns the processes in the order in which a tunnel is found that is on its way from one to another: this one, the older ones, and this one again.
func (e *Everywhere) twice() []admin.Tunnels {
	settled, all := e.Settled(), e.all()
	if !settled {
		all = append(all, e.Here)
	}
	return all
}

// List implements [admin.Tunnels].
func (e *Everywhere) List(f admin.Filter) admin.Page {
	all := e.twice()
	if len(all) == 1 {
		return e.Here.List(f)
	}
	type numbered struct {
		number uint64
		*admin.Tunnel
	}
	var found []numbered
	more := false
	for _, p := range all {
		theirs := p.List(f)
		more = more || theirs.Next != ""
		for i := range theirs.Tunnels {
			t := &theirs.Tunnels[i]
			found = append(found, numbered{number(t.ID), t})
		}
	}
	slices.SortStableFunc(found, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	found = slices.CompactFunc(found, func(a, b numbered) bool { return a.ID == b.ID }) // one that is on its way is in both
	if f.Limit > 0 && len(found) > f.Limit {
		found, more = found[:f.Limit], true
	}
	page := admin.Page{Tunnels: make([]admin.Tunnel, len(found))}
	for i := range found {
		page.Tunnels[i] = *found[i].Tunnel
	}
	if more && len(found) > 0 {
		page.Next = strconv.FormatUint(found[len(found)-1].number, 10)
	}
	return page
}

// number is that of a tunnel, in the order of which they were opened.
func number(id string) uint64 {
	digits, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}

// Count implements [admin.Tunnels].
func (e *Everywhere) Count(among []string) (n int) {
	for _, p := range e.all() {
		n += p.Count(among)
	}
	return n
}

// Counts are those of this process and, since it serves, of the others.
func (e *Everywhere) Counts() map[string]history.Counts {
	all := e.Here.Counts()
	for _, o := range e.Older() {
		for site, theirs := range o.Counts() {
			c := all[site]
			c.Add(&theirs)
			all[site] = c
		}
	}
	return all
}

// find asks one process after the other until one knows a tunnel. Where none does, it has ended if any says so.
func (e *Everywhere) find(ask func(admin.Tunnels) error) (err error) {
	for _, p := range e.twice() {
		said := ask(p)
		status, _ := errors.AsType[*admin.StatusError](said)
		switch {
		case status == nil || status.Status != http.StatusNotFound && status.Status != http.StatusGone:
			return said
		case err == nil || status.Status == http.StatusGone:
			err = said
		}
	}
	if e.Leaving() {
		return errLeaving
	}
	return err
}

// Tunnel implements [admin.Tunnels].
func (e *Everywhere) Tunnel(id string) (t admin.Tunnel, err error) {
	err = e.find(func(p admin.Tunnels) (err error) {
		t, err = p.Tunnel(id)
		return err
	})
	return t, err
}

// Kick implements [admin.Tunnels].
func (e *Everywhere) Kick(id string, code uint16, reason string) error {
	return e.find(func(p admin.Tunnels) error { return p.Kick(id, code, reason) })
}

// Join implements [admin.Tunnels].
func (e *Everywhere) Join(id, group string) error {
	return e.find(func(p admin.Tunnels) error { return p.Join(id, group) })
}

// Leave implements [admin.Tunnels].
func (e *Everywhere) Leave(id, group string) error {
	return e.find(func(p admin.Tunnels) error { return p.Leave(id, group) })
}

// PushTo implements [admin.Tunnels].
func (e *Everywhere) PushTo(ctx context.Context, id string, m admin.Message) (pushed admin.Pushed, err error) {
	err = e.find(func(p admin.Tunnels) (err error) {
		pushed, err = p.PushTo(ctx, id, m)
		return err
	})
	return pushed, err
}

// Push implements [admin.Tunnels]. What became of the message is of all processes together.
func (e *Everywhere) Push(ctx context.Context, to admin.Audience, m admin.Message) (admin.Pushed, error) {
	all := e.all()
	if len(all) == 1 {
		return e.Here.Push(ctx, to, m)
	}
	type outcome struct {
		pushed admin.Pushed
		err    error
	}
	outcomes := make([]outcome, len(all))
	var waiting sync.WaitGroup
	for i, p := range all {
		o := &outcomes[i]
		if m.Wait && e.Settled() { // for none longer because others take nothing
			waiting.Go(func() { o.pushed, o.err = p.Push(ctx, to, m) })
		} else {
			o.pushed, o.err = p.Push(ctx, to, m)
		}
	}
	waiting.Wait()
	sum := outcomes[0].pushed
	for _, o := range outcomes[1:] {
		sum.Matched += o.pushed.Matched
		sum.Written += o.pushed.Written
		sum.Queued += o.pushed.Queued
		sum.Dropped += o.pushed.Dropped
	}
	return sum, outcomes[0].err // of the others, one that does not answer is told in the log
}
