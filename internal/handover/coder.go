package handover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// Errors of messages that can't be read.
var (
	errShort    = errors.New("the message ends too early")
	errLong     = errors.New("the message has bytes left over")
	errBound    = errors.New("a value is beyond its bound")
	errNotExact = errors.New("a value is not in its one form")
)

// coder writes values to a message, or reads them from one: the same calls do both, so that they can't differ. The first error stops it.
type coder struct {
	b       []byte // what is written, or is yet to be read
	reading bool
	err     error
}

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// finish returns the first error; of a message that is read, that it has something left over too.
func (c *coder) finish() error {
	if c.err == nil && c.reading && len(c.b) > 0 {
		c.err = errLong
	}
	return c.err
}

// number passes a number of most at most.
func number[T ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T, most T) {
	if c.err != nil {
		return
	}
	if !c.reading {
		if *v > most {
			c.fail(errBound)
			return
		}
		c.b = binary.AppendUvarint(c.b, uint64(*v))
		return
	}
	n, size := binary.Uvarint(c.b)
	switch {
	case size == 0:
		c.fail(errShort)
	case size < 0 || n > uint64(most):
		c.fail(errBound)
	case size > 1 && c.b[size-1] == 0:
		c.fail(errNotExact)
	default:
		*v, c.b = T(n), c.b[size:]
	}
}

func (c *coder) flag(v *bool) {
	var n uint8
	if *v {
		n = 1
	}
	number(c, &n, 1)
	*v = n == 1
}

// length passes a length of most at most, of things that take a byte each at least.
func (c *coder) length(n, most int) int {
	v := uint64(n)
	number(c, &v, uint64(most))
	if c.reading && v > uint64(len(c.b)) {
		c.fail(errShort)
	}
	if c.err != nil {
		return 0
	}
	return int(v)
}

// bytes passes most bytes at most. What is read aliases the message.
func (c *coder) bytes(v *[]byte, most int) {
	n := c.length(len(*v), most)
	switch {
	case c.err != nil:
	case !c.reading:
		c.b = append(c.b, *v...)
	case n > 0:
		*v, c.b = c.b[:n:n], c.b[n:]
	}
}

// fixed passes exactly as many bytes as there are.
func (c *coder) fixed(v []byte) {
	switch {
	case c.err != nil:
	case !c.reading:
		c.b = append(c.b, v...)
	case len(c.b) < len(v):
		c.fail(errShort)
	default:
		copy(v, c.b)
		c.b = c.b[len(v):]
	}
}

func text[T ~string](c *coder, v *T, most int) {
	b := []byte(*v)
	c.bytes(&b, most)
	if c.reading && c.err == nil {
		*v = T(b)
	}
}

// list passes a list of most values at most.
func list[T any](c *coder, v *[]T, most int, each func(*T)) {
	n := c.length(len(*v), most)
	if c.err != nil {
		return
	}
	if c.reading && n > 0 {
		*v = make([]T, n)
	}
	for i := range n {
		each(&(*v)[i])
	}
}

// optional passes what may be nil.
func optional[T any](c *coder, v **T, each func(*T)) {
	there := *v != nil
	c.flag(&there)
	if !there || c.err != nil {
		return
	}
	if c.reading {
		*v = new(T)
	}
	each(*v)
}

// duration passes a time of a century at most, either way.
func (c *coder) duration(v *time.Duration) {
	const century = 100 * 366 * 24 * time.Hour
	negative := *v < 0
	c.flag(&negative)
	n := uint64(*v)
	if negative {
		n = -n
	}
	number(c, &n, uint64(century))
	if c.reading && c.err == nil {
		if *v = time.Duration(n); negative {
			*v = -*v
		}
		if negative && n == 0 {
			c.fail(errNotExact)
		}
	}
}

// moment passes a point in time, without its monotonic part.
func (c *coder) moment(v *time.Time) {
	var n uint64
	if !c.reading && !v.IsZero() {
		n = uint64(v.UnixNano())
	}
	number(c, &n, math.MaxInt64)
	if c.reading && c.err == nil && n > 0 {
		*v = time.Unix(0, int64(n))
	}
}

// maxAddress is the longest address as text, with a zone.
const maxAddress = 128

func (c *coder) address(v *netip.Addr) {
	b, _ := v.MarshalText()
	c.bytes(&b, maxAddress)
	if c.reading && c.err == nil {
		if err := v.UnmarshalText(b); err != nil {
			c.fail(fmt.Errorf("an address: %w", err))
		}
		if exact, _ := v.MarshalText(); !bytes.Equal(exact, b) {
			c.fail(errNotExact)
		}
	}
}

func (c *coder) addressPort(v *netip.AddrPort) {
	addr, port := v.Addr(), v.Port()
	c.address(&addr)
	number(c, &port, math.MaxUint16)
	if c.reading && c.err == nil {
		*v = netip.AddrPortFrom(addr, port)
	}
}
