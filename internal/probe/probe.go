package probe

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"time"

	"wstunnel/internal/head"
)

// Options say what is probed, and how.
type Options struct {
	Target *Target
	// Network and Address are connected to in place of the target's host, where they are not empty: see [ParseConnect].
	Network, Address string
	// Fields go with the request. One that the handshake has too takes its place.
	Fields head.Fields
	// Origin is the page's, as its browser would send it; empty for none.
	Origin string
	// Subprotocols are offered in this order.
	Subprotocols []string
	// Roots are the authorities that are trusted; nil for the system's.
	Roots *x509.CertPool
	// Insecure goes on behind a certificate that browsers refuse.
	Insecure bool
	// Timeout bounds each step.
	Timeout time.Duration
	// Resolver resolves names; nil for the system's.
	Resolver *net.Resolver
}

// probe is one under way.
type probe struct {
	Options
	report *Report

	addresses []netip.Addr // of the name
	connected string       // the address that took the connection
	conn      net.Conn     // what HTTP is spoken on
	first     *recorded    // what came first of what the server speaks, TLS aside
	early     []byte       // what came behind the 101
	extended  bool         // an extension was agreed on
	// certificateAsked says that the server wants a certificate of its clients.
	certificateAsked bool
	socket           *socket
}

// Run probes. Whatever it finds is in the report.
func Run(ctx context.Context, o Options) *Report {
	p := &probe{Options: o, report: &Report{URL: o.Target.String(), Outcome: Open}}
	defer func() {
		if p.conn != nil {
			p.conn.Close()
		}
	}()
	if p.Network == "" {
		p.Network, p.Address = "tcp", o.Target.address()
	}
	steps := []struct {
		name   string
		needed bool
		do     func(context.Context, *Step) *failure
	}{
		{"DNS", p.hasName(), p.resolve},
		{"TCP", true, p.connect},
		{"TLS", o.Target.secure, p.secure},
		{"HTTP", true, p.shakeHands},
		{"PING", true, p.ping},
		{"CLOSE", true, p.close},
	}
	for _, s := range steps {
		if s.needed && !p.step(ctx, s.name, s.do) {
			return p.report
		}
	}
	p.judgeMixedContent()
	return p.report
}

// step makes one step within its time, and reports whether the next one can be made.
func (p *probe) step(ctx context.Context, name string, do func(context.Context, *Step) *failure) bool {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	p.report.Steps = append(p.report.Steps, Step{Name: name})
	s := &p.report.Steps[len(p.report.Steps)-1]
	begin := time.Now()
	f := do(ctx, s)
	if s.Took == 0 {
		s.Took = Milliseconds(time.Since(begin))
	}
	s.OK = f == nil
	if f != nil {
		p.report.Outcome, p.report.Cause, p.report.Advice = f.outcome, f.cause, f.advice
	}
	return f == nil
}

func (p *probe) note(text string) { p.report.Notes = append(p.report.Notes, text) }

// judgeMixedContent says of a WebSocket that opened whether browsers open it for its page: one over https has none over ws://, but to this machine
// (W3C Mixed Content, section 4.4).
func (p *probe) judgeMixedContent() {
	t := p.Target
	if t.secure || t.isLoopback() {
		return
	}
	if !strings.HasPrefix(p.sentOrigin(), "https://") {
		p.note("a page that came over https cannot open ws://; it needs " + t.withScheme(true))
		return
	}
	p.report.Outcome = Blocked
	p.report.Cause = "The WebSocket opens, but no browser opens it for a page of " + p.sentOrigin() + ": to a page over https, ws:// is mixed content."
	p.report.Advice = []string{
		"let the page open " + t.withScheme(true),
		"a server that has no TLS itself needs one in front that has, such as wstunnel with tls: auto",
	}
}
