package proxy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/proxy"
)

// TestNothingIsLeftOfTunnelsThatCameAndWent while messages were pushed to them, groups joined and left, lists made and tunnels kicked, in the middle of their handshakes
// too; and each call has an answer that can be.
func TestNothingIsLeftOfTunnelsThatCameAndWent(t *testing.T) {
	const clients, turns = 6, 60
	b := startTagging(t, byQuery)
	f := start(t, oneSite(socketTo(b.address), `{path: /relay, mode: relay, websocket: "ws://`+b.address+`"}`))
	var coming, asking sync.WaitGroup
	gone := make(chan bool)
	for i := range clients {
		coming.Go(func() { f.comeAndGo(i, turns) })
	}
	expected := []error{proxy.ErrGone, proxy.ErrNoTunnel, proxy.ErrFull, proxy.ErrBroken} // the last, since Close frames are echoed as they are
	ask := func(what string, do func(key string) error) {
		asking.Go(func() {
			for {
				select {
				case <-gone:
					return
				default:
				}
				key := ""
				if all, _ := f.server.List(proxy.TunnelFilter{Group: "lobby"}); len(all) > 0 {
					key = all[rand.IntN(len(all))].Key
				}
				err := do(key)
				if may := func(e error) bool { return errors.Is(err, e) }; err != nil && !slices.ContainsFunc(expected, may) {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	ask("push", func(string) error {
		got, err := f.server.Push(t.Context(), proxy.Audience{Users: []string{"user-1", "user-2"}, Groups: []string{"lobby", "room-1"}}, textTo("to many"), true)
		if got.Matched != got.Written+got.Queued+got.Dropped || got.Queued != 0 {
			t.Errorf("%+v", got)
		}
		return err
	})
	ask("push to one", func(key string) error {
		_, err := f.server.PushTo(t.Context(), key, textTo("to one"), false)
		return err
	})
	ask("join", func(key string) error {
		return errors.Join(f.server.Join(key, "joined"), f.server.Leave(key, "lobby"), f.server.Join(key, "lobby"), f.server.Leave(key, "joined"))
	})
	ask("kick", func(key string) error { return f.server.Kick(key, 4000, "out") })
	coming.Wait()
	close(gone)
	began := time.Now()
	asking.Wait()
	if took := time.Since(began); took > 4*time.Second { // of the five that a closing handshake may take
		t.Errorf("somebody was answered %v later: a message waited for the end of what it could not go to", took)
	}
	await(t, "the end of all", func() bool {
		f.server.Skip(time.Second) // of those that answer no Close frame
		return f.server.TunnelCount() == 0
	})
	for _, group := range []string{"lobby", "joined", "room-0", "room-1", "room-2"} {
		f.expectNobodyIn(group)
	}
	if users, groups := f.server.Names(); users != 0 || groups != 0 {
		t.Errorf("%d users and %d groups are left", users, groups)
	}
}

// comeAndGo opens tunnels of a user, one after the other, and breaks each off.
func (f *front) comeAndGo(user, turns int) {
	for turn := range turns {
		target := fmt.Sprintf("%s?user-%d+lobby,room-%d", []string{"/ws", "/relay"}[turn%2], user, turn%3)
		c := f.dial()
		c.send(strings.Replace(upgrade, "GET /ws ", "GET "+target+" ", 1))
		if turn%5 != 0 { // else in the middle of its handshake
			c.head()
		}
		if turn%3 == 0 {
			c.br.ReadByte() // of a message or a Close frame
		}
		c.Close()
	}
}

func (f *front) expectNobodyIn(group string) {
	f.t.Helper()
	if got, err := f.server.Push(f.t.Context(), proxy.Audience{Groups: []string{group}}, textTo("to nobody"), true); err != nil || got.Matched != 0 {
		f.t.Errorf("%s: %+v, %v", group, got, err)
	}
}
