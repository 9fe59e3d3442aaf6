package processes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/history"
)

// process is one with some tunnels, which notes what it is asked to do.
type process struct {
	tunnels  []admin.Tunnel
	gone     uint64 // the tunnels up to this number have ended, if they are not there
	done     []string
	hour     history.Hour
	requests uint64
	events   chan admin.Event
}

func (p *process) List(f admin.Filter) (page admin.Page) {
	for _, t := range p.tunnels {
		switch {
		case number(t.ID) <= f.After, f.Among != nil && !slices.Contains(f.Among, t.Site):
		case len(page.Tunnels) == f.Limit:
			page.Next = fmt.Sprint(number(page.Tunnels[f.Limit-1].ID))
			return page
		default:
			page.Tunnels = append(page.Tunnels, t)
		}
	}
	return page
}

func (p *process) Count(among []string) int {
	return len(p.List(admin.Filter{Among: among, Limit: 1 << 20}).Tunnels)
}

func (p *process) Counts() map[string]history.Counts {
	p.requests++
	counts := map[string]history.Counts{}
	for _, t := range p.tunnels {
		c := counts[t.Site]
		c.Add(&history.Counts{Tunnels: 1, Requests: p.requests, Closed: map[string]uint64{"eof": 2 * p.requests}})
		counts[t.Site] = c
	}
	return counts
}

func (p *process) Tunnel(id string) (admin.Tunnel, error) {
	for _, t := range p.tunnels {
		if t.ID == id {
			return t, nil
		}
	}
	if number(id) <= p.gone {
		return admin.Tunnel{}, &admin.StatusError{Status: http.StatusGone, Err: errors.New("ended")}
	}
	return admin.Tunnel{}, &admin.StatusError{Status: http.StatusNotFound, Err: errors.New("none")}
}

func (p *process) Hour() *history.Hour { return &p.hour }

func (p *process) note(id, format string, args ...any) error {
	if _, err := p.Tunnel(id); err != nil {
		return err
	}
	p.done = append(p.done, id+" "+fmt.Sprintf(format, args...))
	return nil
}

func (p *process) Kick(id string, code uint16, reason string) error {
	return p.note(id, "kick %d %s", code, reason)
}
func (p *process) Join(id, group string) error  { return p.note(id, "join %s", group) }
func (p *process) Leave(id, group string) error { return p.note(id, "leave %s", group) }

func (p *process) Push(_ context.Context, to admin.Audience, m admin.Message) (admin.Pushed, error) {
	p.done = append(p.done, fmt.Sprintf("push %s %q settled %v binary %v for %v", to.Groups, m.Data, to.Settled, m.Binary, m.TTL))
	n := p.Count(to.Among)
	return admin.Pushed{Matched: n, Written: n}, nil
}

func (p *process) PushTo(_ context.Context, id string, m admin.Message) (admin.Pushed, error) {
	return admin.Pushed{Matched: 1, Queued: 1}, p.note(id, "push %s", m.Data)
}

func (p *process) Watch([]string) admin.Watch { return eventsOf{p.events} }

type eventsOf struct{ events chan admin.Event }

func (e eventsOf) Next(ctx context.Context) (int, []admin.Event, error) {
	select {
	case one := <-e.events:
		return 1, []admin.Event{one}, nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

func (eventsOf) Close() {}

// asked is a process as another one asks it.
func asked(p *process) *Older {
	return NewOlder(1, func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go Answer(theirs, p)
		return ours, nil
	}, slog.New(slog.DiscardHandler))
}

func tunnelsOf(site string, ids ...string) (all []admin.Tunnel) {
	for _, id := range ids {
		all = append(all, admin.Tunnel{ID: id, Site: site})
	}
	return all
}

func everywhere(here *process, older ...*Older) *Everywhere {
	return &Everywhere{Here: here, Older: func() []*Older { return older }, Settled: func() bool { return false }, Leaving: func() bool { return false }}
}

func TestListsOfAllProcessesAreOne(t *testing.T) {
	here := &process{tunnels: tunnelsOf("a", "3-x", "20-x")}
	older := &process{tunnels: tunnelsOf("b", "1-x", "3-x", "7-x")} // 3 is on its way
	oldest := &process{tunnels: tunnelsOf("a", "2-x")}
	e := everywhere(here, asked(older), asked(oldest))
	for limit, want := range map[int]string{1: "1|2|3|7|20", 2: "1 2|3 7|20", 3: "1 2 3|7 20", 5: "1 2 3 7 20"} {
		var pages []string
		for f := (admin.Filter{Limit: limit}); ; {
			page := e.List(f)
			var ids []string
			for _, x := range page.Tunnels {
				ids = append(ids, strings.TrimSuffix(x.ID, "-x"))
			}
			pages = append(pages, strings.Join(ids, " "))
			if page.Next == "" {
				break
			}
			f.After = number(page.Next)
		}
		if got := strings.Join(pages, "|"); got != want {
			t.Errorf("pages of %d: %s, want %s", limit, got, want)
		}
	}
	for _, test := range []struct {
		among []string
		want  int
	}{{nil, 6}, {[]string{}, 0}, {[]string{"a"}, 3}, {[]string{"b"}, 3}} {
		if n := e.Count(test.among); n != test.want {
			t.Errorf("%#v: %d tunnels, want %d", test.among, n, test.want)
		}
	}
	if page := e.List(admin.Filter{Limit: 9, Among: []string{}}); len(page.Tunnels) != 0 {
		t.Errorf("who may see none sees %v", page.Tunnels)
	}
	for i, want := range []uint64{2, 5} { // what was counted in the older ones before is theirs
		sites := e.Counts()
		if a := sites["a"]; a.Tunnels != 3 || a.Requests != want || a.Closed["eof"] != 2*want || sites["b"].Tunnels != 3 {
			t.Errorf("the %d. time %+v", i+1, sites)
		}
	}
}

func TestTunnelIsFoundWhereItIs(t *testing.T) {
	here, older := &process{gone: 10}, &process{tunnels: tunnelsOf("a", "5-x")}
	e := everywhere(here, asked(older))
	if found, err := e.Tunnel("5-x"); err != nil || found.Site != "a" {
		t.Errorf("%+v, %v", found, err)
	}
	for _, err := range []error{e.Join("5-x", "g"), e.Leave("5-x", "g"), e.Kick("5-x", 4001, "out")} {
		if err != nil {
			t.Error(err)
		}
	}
	if p, err := e.PushTo(t.Context(), "5-x", admin.Message{Data: []byte("hello")}); err != nil || p != (admin.Pushed{Matched: 1, Queued: 1}) {
		t.Errorf("%+v, %v", p, err)
	}
	if want := []string{"5-x join g", "5-x leave g", "5-x kick 4001 out", "5-x push hello"}; !slices.Equal(older.done, want) {
		t.Errorf("done was %q", older.done)
	}
	for id, status := range map[string]int{"6-x": http.StatusGone, "11-x": http.StatusNotFound} {
		_, err := e.Tunnel(id)
		if said, _ := errors.AsType[*admin.StatusError](err); said == nil || said.Status != status {
			t.Errorf("%s: %v, want %d", id, err, status)
		}
	}
	e.Leaving = func() bool { return true }
	err := e.Kick("6-x", 4001, "out")
	if said, _ := errors.AsType[*admin.StatusError](err); said == nil || said.Status != http.StatusServiceUnavailable {
		t.Errorf("of a tunnel that may have gone to another process is said %v", err)
	}
}

func TestMessageReachesAllProcesses(t *testing.T) {
	here, older := &process{tunnels: tunnelsOf("a", "3-x")}, &process{tunnels: tunnelsOf("a", "1-x", "2-x")}
	e := everywhere(here, asked(older))
	for _, test := range []struct {
		wait, settled bool
	}{{false, false}, {true, false}, {true, true}} {
		e.Settled = func() bool { return test.settled }
		p, err := e.Push(t.Context(), admin.Audience{Groups: []string{"g"}, Among: []string{"a"}}, admin.Message{Data: []byte{255}, Binary: true, TTL: time.Second, Wait: test.wait})
		if err != nil || p != (admin.Pushed{Matched: 3, Written: 3}) {
			t.Errorf("%+v: %+v, %v", test, p, err)
		}
	}
	if p, err := e.Push(t.Context(), admin.Audience{Groups: []string{"g"}, Among: []string{}}, admin.Message{}); err != nil || p != (admin.Pushed{}) {
		t.Errorf("to none: %+v, %v", p, err)
	}
	if want := `push [g] "\xff" settled true binary true for 1s`; older.done[0] != want {
		t.Errorf("the older process was asked to %s, want %s", older.done[0], want)
	}
	if want := `push [g] "\xff" settled false binary true for 1s`; here.done[0] != want {
		t.Errorf("this process was asked to %s, want %s", here.done[0], want)
	}
}

// TestMessageReachesAProcessThatIsNotedMeanwhile or not: more are known from one moment to the next.
func TestMessageReachesAProcessThatIsNotedMeanwhile(t *testing.T) {
	e := everywhere(&process{tunnels: tunnelsOf("a", "3-x")})
	var known []*Older
	e.Older = func() []*Older {
		known = append(known, asked(&process{tunnels: tunnelsOf("a", "1-x")}))
		return known
	}
	if p, err := e.Push(t.Context(), admin.Audience{Groups: []string{"g"}}, admin.Message{}); err != nil || p.Matched < 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestEventsOfAllProcessesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, older := &process{events: make(chan admin.Event, 9)}, &process{events: make(chan admin.Event, 9)}
		var known []*Older
		e := everywhere(here)
		e.Older = func() []*Older { return known }
		w := e.Watch(nil)
		defer w.Close()
		next := func(want ...string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for missed := 0; len(want) > 0; {
				n, some, err := w.Next(ctx)
				if missed += n; err != nil {
					t.Fatalf("%v; yet to come: %q", err, want)
				}
				for _, e := range some {
					if !slices.Contains(want, e.Event) {
						t.Errorf("told was %s, want %q", e.Event, want)
					}
					want = slices.DeleteFunc(want, func(s string) bool { return s == e.Event })
				}
			}
		}
		here.events <- admin.Event{Event: "reloaded"}
		next("reloaded")
		known = []*Older{asked(older)}
		synctest.Wait()
		older.events <- admin.Event{Event: "opened", Tunnel: &admin.Tunnel{ID: "1-x"}}
		older.events <- admin.Event{Event: "stopping"} // of the older process alone
		older.events <- admin.Event{Event: "closed", Tunnel: &admin.Tunnel{ID: "1-x"}}
		here.events <- admin.Event{Event: "joined"}
		next("opened", "closed", "joined")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, some, err := w.Next(ctx); len(some) > 0 || err == nil {
			t.Errorf("when nothing happens, %v, %v", some, err)
		}
	})
}

// TestProcessThatDoesNotAnswerIsLeftOut within a time, and told of once a minute; one that has ended is as if it had no tunnels.
func TestProcessThatDoesNotAnswerIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		here := &process{tunnels: tunnelsOf("a", "3-x")}
		was := asked(&process{tunnels: tunnelsOf("b", "1-x")})
		was.Counts()
		was.connect = func() (net.Conn, error) { return nil, errors.New("too many open files") }
		if c := was.Counts(); c["b"].Tunnels != 1 {
			t.Errorf("counted was %+v", c)
		}
		var ends []net.Conn
		hung := NewOlder(7, func() (net.Conn, error) {
			ours, theirs := net.Pipe()
			ends = append(ends, theirs)
			go io.Copy(io.Discard, theirs)
			return ours, nil
		}, slog.New(slog.NewTextHandler(&log, nil)))
		ended := NewOlder(8, func() (net.Conn, error) {
			ours, theirs := net.Pipe()
			theirs.Close()
			return ours, nil
		}, slog.New(slog.DiscardHandler))
		e := everywhere(here, hung, ended)
		began := time.Now()
		if n := e.Count(nil); n != 1 {
			t.Errorf("%d tunnels", n)
		}
		if took := time.Since(began); took != patience {
			t.Errorf("it took %v", took)
		}
		if page := e.List(admin.Filter{Limit: 9}); len(page.Tunnels) != 1 {
			t.Errorf("listed are %v", page.Tunnels)
		}
		if n := strings.Count(log.String(), "does not answer"); n != 1 || !strings.Contains(log.String(), "process=7") {
			t.Errorf("logged is %s", &log)
		}
		began = time.Now()
		_, err := e.Tunnel("9-x")
		if said, _ := errors.AsType[*admin.StatusError](err); said == nil || said.Status != http.StatusServiceUnavailable {
			t.Errorf("of a tunnel that may be there is said %v", err)
		}
		if took := time.Since(began); took != 0 || len(ends) != 1 {
			t.Errorf("others wait for it for %v; asked was %d times", took, len(ends))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p, err := e.Push(ctx, admin.Audience{}, admin.Message{}); err != nil || p.Written != 1 {
			t.Errorf("pushed %+v, %v", p, err)
		}
		w := e.Watch(nil)
		if _, some, err := w.Next(ctx); len(some) > 0 || err == nil {
			t.Errorf("%v, %v", some, err)
		}
		w.Close()
		ends[0].Close()
		synctest.Wait()
		e.Count(nil)
		if len(ends) != 3 {
			t.Error("when it answers again it is not asked")
		}
		for _, end := range ends {
			end.Close()
		}
	})
}

// TestWhatWasAskedInVainIsNotDoneLater, when a process goes on that has stood still.
func TestWhatWasAskedInVainIsNotDoneLater(t *testing.T) {
	for late, want := range map[time.Duration]int{0: 1, patience + time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			p := &process{tunnels: tunnelsOf("a", "1-x")}
			o := NewOlder(1, func() (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					line, _ := bufio.NewReader(theirs).ReadBytes('\n')
					time.Sleep(late)
					in, out := net.Pipe()
					go Answer(out, p)
					in.Write(line)
					io.Copy(theirs, in)
					in.Close()
					theirs.Close()
				}()
				return ours, nil
			}, slog.New(slog.DiscardHandler))
			err := o.Kick("1-x", 4001, "")
			time.Sleep(2 * late)
			if len(p.done) != want || (err == nil) != (want == 1) {
				t.Errorf("%v late: done was %q, %v", late, p.done, err)
			}
		})
	}
}

// TestWhoHasLeftDoesNotWait, and who can't ask does not take that for an end.
func TestWhoHasLeftDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var end net.Conn
		o := NewOlder(1, func() (ours net.Conn, err error) {
			ours, end = net.Pipe()
			return ours, nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if _, err := o.PushTo(ctx, "1-x", admin.Message{}); !errors.Is(err, context.Canceled) || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		end.Close()
		for _, test := range []struct {
			why  error
			want int
		}{{errors.New("too many open files"), http.StatusServiceUnavailable}, {net.ErrClosed, http.StatusNotFound}} {
			o.connect = func() (net.Conn, error) { return nil, test.why }
			_, err := o.Tunnel("1-x")
			if said, _ := errors.AsType[*admin.StatusError](err); said == nil || said.Status != test.want {
				t.Errorf("%v: %v", test.why, err)
			}
		}
	})
}

// TestWhatIsNotUnderstoodIsRefused: of a younger process of another version.
func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	_, err := asked(&process{}).ask(t.Context(), &call{Do: "dance"}, patience)
	if said, _ := errors.AsType[*admin.StatusError](err); said == nil || said.Status != http.StatusNotImplemented {
		t.Errorf("%v", err)
	}
	ours, theirs := net.Pipe()
	go func() {
		ours.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		ours.Close()
	}()
	Answer(theirs, &process{})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"do":"list","filter":{"Limit":3},"among":["a"]}`))
	f.Add([]byte(`{"do":"push","audience":{"groups":["g"]},"message":{"Data":"aGVsbG8="},"among":null}`))
	f.Add([]byte(`{"do":"kick","id":"1-x","code":4001}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		done := make(chan bool)
		go func() {
			defer close(done)
			Answer(theirs, &process{tunnels: tunnelsOf("a", "1-x")})
		}()
		go func() {
			ours.Write(b)
			ours.SetReadDeadline(time.Now().Add(time.Second))
			ours.Read(make([]byte, 1<<16))
			ours.Close()
		}()
		<-done
	})
}

func TestHourGoesOnInTheNextProcess(t *testing.T) {
	older := &process{}
	now := time.Unix(1_800_000_000, 0)
	older.hour.Note(now, map[string]history.Counts{"a": {}})
	older.hour.Note(now.Add(history.Step), map[string]history.Counts{"a": {Tunnels: 3, Requests: 5}})
	var hour history.Hour
	if err := asked(older).Pass(&hour); err != nil {
		t.Fatal(err)
	}
	hour.Note(now.Add(2*history.Step), map[string]history.Counts{"a": {Tunnels: 4, Requests: 2}})
	if s := hour.Series([]string{"a"}); !slices.Equal(s.Requests, []uint64{5, 2}) || !slices.Equal(s.Tunnels, []uint64{3, 4}) {
		t.Errorf("%+v", s)
	}
}
