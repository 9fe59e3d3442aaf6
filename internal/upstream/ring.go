package upstream

import (
	"cmp"
	"slices"
	"strconv"
)

const (
	// boundedLoad is how much of its share a server may have to do for what is hashed to be sent there.
	boundedLoad = 1.25
	// ringPoints is how many points a server of average weight has on the ring, and mostPoints how many all have at most.
	ringPoints = 160
	mostPoints = 1 << 16
)

// ring has points of all servers on a circle of hashes: what is hashed belongs to the next point, so that a server that comes or goes moves only what is its own.
// It is the same in every process that has the same servers.
type ring []ringPoint

type ringPoint struct {
	hash  uint64
	index int32 // of the server
}

// newRing makes a ring of servers by their names and weights.
func newRing(names []string, weights []int) ring {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	var r ring
	perServer := min(ringPoints, max(1, mostPoints/max(1, len(names))))
	for i, name := range names {
		points := max(1, perServer*len(names)*weights[i]/max(1, sum))
		if weights[i] == 0 {
			points = 0
		}
		for n := range points {
			r = append(r, ringPoint{Hash(name + "#" + strconv.Itoa(n)), int32(i)})
		}
	}
	slices.SortFunc(r, func(a, b ringPoint) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.index, b.index)) })
	return r
}

// find returns the first server from a hash on that fits, or -1.
func (r ring) find(hash uint64, fits func(i int) bool) int {
	first, _ := slices.BinarySearchFunc(r, hash, func(p ringPoint, hash uint64) int { return cmp.Compare(p.hash, hash) })
	last := int32(-1)
	for n := range r {
		p := r[(first+n)%len(r)]
		if p.index != last && fits(int(p.index)) {
			return int(p.index)
		}
		last = p.index
	}
	return -1
}

// Hash returns the place of a text on the ring: FNV-1a, with its bits mixed as MurmurHash3 ends.
func Hash(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
