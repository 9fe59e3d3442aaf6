package proxy

import (
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/head"
)

// TestPrivateFieldsPassNowhere: neither from a client, be it a trusted proxy, to backends and scripts, nor from a backend to a client.
func TestPrivateFieldsPassNowhere(t *testing.T) {
	private := []string{"X-Wstunnel-Id", "1", "x-wstunnel-user", "root", "X-WSTUNNEL-Later", "1", "grip-channel", "all"}
	fields := fieldsFrom(append(private, "X-Wstunnel", "mine", "Grip-Channels", "mine")...)
	in := inboundOf(true, append(private, "X-Wstunnel", "mine", "Grip-Channels", "mine")...)
	for name, got := range map[string]head.Fields{
		"a request":            rewriteRequest(nil, in, locationOf("/"), targetOf("h:9000"), "").Fields,
		"a script's request":   fieldsForScript(in),
		"an answer":            rewriteResponse(nil, fields, 200, in, locationOf("/"), targetOf("h:9000")),
		"an answer of its own": dropHopByHop(fields),
		"trailers":             rewriteTrailers(fields, nil),
	} {
		mine := 0
		for _, f := range got {
			switch {
			case f.Value == "mine":
				mine++
			case strings.HasPrefix(strings.ToLower(f.Name), "x-wstunnel") || strings.EqualFold(f.Name, "Grip-Channel"):
				t.Errorf("%s has %s", name, f.Name)
			}
		}
		if mine != 2 {
			t.Errorf("%s lacks what is no field of ours: %v", name, got)
		}
	}
}

// FuzzTags finds heads whose names are beyond their bounds.
func FuzzTags(f *testing.F) {
	f.Add("X-Wstunnel-Groups", "a, b,, a")
	f.Add("Grip-Channel", "news; prev-id=3, lobby;x")
	f.Add("x-wstunnel-user", "anna")
	f.Fuzz(func(t *testing.T, name, value string) {
		is, err := tagsOf(fieldsFrom(name, value, "X-Wstunnel-Groups", value))
		if err != nil {
			return
		}
		if len(is.groups) > maxGroups || is.user != "" && checkTag(is.user) != nil {
			t.Fatalf("%+v", is)
		}
		for i, g := range is.groups {
			if checkTag(g) != nil || slices.Contains(is.groups[:i], g) {
				t.Fatalf("%q", is.groups)
			}
		}
	})
}

// TestRollLosesNobody while tunnels come to a name and go, in any order.
func TestRollLosesNobody(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}} {
		var r roll
		members := make([]*membership, 4)
		for i := range members {
			members[i] = r.add("a", &liveTunnel{id: uint64(i)})
		}
		for gone, i := range order {
			r.remove(members[i])
			var left []uint64
			for m := r["a"]; m != nil; m = m.next {
				left = append(left, m.tunnel.id)
			}
			if len(left) != len(order)-gone-1 || slices.Contains(left, uint64(i)) {
				t.Errorf("%v: without %d there are %v", order, i, left)
			}
		}
		if len(r) > 0 {
			t.Errorf("%v: the name is kept", order)
		}
	}
}
