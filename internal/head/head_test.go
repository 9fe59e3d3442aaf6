package head

import (
	"strings"
	"testing"
)

func TestIDOfEverySpelling(t *testing.T) {
	for id := ID(1); id < idCount; id++ {
		name := id.String()
		if name == "" {
			t.Fatalf("ID %d has no name", id)
		}
		for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got := IDOf(spelt); got != id {
				t.Errorf("%s: %d %s, want %d", spelt, got, got, id)
			}
		}
	}
	for _, name := range []string{"", "X", "Hosts", "Hos", "Content_Length", "Kont-Length", "\u212Aeep-Alive"} {
		if got := IDOf(name); got != Other {
			t.Errorf("%s: %s", name, got)
		}
	}
	for i, ids := range buckets {
		if len(ids) > 3 {
			t.Errorf("bucket %d has %d names", i, len(ids))
		}
	}
}

func TestFields(t *testing.T) {
	var f Fields
	f.Add(Connection, "keep-alive")
	f.Add(Host, "a")
	f.Add(Connection, " Upgrade ,x")
	f = append(f, Field{Name: "X-Own", Value: "1"})
	if !f.HasToken(Connection, "upgrade") || f.HasToken(Connection, "upgrad") || f.Tokens(Connection) != 3 || f.Count(Connection) != 2 {
		t.Errorf("tokens of %v", f)
	}
	if got := f.Joined(Connection); got != "keep-alive,  Upgrade ,x" {
		t.Errorf("joined: %q", got)
	}
	if f.Get(Host) != "a" || f.Has(Cookie) || f.Get(Cookie) != "" {
		t.Errorf("single fields of %v", f)
	}
	if v, ok := f.Lookup("x-own"); v != "1" || !ok {
		t.Errorf("looked up %q %t", v, ok)
	}
}
