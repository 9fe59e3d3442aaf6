package config

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Buffer is what is kept of an exchange, so that a slow client holds no backend.
type Buffer struct {
	// Request is the longest body, of a request that tells its length, that is taken whole before a server is asked; zero: none is. Default 64 KiB.
	Request int64
	// Response is how much of an answer is kept that the client does not take, in bytes; zero: what a read brings. Default 1 MiB.
	Response int64
}

// Defaults of what keeps slow clients from holding backends.
const (
	defaultRequestBuffer  = 64 << 10
	defaultResponseBuffer = 1 << 20
	maxRequestBuffer      = 16 << 20
	maxResponseBuffer     = 64 << 20
	defaultMinRate        = 1 << 10
	defaultBufferMemory   = 256 << 20
	minBufferMemory       = 8 << 20
)

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

// sizeOrOff reads a size up to most, or off, which is zero.
func (d *decoder) sizeOrOff(n *yaml.Node, v *int64, most int64) {
	if deref(n).Kind == yaml.ScalarNode && deref(n).Value == "off" {
		*v = 0
		return
	}
	if d.size(n, v) && *v > most {
		d.add(posOf(deref(n)), "a buffer of "+sizeText(*v), sizeText(most)+" at most, or off")
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
