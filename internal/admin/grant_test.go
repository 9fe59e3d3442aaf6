package admin

import (
	"errors"
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
