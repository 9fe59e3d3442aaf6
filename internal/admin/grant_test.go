package admin

import (
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"
)

func TestGrants(t *testing.T) {
	owner := Grant{Who: "user 0", Verbs: All}
	one := Grant{Who: "user 33", Sites: []string{"a.example"}, Verbs: List | Send}
	idle := Grant{Who: "token idle", Sites: []string{"a.example"}}
	for _, c := range []struct {
		name string
		err  error
		want string // empty for none
	}{
		{"the owner may all", owner.mayAll(All), ""},
		{"a verb that is granted", one.may(Send), ""},
		{"one that is not", one.may(Kick), "user 33 may not kick: what is granted is list, send"},
		{"one of two that is not", one.may(List | Manage), "user 33 may not list, manage: what is granted is list, send"},
		{"of the whole server", one.mayAll(List), "user 33 may not: this is of the whole server, and what is granted is of a.example"},
		{"nothing", idle.may(List), "token idle may not list: what is granted is nothing"},
	} {
		if c.want == "" && c.err == nil {
			continue
		}
		if e, ok := errors.AsType[*StatusError](c.err); !ok || e.Status != 403 || e.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.name, c.err, c.want)
		}
	}
	if !owner.sees("b.example") || !one.sees("a.example") || one.sees("b.example") {
		t.Error("sites are not seen as granted")
	}
}

// known are tunnels of b.example: a live one, one that has ended, and no others.
type known struct{ Tunnels }

func (known) Tunnel(id string) (Tunnel, error) {
	switch id {
	case "live":
		return Tunnel{ID: id, Site: "b.example"}, nil
	case "ended":
		return Tunnel{}, &StatusError{410, errors.New("the tunnel has ended")}
	}
	if id == "silent" {
		return Tunnel{}, &StatusError{503, errors.New("it is in a process that does not answer")}
	}
	return Tunnel{}, errNotSeen
}

// TestTunnelsOfOtherSitesAreAllTheSame has one of other sites not tell whether a number is a live tunnel's, so that nobody can count those.
func TestTunnelsOfOtherSitesAreAllTheSame(t *testing.T) {
	all, own, others := Grant{}, Grant{Sites: []string{"b.example"}}, Grant{Sites: []string{"a.example"}}
	for _, c := range []struct {
		grant  *Grant
		id     string
		status int // zero for found
	}{
		{&others, "live", 404},
		{&others, "ended", 404},
		{&others, "never", 404},
		{&own, "live", 0},
		{&own, "ended", 404},
		{&own, "never", 404},
		{&own, "silent", 503},
		{&all, "silent", 503},
		{&all, "live", 0},
		{&all, "ended", 410},
		{&all, "never", 404},
	} {
		_, err := c.grant.find(known{}, c.id)
		e, _ := errors.AsType[*StatusError](err)
		if c.status == 0 && err != nil || c.status != 0 && (e == nil || e.Status != c.status) {
			t.Errorf("%v, %s: %v, want %d", c.grant.Sites, c.id, err, c.status)
		}
		if reached := c.grant.reach(known{}, c.id); c.grant.Sites != nil && (reached == nil) != (err == nil) {
			t.Errorf("%v, %s: found %v, but reached %v", c.grant.Sites, c.id, err, reached)
		}
	}
}

// TestEmptyTokenIsNone, even where the configuration has its hash.
func TestEmptyTokenIsNone(t *testing.T) {
	var g gate
	g.access.Store(&Access{Tokens: []Token{{Hash: sha256.Sum256(nil), Grant: &Grant{Verbs: All}}}})
	if g.bearer("") != nil {
		t.Error("no token at all is one")
	}
}

// TestGrantEndsWhileABodyIsAwaited: who was let in, but has yet to say the rest, is asked who it is again.
func TestGrantEndsWhileABodyIsAwaited(t *testing.T) {
	desk := NewDesk(quiet{}, busy{}, nil, slog.New(slog.DiscardHandler))
	settle, err := desk.Move("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	settle(true)
	t.Cleanup(desk.CloseWeb)
	access := func() *Access {
		return &Access{Tokens: []Token{{Hash: sha256.Sum256([]byte("good")), Grant: &Grant{Who: "token good", Verbs: All}}}}
	}
	for _, c := range []struct {
		name   string
		then   *Access
		status int
	}{{"a reload changes nothing", access(), 200}, {"a reload takes the token away", &Access{}, 503}} {
		desk.Admit(access())
		d := dialAny(t, "tcp", desk.web.current.Addr().String())
		io.WriteString(d, "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer good\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
		if got := d.status(t); got != http.StatusContinue { // the body is awaited
			t.Fatalf("%s: %d", c.name, got)
		}
		desk.Admit(c.then)
		io.WriteString(d, "x")
		if got := d.status(t); got != c.status {
			t.Errorf("%s: %d, want %d", c.name, got, c.status)
		}
	}
}

// TestWatchBeginsWithAGrantThatHolds, since nothing would end it otherwise.
func TestWatchBeginsWithAGrantThatHolds(t *testing.T) {
	ws := newWatchers(busy{}, func(*Grant) bool { return false }, anySite)
	for range maxWatchers + 1 {
		if _, err := ws.begin(&Grant{Verbs: List}, ""); !errors.Is(err, errChanged) {
			t.Fatal(err)
		}
	}
	if _, err := ws.begin(&Grant{Verbs: List, owner: true}, ""); err != nil {
		t.Error(err)
	}
}
