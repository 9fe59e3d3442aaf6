package reactor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDialTimeout says that no address answered in time.
var ErrDialTimeout = fmt.Errorf("connecting: %w", os.ErrDeadlineExceeded)

// Sockaddr is the address of a TCP port. A zone must be an interface's index.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
}

// attemptMin is what an address is given at least, as long as any time is left.
const attemptMin = time.Second

// Dialing is an attempt at several addresses under one deadline.
type Dialing struct {
	loop      *Loop
	addresses []unix.Sockaddr // still to be tried
	spread    int             // see Dial
	conn      *Conn           // the attempt under way
	giveUp    time.Duration   // when that has failed
	done      func(*Conn, error)
	errs      []error
	deadline  time.Duration
	timer     Timer
}

// Dial connects to the first of the addresses, TCP ports or Unix sockets, that answers, and tries one after the other. timeout
// bounds them all; one that stays silent has its share of it. done is called once, on the loop, with a paused connection that
// has yet to be given its handler, perhaps before Dial returns, or later with what went wrong with each address; it is not called
// if the loop ends or [Dialing.Cancel] is called first.
//
// A port of 127.0.0.1 takes only as many connections from one address as there are ports for them. With a spread above zero they come from another address,
// 127.0.0.2 for 1 and so on, where the system has those; and where 127.0.0.1 has run out of ports in any case.
func (l *Loop) Dial(addresses []unix.Sockaddr, spread int, timeout time.Duration, done func(*Conn, error)) *Dialing {
	d := &Dialing{loop: l, addresses: addresses, spread: spread, done: done, deadline: l.now + timeout}
	d.timer.On = d
	l.Set(&d.timer, 0)
	if len(addresses) > 0 {
		d.next()
	}
	return d
}

// Cancel ends the attempt, on its loop, if it has not ended. A nil Dialing is none.
func (d *Dialing) Cancel() {
	if d == nil {
		return
	}
	d.loop.Stop(&d.timer)
	d.addresses, d.done = nil, ignore
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
}

func ignore(*Conn, error) {}

// next tries the next address.
func (d *Dialing) next() {
	for len(d.addresses) > 0 {
		address := d.addresses[0]
		d.addresses = d.addresses[1:]
		err := d.connect(address)
		switch err {
		case nil:
			return
		case unix.EAGAIN: // a Unix socket whose queue is full: later
			d.addresses = slices.Insert(d.addresses, 0, address)
			return
		}
		d.errs = append(d.errs, err)
	}
}

// connect begins to connect.
func (d *Dialing) connect(address unix.Sockaddr) error {
	family := unix.AF_UNIX
	switch address.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	}
	fd, err := connectSpread(family, address, d.spread)
	if err != nil {
		return err
	}
	c := &Conn{fd: int32(fd), near: isNear(address)}
	if err := d.loop.add(c, d, 0); err != nil {
		return err
	}
	if c.near && connected(c.fd) {
		d.finish(c, nil)
		return nil
	}
	now := d.loop.now
	share := (d.deadline - now) / time.Duration(1+len(d.addresses))
	d.conn, d.giveUp = c, min(d.deadline, now+max(share, attemptMin))
	c.WaitWritable()
	return nil
}

// mostSources is how many addresses are tried where one has run out of ports.
const mostSources = 8

// connectSpread begins to connect, from the address of a spread or the next ones.
func connectSpread(family int, address unix.Sockaddr, spread int) (fd int, err error) {
	fd, err = connectFrom(family, address, spread)
	for next := spread + 1; err == unix.EADDRNOTAVAIL && canSpread(address) && next <= spread+mostSources; next++ {
		fd, err = connectFrom(family, address, next)
	}
	if err == unix.EADDRNOTAVAIL {
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, err
}

// connectFrom begins to connect, from 127.0.0.(1+spread) where that is above zero and the address is such a one.
func connectFrom(family int, address unix.Sockaddr, spread int) (fd int, err error) {
	fd, err = newSocket(family)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family != unix.AF_UNIX {
		noDelay(fd)
	}
	if spread > 0 && canSpread(address) {
		bindSource(fd, [4]byte{127, 0, byte(spread / 254), byte(spread%254 + 1)})
	}
	switch err := connect(fd, address); err {
	case nil, unix.EINPROGRESS:
		return fd, nil
	case unix.EAGAIN, unix.EADDRNOTAVAIL:
		unix.Close(fd)
		return -1, err
	default:
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
}

// isNear reports whether an address is one of this machine's for itself.
func isNear(address unix.Sockaddr) bool {
	switch a := address.(type) {
	case *unix.SockaddrUnix:
		return true
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr).IsLoopback()
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap().IsLoopback()
	}
	return false
}

// Readable is not told: the connection is paused.
func (d *Dialing) Readable(*Conn) {}

// Drained says that the attempt is decided.
func (d *Dialing) Drained(c *Conn) {
	if err := socketError(c.fd); err != nil {
		d.Failed(c, os.NewSyscallError("connect", err))
		return
	}
	d.finish(c, nil)
}

// Failed says that the attempt came to nothing.
func (d *Dialing) Failed(c *Conn, err error) {
	c.Close()
	d.conn = nil
	d.errs = append(d.errs, err)
	if errors.Is(err, ErrPanic) || d.loop.stopped {
		d.addresses = nil
	}
	d.next()
	if d.conn == nil && len(d.addresses) == 0 {
		d.finish(nil, errors.Join(d.errs...))
	}
}

// Expired looks after what no event tells: the deadlines, a Unix socket's full queue, and failures at once.
func (d *Dialing) Expired() {
	now := d.loop.now
	if d.conn != nil && now >= d.giveUp {
		d.conn.Close()
		d.conn = nil
		d.errs = append(d.errs, ErrDialTimeout)
	}
	if d.conn == nil && now < d.deadline {
		d.next()
	}
	switch {
	case d.conn != nil:
		d.loop.Set(&d.timer, d.giveUp-now)
	case len(d.addresses) == 0:
		d.finish(nil, errors.Join(d.errs...))
	case now >= d.deadline:
		if len(d.errs) == 0 {
			d.errs = append(d.errs, ErrDialTimeout)
		}
		d.finish(nil, errors.Join(d.errs...))
	default:
		d.loop.Set(&d.timer, 0)
	}
}

func (d *Dialing) finish(c *Conn, err error) {
	d.loop.Stop(&d.timer)
	d.conn, d.addresses = nil, nil
	done := d.done
	d.done = ignore
	done(c, err)
}
