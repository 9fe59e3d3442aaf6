package handover

import (
	"math"
	"net/netip"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// Tunnel is a live tunnel on its way to another process: what it is, and where it stands.
type Tunnel struct {
	ID    uint64
	Since time.Time

	Listener       string         // its address in the configuration
	Remote         netip.AddrPort // who connected
	Secure         bool
	Counted        bool // as one of its client's connections
	Site, Location string
	Host, Path     string
	Named          netip.Addr // the client, if a trusted proxy names it
	Upstream       string     // its name in the configuration, empty for none
	Backend        string     // the server's address
	Subprotocol    string
	Secret         uint32 // with the number, what it is known by outside
	User           string // whose it is, as the backend has said
	Groups         []string
	Push           uint8 // why no message is put into it, as the other process numbers reasons; zero for none
	Line           *Line // for a log in the format Combined; else nil
	State          tunnel.State
}

// Line is what a log in the format Combined tells of a request.
type Line struct {
	Client                            netip.Addr
	Proto, Target, Referer, UserAgent string
}

// Bounds of what a record holds. A tunnel that goes beyond one stays where it is.
const (
	maxName    = 4 << 10 // of a site, a pattern, a server
	maxKept    = 1 << 10 // of what a peer named
	maxUnsent  = 8 << 20
	maxFrames  = 1 << 16
	maxFrame   = 1<<20 + 14
	maxHeld    = 14
	maxGroups  = 64
	maxPush    = 2
	maxReason  = 123
	maxHeader  = 13
	maxMessage = 32 << 20
)

// encode returns the record's bytes; it fails where something is beyond its bound.
func (t *Tunnel) encode() ([]byte, error) {
	c := &coder{}
	t.pass(c)
	return c.b, c.finish()
}

// decodeTunnel reads a record. What is in it aliases b.
func decodeTunnel(b []byte) (*Tunnel, error) {
	c, t := &coder{b: b, reading: true}, &Tunnel{}
	t.pass(c)
	if err := c.finish(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tunnel) pass(c *coder) {
	number(c, &t.ID, math.MaxUint64)
	c.moment(&t.Since)
	text(c, &t.Listener, maxName)
	c.addressPort(&t.Remote)
	c.flag(&t.Secure)
	c.flag(&t.Counted)
	text(c, &t.Site, maxName)
	text(c, &t.Location, maxName)
	text(c, &t.Host, maxKept)
	text(c, &t.Path, maxKept)
	c.address(&t.Named)
	text(c, &t.Upstream, maxName)
	text(c, &t.Backend, maxName)
	text(c, &t.Subprotocol, maxKept)
	number(c, &t.Secret, math.MaxUint32)
	text(c, &t.User, maxKept)
	list(c, &t.Groups, maxGroups, func(name *string) { text(c, name, maxKept) })
	number(c, &t.Push, maxPush)
	optional(c, &t.Line, func(l *Line) {
		c.address(&l.Client)
		for _, v := range []*string{&l.Proto, &l.Target, &l.Referer, &l.UserAgent} {
			text(c, v, maxKept)
		}
	})
	passState(c, &t.State)
}

func passState(c *coder, s *tunnel.State) {
	for _, d := range []*time.Duration{&s.Idle, &s.HalfClose, &s.Close, &s.Quiet} {
		c.duration(d)
	}
	optional(c, &s.Ended, func(r *tunnel.Result) {
		text(c, &r.By, maxKept)
		text(c, &r.Cause, maxKept)
		number(c, &r.Code, math.MaxUint16)
	})
	optional(c, &s.Pings, func(p *tunnel.PingState) {
		c.duration(&p.Interval)
		c.fixed(p.ID[:])
		for _, side := range []*tunnel.PingedState{&p.Client, &p.Backend} {
			c.duration(&side.Heard)
			c.duration(&side.Sent)
			number(c, &side.End, math.MaxUint64)
			number(c, &side.Taken, math.MaxUint64)
			c.duration(&side.Progress)
		}
	})
	passEnd(c, &s.Client)
	passEnd(c, &s.Backend)
}

func passEnd(c *coder, e *tunnel.EndState) {
	passScanner(c, &e.Scan)
	number(c, &e.Bytes, math.MaxUint64)
	number(c, &e.Messages, math.MaxUint64)
	for _, flag := range []*bool{&e.Opaque, &e.CloseSeen, &e.Bulk, &e.Ended, &e.Near, &e.AwaitsPong} {
		c.flag(flag)
	}
	c.bytes(&e.Unsent, maxUnsent)
	c.bytes(&e.Held, maxHeld)
	list(c, &e.Control, maxFrames, func(frame *[]byte) { c.bytes(frame, maxFrame) })
	list(c, &e.Data, maxFrames, func(m *tunnel.WaitingMessage) {
		c.bytes(&m.Frame, maxFrame)
		c.duration(&m.TTL)
	})
}

func passScanner(c *coder, s *ws.ScannerState) {
	number(c, &s.Broken, math.MaxUint8)
	number(c, &s.Left, math.MaxInt64)
	number(c, &s.Messages, math.MaxUint64)
	c.bytes(&s.Head, maxHeader)
	number(c, &s.PayloadAt, 2)
	c.fixed(s.Mask[:])
	number(c, &s.Opcode, 0x0F)
	c.flag((*bool)(&s.Role))
	for _, flag := range []*bool{&s.Extended, &s.Final, &s.InMessage, &s.Closed} {
		c.flag(flag)
	}
	number(c, &s.CloseCode, math.MaxUint16)
}

func passLate(c *coder, l *tunnel.Late) {
	list(c, &l.Frames, maxFrames, func(f *tunnel.LateFrame) {
		text(c, &f.To, maxKept)
		number(c, &f.Op, 0x0F)
		c.bytes(&f.Frame, maxFrame)
		c.duration(&f.TTL)
	})
	optional(c, &l.Order, func(o *tunnel.CloseOrder) {
		number(c, &o.Code, math.MaxUint16)
		text(c, &o.Reason, maxReason)
		text(c, &o.Cause, maxKept)
		c.duration(&o.Timeout)
		c.flag(&o.ClientFirst)
	})
}
