package proxy

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/upstream"
)

// choice returns what of the request decides which server of the upstream it goes to.
func (x *reply) choice() (c upstream.Choice) {
	t := x.upstream.Target
	if t.Sticky != nil {
		c.Sticky, _ = x.in.Cookie(t.Sticky.Cookie)
	}
	if !x.upstream.Several() {
		return c
	}
	switch t.Balance {
	case config.BalanceIPHash:
		c.Hash, c.Hashed = upstream.Hash(neighbourhood(x.in.Client).String()), true
	case config.BalanceHash:
		var text string
		if text, c.Hashed = x.in.Hashed(t.Hash); c.Hashed {
			c.Hash = upstream.Hash(text)
		}
	}
	return c
}

// neighbourhood is the address of a client, as far as it stays the same: of IPv6 its /64.
func neighbourhood(client netip.Addr) netip.Addr {
	if client = client.Unmap(); client.Is6() {
		if prefix, err := client.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return client
}

// stick adds the cookie that keeps the client at its server, where it has another one or none.
func (x *reply) stick(fields head.Fields) head.Fields {
	if x.upstream.Target.Sticky == nil {
		return fields
	}
	token := x.way.Token()
	if token == "" {
		return fields
	}
	s := x.upstream.Target.Sticky
	var b strings.Builder
	b.WriteString(s.Cookie + "=" + token + "; Path=/")
	if s.TTL > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(s.TTL/time.Second), 10))
	}
	if secure := x.in.PublicScheme() == "https"; s.SameSite == config.SameSiteNone || s.Secure != nil && *s.Secure || s.Secure == nil && secure {
		b.WriteString("; Secure")
	}
	b.WriteString("; HttpOnly; SameSite=" + string(s.SameSite))
	fields.Add(head.SetCookie, b.String())
	return fields
}
