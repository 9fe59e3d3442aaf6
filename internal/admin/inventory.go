package admin

import (
	"net/http"
	"time"
)

// Upstream is how an upstream does.
type Upstream struct {
	// Name is the configuration's; a server that a target names itself is one of its own, such as tcp:127.0.0.1:9000.
	Name string `json:"name"`
	// Sites that use it, by their first hosts.
	Sites []string `json:"sites"`
	// Shared says, to one who sees some sites only, that others use it, too: what is counted below is not told then, and all of it is 0.
	Shared bool `json:"shared,omitempty"`
	// Held are requests that wait for a server to come back, Queued those that wait for a connection within max_connections, Retrying those that are being repeated.
	Held     int       `json:"held"`
	Queued   int       `json:"queued"`
	Retrying int       `json:"retrying"`
	Servers  []Backend `json:"servers"`
}

// Backend is a server of an upstream.
type Backend struct {
	Address string `json:"address"`
	// State is up, ejected (too many requests failed), down (it fails its checks), unseen (it is not checked yet), or off (down: true).
	State string `json:"state"`
	// Reason is why it changed the last time, and LastCheck what its last check said if that failed.
	Reason    string `json:"reason,omitempty"`
	LastCheck string `json:"last_check,omitempty"`
	Weight    int    `json:"weight"`
	Backup    bool   `json:"backup"`
	// Active are requests and handshakes under way, Tunnels the WebSockets that are open, Waiting handshakes that wait for their time.
	Active  int `json:"active"`
	Tunnels int `json:"tunnels"`
	Waiting int `json:"waiting"`
	// All that follow count from the start.
	Failures     uint64 `json:"failures"`
	Ejections    uint64 `json:"ejections"`
	Retries      uint64 `json:"retries"`
	Checks       uint64 `json:"checks"`
	FailedChecks uint64 `json:"failed_checks"`
}

// upstreams is a list of them.
type upstreams struct {
	Upstreams []Upstream `json:"upstreams"`
}

// Certificates are those of the configuration that runs.
type Certificates struct {
	// Config is the absolute path of its file; empty for who sees some sites only.
	Config       string        `json:"config,omitempty"`
	Certificates []Certificate `json:"certificates"`
}

// Certificate is that of one host.
type Certificate struct {
	Host string `json:"host"`
	Site string `json:"site"`
	// Issuer is empty, and NotAfter not there, where there is no certificate.
	Issuer   string     `json:"issuer"`
	NotAfter *time.Time `json:"not_after,omitempty"`
	// Renewal is when it is ordered or renewed; not there: now, or whenever the owner of the files does.
	Renewal *time.Time `json:"renewal,omitempty"`
	// Files says that it is renewed by whoever writes its files.
	Files bool `json:"files"`
	// Error is why the last order, or reading it, failed.
	Error string `json:"error,omitempty"`
}

func (d *Desk) handleInventory(mux *router) {
	mux.HandleFunc("GET /v1/upstreams", needs(List, func(w http.ResponseWriter, _ *http.Request, g *Grant) {
		answer(w, http.StatusOK, upstreams{d.service.Upstreams(g.Sites)})
	}))
	mux.HandleFunc("GET /v1/certificates", needs(List, func(w http.ResponseWriter, _ *http.Request, g *Grant) {
		list, err := d.service.Certificates(g.Sites)
		give(w, list, err)
	}))
	mux.HandleFunc("GET /v1/config", needsAll(Manage, func(w http.ResponseWriter, _ *http.Request, _ *Grant) {
		text, err := d.service.Config()
		if err != nil {
			give(w, nil, err)
			return
		}
		prepare(w, "application/yaml")
		w.Write(text)
	}))
}
