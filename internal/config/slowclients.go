package config

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// SlowClients says what is done so that a slow client holds no backend.
type SlowClients struct {
	Buffer Buffer
	// MinRate is how many bytes a second a client has to send of a request's body, over 30 seconds; zero for none. Default 1 KiB.
	MinRate int64
	// Spool has the request's body taken whole before a server is asked, in a temporary file where it is longer than Buffer.Request. Default false.
	Spool bool
	// SpoolMax is how many bytes of a body a temporary file takes; zero for none. What a client does not take of an answer, beyond Buffer.Response, goes
	// there in any case. Default 1 GiB.
	SpoolMax int64
}

// Buffer is what is kept of an exchange in memory.
type Buffer struct {
	// Request is the longest body that is taken whole before a server is asked; zero: none is. Default 64 KiB.
	Request int64
	// Response is how much of an answer is kept that the client does not take, in bytes; zero: what a read brings. Default 1 MiB.
	Response int64
}

const (
	maxRequestBuffer    = 16 << 20
	maxResponseBuffer   = 16 << 20
	defaultBufferMemory = 256 << 20
	minBufferMemory     = 8 << 20
	maxSpool            = 1 << 40
	defaultSpoolSpace   = 16 << 30
)

func defaultSlowClients() SlowClients {
	return SlowClients{Buffer: Buffer{Request: 64 << 10, Response: 1 << 20}, MinRate: 1 << 10, SpoolMax: 1 << 30}
}

// slowClients reads those keys of the file, a site or a location.
func (d *decoder) slowClients(o object, s *SlowClients) {
	if n := o.get("buffer"); n != nil {
		d.buffer(n, &s.Buffer)
	}
	if n := o.get("min_rate"); n != nil {
		d.minRate(n, &s.MinRate)
	}
	if n := o.get("spool"); n != nil {
		d.boolean(n, &s.Spool)
	}
	if n := o.get("spool_max"); n != nil {
		d.sizeOrOff(n, &s.SpoolMax, maxSpool)
	}
}

func (d *decoder) buffer(n *yaml.Node, b *Buffer) {
	o, ok := d.object(n, inBuffer)
	if !ok {
		return
	}
	if v := o.get("request"); v != nil {
		d.sizeOrOff(v, &b.Request, maxRequestBuffer)
	}
	if v := o.get("response"); v != nil {
		d.sizeOrOff(v, &b.Response, maxResponseBuffer)
	}
}

// sizeOrOff reads a size up to most, or off or 0, which is zero.
func (d *decoder) sizeOrOff(n *yaml.Node, v *int64, most int64) {
	if n := deref(n); n.Kind == yaml.ScalarNode && (n.Value == "off" || n.Value == "0") {
		*v = 0
		return
	}
	if d.size(n, v) && *v > most {
		d.add(posOf(deref(n)), "a size of "+sizeText(*v), sizeText(most)+" at most, or off")
	}
}

// minRate reads a rate such as 1KiB/s, or off, which is zero, in bytes a second.
func (d *decoder) minRate(n *yaml.Node, v *int64) {
	const allowed = `a rate such as "1KiB/s", or off`
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	if s.text == "off" {
		*v = 0
		return
	}
	text, perSecond := strings.CutSuffix(s.text, "/s")
	unit := int64(1)
	for _, u := range sizeUnits {
		if digits, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = digits, u.bytes
			break
		}
	}
	number, err := strconv.ParseInt(text, 10, 32)
	if !perSecond || unit == 1 || err != nil || number <= 0 {
		d.add(s.pos, "bad rate "+s.shown(), allowed)
		return
	}
	*v = number * unit
}
