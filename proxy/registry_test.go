package proxy

import (
	"slices"
	"testing"
)

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
