package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wstunnel/internal/tags"
)

// who is what is known of whose a tunnel is; only tunnels of which something is known have one. The mu of tunnels guards it.
type who struct {
	user   *membership // nil for none
	groups *membership // the first of them
}

// membership is a tunnel among those of a user, or of a group.
type membership struct {
	name       string // one string for all of them
	tunnel     *liveTunnel
	prev, next *membership // of the same name
	another    *membership // the tunnel's next group
}

// roll is the tunnels of each name: the last one that came to it, which leads to the others.
type roll map[string]*membership

// add makes a tunnel one of those of a name.
func (r *roll) add(name string, t *liveTunnel) *membership {
	if *r == nil {
		*r = roll{}
	}
	m := &membership{name: name, tunnel: t}
	if first := (*r)[name]; first != nil {
		m.name, m.next, first.prev = first.name, first, m
	}
	(*r)[m.name] = m
	return m
}

// remove takes a tunnel out.
func (r roll) remove(m *membership) {
	if m.next != nil {
		m.next.prev = m.prev
	}
	switch {
	case m.prev != nil:
		m.prev.next = m.next
	case m.next != nil:
		r[m.name] = m.next
	default:
		delete(r, m.name)
	}
}

// enrol keeps whose a tunnel is. It is called with mu held.
func (ts *tunnels) enrol(t *liveTunnel, is tags.Tags) {
	if is.NoPush {
		t.unpushable = pushOff
	}
	if is.User == "" && len(is.Groups) == 0 {
		return
	}
	t.who = &who{}
	if is.User != "" {
		t.who.user = ts.users.add(is.User, t)
	}
	for _, g := range slices.Backward(is.Groups) {
		m := ts.groups.add(g, t)
		t.who.groups, m.another = m, t.who.groups
	}
}

// strike forgets whose a tunnel was. It is called with mu held.
func (ts *tunnels) strike(t *liveTunnel) {
	if t.who == nil {
		return
	}
	if t.who.user != nil {
		ts.users.remove(t.who.user)
	}
	for m := t.who.groups; m != nil; m = m.another {
		ts.groups.remove(m)
	}
	t.who = nil
}

// tags returns what is known of whose a tunnel is. It is called with mu held.
func (t *liveTunnel) tags() (is tags.Tags) {
	is.NoPush = t.unpushable == pushOff
	if t.who == nil {
		return is
	}
	if t.who.user != nil {
		is.User = t.who.user.name
	}
	for m := t.who.groups; m != nil; m = m.another {
		is.Groups = append(is.Groups, m.name)
	}
	return is
}

// ErrHandingOver says that a tunnel is on its way to another process, so that nothing can be changed here.
var ErrHandingOver = errors.New("the tunnel is being handed over to another process; try again")

// TagError is a name that no user and no group can have, or a group too many.
type TagError struct{ Reason string }

func (e *TagError) Error() string { return e.Reason }

// Join makes a tunnel one of a group. To be in it already is no mistake. It fails with what [Server.Tunnel] fails with, [ErrHandingOver] or a [*TagError].
func (s *Server) Join(key, group string) error {
	if err := tags.Check(group); err != nil {
		return &TagError{err.Error()}
	}
	return s.tunnels.update(key, func(t *liveTunnel) error {
		groups := t.tags().Groups
		switch {
		case slices.Contains(groups, group):
			return nil
		case len(groups) >= tags.MaxGroups:
			return &TagError{fmt.Sprintf("the tunnel is in %d groups, and may be in no more", tags.MaxGroups)}
		}
		if t.who == nil {
			t.who = &who{}
		}
		m := s.tunnels.groups.add(strings.Clone(group), t)
		t.who.groups, m.another = m, t.who.groups
		if s.tunnels.events.wanted() {
			t.tell(Event{Kind: EventJoined, Group: m.name})
		}
		return nil
	})
}

// Leave makes a tunnel none of a group. Not to be in it is no mistake. It fails as [Server.Join] does.
func (s *Server) Leave(key, group string) error {
	return s.tunnels.update(key, func(t *liveTunnel) error {
		if t.leaveGroup(group) && s.tunnels.events.wanted() {
			t.tell(Event{Kind: EventLeft, Group: strings.Clone(group)})
		}
		return nil
	})
}

// leaveGroup takes a tunnel out of a group, and reports whether it was in it. It is called with mu held.
func (t *liveTunnel) leaveGroup(group string) (was bool) {
	if t.who == nil {
		return false
	}
	for place := &t.who.groups; *place != nil; place = &(*place).another {
		if m := *place; m.name == group {
			*place = m.another
			t.tunnels.groups.remove(m)
			was = true
			break
		}
	}
	if t.who.user == nil && t.who.groups == nil {
		t.who = nil
	}
	return was
}

// update changes a tunnel that is known by a key, with mu held.
func (ts *tunnels) update(key string, change func(*liveTunnel) error) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, err := ts.known(key)
	switch {
	case err != nil:
		return err
	case t.moving:
		return ErrHandingOver
	}
	return change(t)
}

// key is what a tunnel is known by outside: its number, as the log has it, and something that another one of this number, of an earlier process, does not have.
func (t *liveTunnel) key() string { return tunnelKey(t.id, t.secret) }

func tunnelKey(id uint64, secret uint32) string {
	hex := strconv.FormatUint(uint64(secret)|1<<32, 16)[1:]
	return strconv.FormatUint(id, 10) + "-" + hex
}

// known returns the tunnel that a key names, with mu held. It fails with [ErrGone] for one that may have been, and with [ErrNoTunnel].
func (ts *tunnels) known(key string) (*liveTunnel, error) {
	number, secret, _ := strings.Cut(key, "-")
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil || len(secret) != 8 {
		return nil, ErrNoTunnel
	}
	t := ts.live[id]
	switch {
	case t == nil && 0 < id && id <= ts.lastID.Load():
		return nil, ErrGone
	case t == nil || t.key() != key:
		return nil, ErrNoTunnel
	case t.conn == nil: // which is being opened
		return nil, ErrNoTunnel
	}
	return t, nil
}
