package history

import (
	"encoding/json"
	"errors"
	"time"
)

// kept is an hour on its way to another process.
type kept struct {
	Until   time.Time             `json:"until"`
	Reasons []string              `json:"reasons"`
	Sum     [][]uint64            `json:"sum"` // the oldest first
	Sites   map[string][][]uint64 `json:"sites"`
}

// MarshalJSON implements [json.Marshaler].
func (h *Hour) MarshalJSON() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := kept{Until: h.until, Reasons: h.reasons, Sum: h.ordered(h.sum), Sites: map[string][][]uint64{}}
	for name, s := range h.sites {
		if s.points != nil {
			k.Sites[name] = h.ordered(s.points)
		}
	}
	return json.Marshal(k)
}

// UnmarshalJSON implements [json.Unmarshaler]: the hour goes on with what was kept, and counts from zero.
func (h *Hour) UnmarshalJSON(b []byte) error {
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return err
	}
	if len(k.Sum) > Points || len(k.Reasons) > maxReasons || len(k.Sites) > maxSites {
		return errors.New("more than an hour holds")
	}
	sum, err := points(k.Sum, len(k.Sum))
	if err != nil {
		return err
	}
	sites := map[string]*site{}
	for name, numbers := range k.Sites {
		s := &site{noted: len(k.Sum)}
		if s.points, err = points(numbers, len(k.Sum)); err != nil {
			return err
		}
		sites[name] = s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sum, h.sites, h.reasons, h.noted, h.until = sum, sites, k.Reasons, len(k.Sum), k.Until
	return nil
}

// ordered returns the numbers of points, the oldest first.
func (h *Hour) ordered(all *[Points]point) [][]uint64 {
	numbers := [][]uint64{}
	for n := max(0, h.noted-Points); n < h.noted; n++ {
		p := &all[n%Points]
		one := []uint64{
			uint64(p.tunnels), uint64(p.opened), uint64(p.closed), uint64(p.requests), uint64(p.failed),
			uint64(p.messages[0]), uint64(p.messages[1]), p.bytes[0], p.bytes[1],
		}
		for i := range h.reasons {
			one = append(one, uint64(p.reasons[i]))
		}
		numbers = append(numbers, one)
	}
	return numbers
}

// plain is how many numbers a point has beside those of reasons.
const plain = 9

// points returns those of which there are the numbers, as many as there are to be.
func points(numbers [][]uint64, want int) (*[Points]point, error) {
	if len(numbers) != want {
		return nil, errors.New("a site has other points than all together")
	}
	all := new([Points]point)
	for i, one := range numbers {
		if len(one) < plain || len(one) > plain+maxReasons {
			return nil, errors.New("a point has too few numbers, or too many")
		}
		p := &all[i]
		for j, n := range []*uint32{&p.tunnels, &p.opened, &p.closed, &p.requests, &p.failed, &p.messages[0], &p.messages[1]} {
			*n = uint32(one[j])
		}
		p.bytes = [2]uint64(one[plain-2 : plain])
		for j, n := range one[plain:] {
			p.reasons[j] = uint32(n)
		}
	}
	return all, nil
}
