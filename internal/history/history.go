// Package history keeps what was counted in the last hour, a point every ten seconds (history.go), and hands it on to another process (kept.go). What it needs depends on how many sites there are, and not on how much happens.
package history

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// Step is the time from one point to the next.
	Step = 10 * time.Second
	// Points are those of an hour.
	Points = 360
	// maxSites is how many sites have points of their own; the others are in the sum alone. It is 45 KB for each.
	maxSites = 128
	// maxReasons is how many reasons of ends are told apart. Others are taken together, as the last one.
	maxReasons  = 16
	otherReason = "other"
)

// Counts are what was counted of a site since the start, beside how many tunnels it has now.
type Counts struct {
	Tunnels   int
	Opened    uint64
	Closed    map[string]uint64 // by their reasons
	Requests  uint64
	Failed    uint64 // handshakes
	ToBackend Traffic
	ToClient  Traffic
}

// Add adds what was counted elsewhere.
func (c *Counts) Add(d *Counts) { c.combine(d, func(a, b uint64) uint64 { return a + b }) }

// Since takes off what was counted before. How many tunnels there are stays.
func (c *Counts) Since(before *Counts) {
	open := c.Tunnels
	c.combine(before, func(a, b uint64) uint64 { return max(a, b) - b })
	c.Tunnels = open
}

// combine makes one of two counts, each number of both theirs.
func (c *Counts) combine(d *Counts, number func(a, b uint64) uint64) {
	c.Tunnels += d.Tunnels
	for _, n := range [...]struct {
		ours   *uint64
		theirs uint64
	}{
		{&c.Opened, d.Opened},
		{&c.Requests, d.Requests},
		{&c.Failed, d.Failed},
		{&c.ToBackend.Messages, d.ToBackend.Messages},
		{&c.ToBackend.Bytes, d.ToBackend.Bytes},
		{&c.ToClient.Messages, d.ToClient.Messages},
		{&c.ToClient.Bytes, d.ToClient.Bytes},
	} {
		*n.ours = number(*n.ours, n.theirs)
	}
	closed := maps.Clone(c.Closed)
	if closed == nil {
		closed = map[string]uint64{}
	}
	for reason, n := range d.Closed {
		closed[reason] = number(closed[reason], n)
	}
	c.Closed = closed
}

// Traffic is what has gone through tunnels in one direction.
type Traffic struct{ Messages, Bytes uint64 }

// Series are the points of an hour, the oldest first, each what was counted in its ten seconds, but for Tunnels, which are those that there were at its end.
type Series struct {
	StepSeconds int       `json:"step_seconds"`
	Until       time.Time `json:"until"` // the end of the last one
	Tunnels     []uint64  `json:"tunnels"`
	Opened      []uint64  `json:"opened"`
	Closed      []uint64  `json:"closed"`
	Requests    []uint64  `json:"requests"`
	Failed      []uint64  `json:"failed"`
	// MessagesIn and BytesIn went to backends, MessagesOut and BytesOut to clients.
	MessagesIn  []uint64 `json:"messages_in"`
	MessagesOut []uint64 `json:"messages_out"`
	BytesIn     []uint64 `json:"bytes_in"`
	BytesOut    []uint64 `json:"bytes_out"`
	// Reasons are why tunnels have ended, in all points together, the most frequent one first.
	Reasons []Reason `json:"reasons"`
}

// Reason is how often tunnels have ended for a reason.
type Reason struct {
	Reason string `json:"reason"`
	N      uint64 `json:"n"`
}

// Hour is the last hour. It is safe for concurrent use.
type Hour struct {
	mu      sync.Mutex
	sum     *[Points]point
	sites   map[string]*site
	reasons []string // of the places in a point
	noted   int      // points, those that are forgotten too
	until   time.Time
}

// site is what is known of one.
type site struct {
	last   Counts
	points *[Points]point // nil until there is anything to keep
	noted  int            // the last point that it was there for
}

// point is what was counted in ten seconds.
type point struct {
	tunnels, opened, closed, requests, failed uint32
	messages                                  [2]uint32
	bytes                                     [2]uint64
	reasons                                   [maxReasons]uint32
}

func (p *point) add(q *point) {
	p.tunnels += q.tunnels
	p.opened += q.opened
	p.closed += q.closed
	p.requests += q.requests
	p.failed += q.failed
	for i := range p.bytes {
		p.messages[i] += q.messages[i]
		p.bytes[i] += q.bytes[i]
	}
	for i := range p.reasons {
		p.reasons[i] += q.reasons[i]
	}
}

// Note adds a point: what was counted of each site until now. The first time there is nothing to compare with, and no point.
func (h *Hour) Note(now time.Time, counts map[string]Counts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = now
	if h.sum == nil {
		h.sum, h.sites = new([Points]point), map[string]*site{}
		for name, c := range counts {
			h.sites[name] = &site{last: c}
		}
		return
	}
	place := h.noted % Points
	h.noted++
	h.sum[place] = point{}
	kept := 0
	for _, s := range h.sites {
		if s.points != nil {
			s.points[place] = point{}
			kept++
		}
	}
	for name, c := range counts {
		s := h.sites[name]
		if s == nil {
			s = &site{}
			h.sites[name] = s
		}
		p := h.between(&s.last, &c)
		s.last, s.noted = c, h.noted
		h.sum[place].add(&p)
		if s.points == nil && p != (point{}) && kept < maxSites {
			s.points = new([Points]point)
			kept++
		}
		if s.points != nil {
			s.points[place] = p
		}
	}
	for name, s := range h.sites { // what is long gone
		if h.noted-s.noted >= Points {
			delete(h.sites, name)
		}
	}
}

// between is what was counted between two times.
func (h *Hour) between(before, now *Counts) (p point) {
	since := func(before, now uint64) uint64 { return max(before, now) - before }
	p.tunnels = uint32(max(0, now.Tunnels))
	p.opened = uint32(since(before.Opened, now.Opened))
	p.requests, p.failed = uint32(since(before.Requests, now.Requests)), uint32(since(before.Failed, now.Failed))
	for i, t := range [2][2]Traffic{{before.ToBackend, now.ToBackend}, {before.ToClient, now.ToClient}} {
		p.messages[i], p.bytes[i] = uint32(since(t[0].Messages, t[1].Messages)), since(t[0].Bytes, t[1].Bytes)
	}
	for reason, n := range now.Closed {
		if n = since(before.Closed[reason], n); n > 0 {
			p.reasons[h.place(reason)] += uint32(n)
			p.closed += uint32(n)
		}
	}
	return p
}

// place is where a reason is counted.
func (h *Hour) place(reason string) int {
	if i := slices.Index(h.reasons, reason); i >= 0 {
		return i
	}
	switch {
	case len(h.reasons) == maxReasons:
		return maxReasons - 1
	case len(h.reasons) == maxReasons-1:
		reason = otherReason
	}
	h.reasons = append(h.reasons, reason)
	return len(h.reasons) - 1
}

// Series returns the points of some sites together, or, for nil, of all.
func (h *Hour) Series(sites []string) Series {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Series{StepSeconds: int(Step.Seconds()), Until: h.until, Reasons: []Reason{}}
	for _, values := range s.all() {
		*values = make([]uint64, 0, min(h.noted, Points))
	}
	var ended [maxReasons]uint64
	for n := max(0, h.noted-Points); n < h.noted; n++ {
		p := h.at(n%Points, sites)
		for i, v := range [...]uint64{
			uint64(p.tunnels), uint64(p.opened), uint64(p.closed), uint64(p.requests), uint64(p.failed),
			uint64(p.messages[0]), uint64(p.messages[1]), p.bytes[0], p.bytes[1],
		} {
			values := s.all()[i]
			*values = append(*values, v)
		}
		for i, n := range p.reasons {
			ended[i] += uint64(n)
		}
	}
	for i, reason := range h.reasons {
		if ended[i] > 0 {
			s.Reasons = append(s.Reasons, Reason{reason, ended[i]})
		}
	}
	slices.SortStableFunc(s.Reasons, func(a, b Reason) int { return cmp.Compare(b.N, a.N) })
	return s
}

// all are the values of the points.
func (s *Series) all() [9]*[]uint64 {
	return [...]*[]uint64{&s.Tunnels, &s.Opened, &s.Closed, &s.Requests, &s.Failed, &s.MessagesIn, &s.MessagesOut, &s.BytesIn, &s.BytesOut}
}

// at is a point of some sites together, or of all.
func (h *Hour) at(place int, sites []string) (p point) {
	if sites == nil {
		return h.sum[place]
	}
	for _, name := range sites {
		if s := h.sites[name]; s != nil && s.points != nil {
			p.add(&s.points[place])
		}
	}
	return p
}

// Recent returns what was counted of each site in the last points, up to so many, as rates in a second.
func (h *Hour) Recent(points int) map[string]Rates {
	h.mu.Lock()
	defer h.mu.Unlock()
	rates := map[string]Rates{}
	points = min(points, h.noted, Points)
	for name, s := range h.sites {
		var p point
		for n := h.noted - points; n < h.noted && s.points != nil; n++ {
			p.add(&s.points[n%Points])
		}
		seconds := Step.Seconds() * float64(max(1, points))
		rates[name] = Rates{
			Requests: float64(p.requests) / seconds, Messages: float64(p.messages[0]+p.messages[1]) / seconds, Bytes: float64(p.bytes[0]+p.bytes[1]) / seconds,
		}
	}
	return rates
}

// Rates are how often something happens in a second.
type Rates struct{ Requests, Messages, Bytes float64 }
