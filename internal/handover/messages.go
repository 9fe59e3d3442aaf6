package handover

import (
	"fmt"
	"math"
	"time"

	"wstunnel/internal/tunnel"
)

// Version is that of the messages. A process that speaks another one is refused, since what it would make of a tunnel is not known.
const Version = 2

// magic begins the first message of either process, whatever its version.
const magic = "wstunnel hand-over"

// kind says what a message is.
type kind uint8

// The kinds of messages. Their numbers are part of the version.
const (
	helloMessage    kind = 1 + iota // of either: who it is
	listenersOffer                  // of the older one: listening sockets
	offerEnd                        // the rest of what it offers
	readyMessage                    // of the younger one: it serves
	failedMessage                   // it ends instead, and why
	tunnelMessage                   // of the older one: a tunnel, which it holds
	adoptedMessage                  // of the younger one: it has the tunnel
	refusedMessage                  // it has not, and why
	commitMessage                   // of the older one: the tunnel is the younger one's
	withdrawMessage                 // the older one keeps it
	doneMessage                     // the younger one is the main process from now on
	statusMessage                   // what is left in the older one
	drainMessage                    // of the younger one: the older one is to end
	scopeMessage                    // of the younger one: the older one is to drain a part of what it has
	callMessage                     // of the younger one: a connection of its own to an older one
)

// Hello says who a process is.
type Hello struct {
	Version uint32
	Program string // the program's own version
	PID     uint32
}

const maxProgram = 256

func (h *Hello) pass(c *coder) {
	name := [len(magic)]byte([]byte(magic))
	c.fixed(name[:])
	if c.err == nil && string(name[:]) != magic {
		c.fail(fmt.Errorf("it does not begin with %q", magic))
	}
	number(c, &h.Version, math.MaxUint32)
	if c.reading && c.err == nil && h.Version != Version {
		c.b = nil // whatever another version says besides
		return
	}
	text(c, &h.Program, maxProgram)
	number(c, &h.PID, math.MaxInt32)
}

// check says what is wrong with the other process.
func (h *Hello) check() error {
	if h.Version != Version {
		return fmt.Errorf("the other process hands over in format %d, this one (%d) does not know it", h.Version, Version)
	}
	return nil
}

// Offer is what the older process gives before any tunnel.
type Offer struct {
	Listeners []Listener
	LastID    uint64   // of the tunnels that it has numbered
	Secrets   []Secret // that outlive a process
	Drains    []Drain  // that hold
	Left      []Status // what is left in processes before the older one
}

// Drain is an order to open no tunnels in a scope, with the names of proxy.DrainScope.
type Drain struct {
	Site, Upstream, Server string
}

// Listener is a listening socket, with its address in the configuration. The descriptor is the receiver's to close.
type Listener struct {
	Address    string
	Descriptor int
}

// Secret is a key with which clients' tickets and cookies are made.
type Secret struct {
	Name  string
	Value []byte
}

const (
	maxSecrets      = 64
	maxDrains       = 4096
	maxProcesses    = 1024
	maxSecret       = 4 << 10
	listenersAtOnce = 200 // in a message
)

func passAddresses(c *coder, all *[]string) {
	list(c, all, maxDescriptors, func(address *string) { text(c, address, maxName) })
}

func (o *Offer) pass(c *coder) {
	number(c, &o.LastID, math.MaxUint64)
	list(c, &o.Secrets, maxSecrets, func(s *Secret) {
		text(c, &s.Name, maxName)
		c.bytes(&s.Value, maxSecret)
	})
	list(c, &o.Drains, maxDrains, func(d *Drain) { d.pass(c) })
	list(c, &o.Left, maxProcesses, func(s *Status) { s.pass(c) })
}

func (d *Drain) pass(c *coder) {
	for _, name := range []*string{&d.Site, &d.Upstream, &d.Server} {
		text(c, name, maxName)
	}
}

// Status is what is left in a process that has handed over.
type Status struct {
	PID         uint32
	Tunnels     uint64 // among them
	Secure      uint64 // those over TLS, be it to the client or the backend
	Streams     uint64 // those over HTTP/2
	Relayed     uint64 // and those that are relayed
	Connections uint64 // that serve requests
	Program     string
	Started     time.Time
}

func (s *Status) pass(c *coder) {
	number(c, &s.PID, math.MaxInt32)
	for _, n := range []*uint64{&s.Tunnels, &s.Secure, &s.Streams, &s.Relayed, &s.Connections} {
		number(c, n, math.MaxInt64)
	}
	text(c, &s.Program, maxProgram)
	c.moment(&s.Started)
}

// Call is a connection of the younger process to an older one, be it this one or one before. The descriptor is the receiver's to close.
type Call struct {
	PID        uint32
	Descriptor int
}

func (c *Call) pass(co *coder) { number(co, &c.PID, math.MaxInt32) }

const maxText = 64 << 10 // of what went wrong

// encoded returns the bytes that a function passes.
func encoded(pass func(*coder)) ([]byte, error) {
	c := &coder{}
	pass(c)
	return c.b, c.finish()
}

// decode reads all of a body.
func decode(body []byte, pass func(*coder)) error {
	c := &coder{b: body, reading: true}
	pass(c)
	return c.finish()
}

func lateBody(l *tunnel.Late) ([]byte, error) { return encoded(func(c *coder) { passLate(c, l) }) }
