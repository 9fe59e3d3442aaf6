package proxy

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/metrics"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/upstream"
)

// class is what requests are told apart by: what became of them.
type class int

// The classes of requests.
const (
	classTunnel class = iota // 101, or 200 to an extended CONNECT: a tunnel was opened
	class2xx
	class3xx
	class4xx
	class5xx
	classGone // the client did not wait for its answer
	classes
)

func (c class) String() string {
	return [classes]string{"101", "2xx", "3xx", "4xx", "5xx", "gone"}[c]
}

func classOf(status int) class {
	switch {
	case status < 300:
		return class2xx
	case status < 400:
		return class3xx
	case status < 500:
		return class4xx
	}
	return class5xx
}

// counts are what the process has counted of its requests and tunnels.
type counts struct {
	tls      failures // of TLS handshakes
	refused  atomic.Uint64
	accepted atomic.Uint64

	mu    sync.Mutex // guards what follows
	sites map[string]*siteCounts
}

// unknownSite is the name of the counts of requests that belong to no site. It can be no host's.
const unknownSite = "(unknown)"

// of returns the counts of a site, by its name in the log.
func (c *counts) of(site string) *siteCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sites == nil {
		c.sites = map[string]*siteCounts{}
	}
	if c.sites[site] == nil {
		c.sites[site] = &siteCounts{name: site}
	}
	return c.sites[site]
}

// retire forgets the sites that a configuration does not have, unless they still have tunnels.
func (c *counts) retire(cfg *config.Config, open map[*siteCounts]int) {
	kept := map[string]bool{unknownSite: true}
	for i := range cfg.Sites {
		kept[cfg.Sites[i].Hosts[0]] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.sites {
		if !kept[name] && open[s] == 0 {
			delete(c.sites, name)
		}
	}
}

// all returns the counts of all sites, by their names in order.
func (c *counts) all() []*siteCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*siteCounts, 0, len(c.sites))
	for _, s := range c.sites {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *siteCounts) int { return cmp.Compare(a.name, b.name) })
	return all
}

// siteCounts are those of one site. They belong to the process: no reload sets them back.
type siteCounts struct {
	name      string
	requests  [classes]metrics.Durations
	opened    atomic.Uint64 // tunnels
	toBackend traffic
	toClient  traffic
	failed    failures // of WebSocket handshakes

	mu     sync.Mutex // guards what follows
	closed map[ending]uint64
}

// traffic is what has gone through the tunnels of a site in one direction, as far as it has been gathered.
type traffic struct{ bytes, messages atomic.Uint64 }

// ending is how a tunnel ended, as it is counted.
type ending struct {
	cause tunnel.Cause
	by    tunnel.Side
	code  string
}

// failures counts what failed, by its cause.
type failures struct {
	mu      sync.Mutex
	byCause map[string]uint64
}

func (f *failures) note(cause string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byCause == nil {
		f.byCause = map[string]uint64{}
	}
	f.byCause[cause]++
}

// count counts an exchange that is over.
func (x *exchange) count() {
	site := x.gen.unknown
	if x.site != nil {
		site = x.site.counts
	}
	c := classGone
	switch {
	case x.tunnelled:
		c = classTunnel
	case x.status > 0 && !x.clientGone:
		c = classOf(x.status)
	}
	site.requests[c].Note(time.Since(x.start))
	if c != classTunnel && x.in.Request.Protocol == "websocket" {
		site.failed.note(x.handshakeCause())
	}
}

// Why WebSocket handshakes fail, as it is counted.
const (
	handshakeGone      = "client gone"        // it did not wait
	handshakeDenied    = "denied"             // by the rules of the location
	handshakeNotServed = "not served"         // there is no such site, location or WebSocket
	handshakeBad       = "bad request"        // it is no handshake
	handshakeBusy      = "too much to do"     // limits on connections, or on handshakes
	handshakeNotNow    = "not now"            // a drain, or a first certificate that is still to come
	handshakeNoServer  = "no backend"         // all servers are down
	handshakeBackend   = "backend failed"     // no server could be connected with, or it answered with no valid 101
	handshakeTimeout   = "backend timeout"    // it did not answer in time
	handshakeRefused   = "refused by backend" // which answered with another status
	handshakeFailed    = "failed"             // for another reason, which the log has
)

// handshakeCause says why an exchange that was to open a WebSocket has not.
func (x *exchange) handshakeCause() string {
	_, asked := x.responder.(*upgrade)
	switch {
	case x.status == 0 || x.clientGone:
		return handshakeGone
	case asked && x.err == nil:
		return handshakeRefused
	case errors.Is(x.err, upstream.ErrNoServer):
		return handshakeNoServer
	case errors.Is(x.err, upstream.ErrFull), errors.Is(x.err, upstream.ErrNoTurn), errors.Is(x.err, upstream.ErrTooManyHandshakes):
		return handshakeBusy
	case x.err == nil && x.status == http.StatusServiceUnavailable:
		return handshakeNotNow
	}
	switch x.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return handshakeDenied
	case http.StatusBadRequest:
		return handshakeBad
	case http.StatusBadGateway:
		return handshakeBackend
	case http.StatusGatewayTimeout:
		return handshakeTimeout
	}
	if asked || x.status >= http.StatusInternalServerError {
		return handshakeFailed
	}
	return handshakeNotServed
}

// tunnelEnded counts how a tunnel has ended.
func (s *siteCounts) tunnelEnded(r *tunnel.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil {
		s.closed = map[ending]uint64{}
	}
	s.closed[ending{r.Cause, r.By, codeLabel(r.Code)}]++
}

// codeLabel returns a Close code as it is counted: those that RFC 6455, section 7.4.1, or IANA gives a meaning. Others are a client's to choose.
func codeLabel(code uint16) string {
	switch {
	case code >= 4000 && code < 5000:
		return "4xxx"
	case code >= 3000 && code < 4000:
		return "3xxx"
	case code >= 1000 && code <= 1014:
		return strconv.Itoa(int(code))
	}
	return "other"
}

// gather adds what has gone through a tunnel since the last time.
func (s *siteCounts) gather(told *[2]tunnel.Traffic, toBackend, toClient tunnel.Traffic) {
	for i, now := range [2]tunnel.Traffic{toBackend, toClient} {
		sum := [2]*traffic{&s.toBackend, &s.toClient}[i]
		sum.bytes.Add(max(now.Bytes, told[i].Bytes) - told[i].Bytes)
		sum.messages.Add(max(now.Messages, told[i].Messages) - told[i].Messages)
		told[i] = now
	}
}

// gatherAtOnce is how many tunnels are gone through before others, who open or end some, have their turn.
const gatherAtOnce = 200

// gather adds what has gone through all live tunnels since the last time to the counts of their sites, and returns how many tunnels each has.
func (ts *tunnels) gather() (open map[*siteCounts]int) {
	open = map[*siteCounts]int{}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	n := 0
	for _, t := range ts.live {
		open[t.counts]++
		if t.conn != nil {
			stats := t.conn.Stats()
			t.counts.gather(&t.told, stats.ToBackend, stats.ToClient)
		}
		if n++; n%gatherAtOnce == 0 {
			ts.mu.Unlock()
			ts.mu.Lock()
		}
	}
	return open
}
