package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// hasName reports whether there is a name to resolve.
func (p *probe) hasName() bool {
	if p.Network == "unix" {
		return false
	}
	name, _, _ := net.SplitHostPort(p.Address)
	addr, err := netip.ParseAddr(name)
	if err == nil {
		p.addresses = []netip.Addr{addr}
	}
	return err != nil
}

// resolve finds the addresses of the name.
func (p *probe) resolve(ctx context.Context, s *Step) *failure {
	name, _, _ := net.SplitHostPort(p.Address)
	resolver := p.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	begin := time.Now()
	found, err := resolver.LookupNetIP(ctx, "ip", name)
	if err == nil {
		texts := make([]string, len(found))
		for i, addr := range found {
			p.addresses = append(p.addresses, addr.Unmap())
			texts[i] = addr.Unmap().String()
		}
		s.Result = name + " is " + strings.Join(texts, ", ")
		return nil
	}
	s.Result = err.Error()
	dns, _ := errors.AsType[*net.DNSError](err)
	switch {
	case dns != nil && dns.IsTimeout || errors.Is(err, context.DeadlineExceeded):
		s.Result = fmt.Sprintf("no answer within %v", time.Since(begin).Round(time.Second/10))
		return fail(NoAddress, "The name server did not say in time what the address of "+name+" is.",
			"see whether this machine resolves other names; its name servers are in /etc/resolv.conf",
			"--connect ADDRESS:PORT probes without asking for the name")
	case dns != nil && dns.IsNotFound:
		s.Result = "no such name, or one without an address"
		return fail(NoAddress, "There is no address for the name "+name+".",
			"see whether the name is spelt right",
			"at whoever serves the domain's DNS it needs an A record, or AAAA for IPv6, with the address of the server",
			"a record that was just made can take an hour to be seen everywhere; --connect ADDRESS:PORT does not wait for it")
	}
	return fail(NoAddress, "The name server could not say what the address of "+name+" is.",
		"see whether this machine resolves other names; if it does, the domain's own name servers fail",
		"--connect ADDRESS:PORT probes without asking for the name")
}
