package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
)

// connect connects with one of the addresses, in their order.
func (p *probe) connect(ctx context.Context, s *Step) *failure {
	tries := []string{p.Address}
	if p.Network == "tcp" {
		_, port, _ := net.SplitHostPort(p.Address)
		tries = nil
		for _, addr := range p.addresses {
			tries = append(tries, net.JoinHostPort(addr.String(), port))
		}
	}
	var last error
	for i, address := range tries {
		conn, err := p.dial(ctx, address, len(tries)-i)
		if err == nil {
			s.Result = "connected to " + address
			if len(s.Details) > 0 {
				p.note("only some of the addresses take connections; clients that try another one first wait, or fail")
			}
			p.first = &recorded{Conn: conn}
			p.connected, p.conn = address, p.first
			return nil
		}
		last = err
		s.Details = append(s.Details, address+": "+plainly(err))
	}
	s.Result = "no connection"
	return p.unreachable(last)
}

// dial connects with an address in its share of the time that is left.
func (p *probe) dial(ctx context.Context, address string, shares int) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
	defer cancel()
	var dialer net.Dialer
	return dialer.DialContext(ctx, p.Network, address)
}

// plainly is an error of a connection without what everybody knows.
func plainly(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer in time"
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	return strings.TrimPrefix(err.Error(), "tls: ")
}

// unreachable says why there is no connection.
func (p *probe) unreachable(err error) *failure {
	_, port, _ := net.SplitHostPort(p.Address)
	var timeout net.Error
	switch {
	case p.Network == "unix" && errors.Is(err, fs.ErrNotExist):
		return fail(NoConnection, "There is no socket at "+p.Address+".", "see whether the server runs, and where it puts its socket")
	case errors.Is(err, fs.ErrPermission):
		return fail(NoConnection, "This user may not connect to "+p.Address+".",
			"the front end's user needs the right to write to the socket, and to enter each directory above it")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(NoConnection, "Nothing listens on "+p.Address+", or a firewall refuses connections.",
			"see whether the server runs, and on which port: ss -ltnp",
			"a server that listens on 127.0.0.1 only is to be reached on that machine only, and one on 127.0.0.1 is not on ::1",
			fmt.Sprintf("where the server runs in a container, port %s has to be published", port))
	case errors.As(err, &timeout) && timeout.Timeout():
		return fail(NoConnection, fmt.Sprintf("Nobody answered at %s within %v: packets are dropped on the way, or the address is no machine's.", p.Address, p.Timeout),
			"see whether a firewall lets port "+port+" in: the machine's own, and the one of the hoster's control panel",
			"see whether the name leads to the right machine")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		cause := "There is no way from here to " + p.Address + "."
		if strings.Contains(fmt.Sprint(p.addresses), ":") {
			return fail(NoConnection, cause, "this machine, or the server's network, may lack IPv6: an AAAA record has to lead to where the server listens")
		}
		return fail(NoConnection, cause, "see whether this machine has a network, and whether the address is right")
	}
	return fail(NoConnection, "The connection to "+p.Address+" failed: "+plainly(err)+".")
}

// recorded is a connection that keeps what came first.
type recorded struct {
	net.Conn
	came []byte
}

// maxRecorded is how much of it is kept.
const maxRecorded = 512

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.came = append(r.came, p[:min(n, maxRecorded-len(r.came))]...)
	return n, err
}
