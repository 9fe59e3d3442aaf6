// Package admin is how a running server is spoken to: HTTP with JSON on a Unix socket, for the commands of the same binary and whoever else may.
package admin

import "context"

// Service is the running server.
type Service interface {
	// Reload reads the configuration again, and returns when it is in force. It fails with all that is wrong; then the old one stays.
	Reload(ctx context.Context) error
	// Drain begins a drain, or ends one, and returns how many tunnels are being closed.
	Drain(order DrainOrder) (tunnels int, err error)
	// Status tells what is.
	Status() Status
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
}
