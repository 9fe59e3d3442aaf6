package tags

import (
	"slices"
	"testing"

	"wstunnel/internal/head"
)

// FuzzTags finds heads whose names are beyond their bounds.
func FuzzTags(f *testing.F) {
	f.Add("X-Wstunnel-Groups", "a, b,, a")
	f.Add("Grip-Channel", "news; prev-id=3, lobby;x")
	f.Add("x-wstunnel-user", "anna")
	f.Fuzz(func(t *testing.T, name, value string) {
		is, err := Of(head.Fields{{Name: name, Value: value, ID: head.IDOf(name)}, {Name: "X-Wstunnel-Groups", Value: value}})
		if err != nil {
			return
		}
		if len(is.Groups) > MaxGroups || is.User != "" && Check(is.User) != nil {
			t.Fatalf("%+v", is)
		}
		for i, g := range is.Groups {
			if Check(g) != nil || slices.Contains(is.Groups[:i], g) {
				t.Fatalf("%q", is.Groups)
			}
		}
	})
}
