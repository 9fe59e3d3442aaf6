// Package admin is how a running server is spoken to: HTTP with JSON, or lines, on a Unix socket, for the commands of the same binary and whoever else may.
package admin

import "context"

// Service is the running server.
type Service interface {
	// Reload reads the configuration again, and returns when it is in force. It fails with all that is wrong; then the old one stays.
	Reload(ctx context.Context) error
	// Drain begins a drain, or ends one, and returns how many tunnels are being closed.
	Drain(order DrainOrder) (tunnels int, err error)
	// Upgrade starts the binary that is there now, and returns when it has taken over, or with what kept it from that; then nothing has changed. Where
	// it is the one that runs, that is a reload.
	Upgrade(ctx context.Context) (Upgraded, error)
	// Site returns the first host of the site that has a host; false where none has.
	Site(host string) (first string, ok bool)
	// Status tells what is.
	Status() Status
	// Overview tells how all goes, or, where they are not nil, how some sites do.
	Overview(among []string) Overview
	// Upstreams tells how upstreams do that any of some sites use, or, for nil, all of them.
	Upstreams(among []string) []Upstream
	// Certificates tells of the certificates of some sites, or, for nil, of all.
	Certificates(among []string) (Certificates, error)
	// Config is the configuration that runs, as YAML, without its secrets.
	Config() ([]byte, error)
}

// Upgraded is what came of an upgrade.
type Upgraded struct {
	// Reloaded says that the binary is the one that runs, which has read its configuration again.
	Reloaded bool   `json:"reloaded"`
	PID      int    `json:"pid"`
	Version  string `json:"version"`
	// Moved tunnels were handed over alive; Left are in the old process, until they end.
	Moved int `json:"moved"`
	Left  int `json:"left"`
}

// DrainOrder says what is to be drained: one site, one server, or all that there is.
type DrainOrder struct {
	// Site is one of its hosts.
	Site string `json:"site,omitempty"`
	// Upstream and Server name a server; its address is as in the configuration.
	Upstream string `json:"upstream,omitempty"`
	Server   string `json:"server,omitempty"`
	// End takes an earlier order back: tunnels are opened again.
	End bool `json:"end,omitempty"`
}

// Status is what a running server says of itself.
type Status struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// UptimeSeconds counts from the start of the process.
	UptimeSeconds int64  `json:"uptime_seconds"`
	Config        string `json:"config"`
	Sites         int    `json:"sites"`
	Tunnels       int    `json:"tunnels"`
	Ready         bool   `json:"ready"`
	// Draining are the orders that hold, in words.
	Draining []string `json:"draining"`
	// ReloadError is why the last reload failed; empty where it did not.
	ReloadError string `json:"reload_error,omitempty"`
	// Predecessors are processes that have handed over to this one and have tunnels or requests left.
	Predecessors []Predecessor `json:"predecessors"`
}

// Predecessor is a process that has handed over.
type Predecessor struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// Tunnels are all that it has, among them those with TLS at an end, over HTTP/2, and relayed.
	Tunnels int `json:"tunnels"`
	Secure  int `json:"secure"`
	Streams int `json:"streams"`
	Relayed int `json:"relayed"`
	// Connections serve requests, or may.
	Connections int `json:"connections"`
}
