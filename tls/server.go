package tls

import (
	"crypto/tls"
	"slices"
	"strings"

	"wstunnel/internal/host"
)

// settle makes the settings of handshakes, when all sites are known.
func (c *Certificates) settle() {
	c.config = c.serverConfig(c.get)
	c.config.GetConfigForClient = c.forClient
	c.manager.tickets.renew(c.manager.now(), c.config)
	if c.authority != nil {
		c.challenge = c.serverConfig(c.getChallenge)
		c.challenge.NextProtos = []string{acmeTLS}
		c.challenge.SessionTicketsDisabled = true
	}
}

// serverConfig is what crypto/tls needs, apart from the certificates. Responses of OCSP are not stapled: Let's Encrypt gives
// none any more.
func (c *Certificates) serverConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		GetCertificate: get,
		WrapSession:    c.wrapSession,
		UnwrapSession:  c.unwrapSession,
		NextProtos:     []string{"h2", "http/1.1"},
		MinVersion:     tls.VersionTLS12,
		// A small answer leaves in one record, and in one write.
		DynamicRecordSizingDisabled: true,
		// For TLS 1.2 only; those of 1.3 are not configurable. No CBC and no static RSA:
		// RFC 9325 section 4.2.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// wrapSession makes the ticket of a session, with the keys that all listeners share. It notes the server name.
func (c *Certificates) wrapSession(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	session.Extra = append(session.Extra, []byte(serverName(state.ServerName)))
	return c.config.EncryptTicket(state, session)
}

// unwrapSession returns the session of a ticket, or nil: a session for another server name must not be resumed (RFC 6066,
// section 3), nor one for a site that a reload has taken away. A full handshake follows, which may be refused.
func (c *Certificates) unwrapSession(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
	session, err := c.config.DecryptTicket(ticket, state)
	if session == nil || err != nil {
		return nil, err
	}
	name := serverName(state.ServerName)
	if len(session.Extra) != 1 || string(session.Extra[0]) != name || c.lookup(name) == nil {
		return nil, nil
	}
	return session, nil
}

// forClient is the GetConfigForClient of the server configuration.
func (c *Certificates) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if c.challenge != nil && slices.Equal(hello.SupportedProtos, []string{acmeTLS}) {
		return c.challenge, nil
	}
	if s := c.lookup(serverName(hello.ServerName)); s != nil {
		return s.config, nil
	}
	return nil, nil
}

// get is the GetCertificate of the server configuration. It does no I/O but to look at a site's certificate files, and waits
// for nothing but the first certificate of a name.
//
// For a name that no site has it returns nil and no error: crypto/tls answers that, and only
// that, with the alert unrecognized_name (RFC 6066 section 3); any error of ours would become
// internal_error.
func (c *Certificates) get(hello *tls.ClientHelloInfo) (cert *tls.Certificate, err error) {
	name := serverName(hello.ServerName)
	if s := c.lookup(name); s != nil {
		cert, err = s.source.certificate(hello, name)
	}
	if cert == nil && err == nil {
		c.manager.refused.count(hello)
	}
	return cert, err
}

// getChallenge answers the ACME authority. Names that no order can be for are refused before anything is looked up.
func (c *Certificates) getChallenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := serverName(hello.ServerName)
	if c.ordered(name) {
		if cert := c.manager.challenges.answerTLS(name, c.authority.storage); cert != nil {
			return cert, nil
		}
	}
	c.manager.refused.count(hello)
	return nil, nil
}

// ordered tells whether a name is one that certificates are ordered for, by this process or by another one on the same storage.
func (c *Certificates) ordered(name string) bool {
	if c.manager.entry(name) != nil {
		return true
	}
	s := c.lookup(name)
	return s != nil && s.asker != nil && issuable(name)
}

// serverName returns the name that a client asks for in lower case, which is the canonical form of any that is in order, or "" for none.
func serverName(sni string) string {
	name := strings.ToLower(sni)
	if host.IsAddress(name) {
		return "" // an IP address is no server name (RFC 6066 section 3), but some clients send it
	}
	return name
}

// Challenge returns the answer to an HTTP-01 challenge for a host, with or without a port (RFC 8555, section 8.3), or nil if there
// is none.
func (c *Certificates) Challenge(authority, token string) []byte {
	if c.authority == nil {
		return nil
	}
	if !c.ordered(hostName(authority)) {
		return nil
	}
	return c.manager.challenges.answerHTTP(token, c.authority.storage)
}

// Misdirected tells whether a request for an authority, which may have a port, came on a connection that was not made for it: sni is
// the name that the client gave in the handshake, or "". HTTP/2 clients send requests for other hosts on a connection whose
// certificate covers these (RFC 9113, section 9.1.1); that is right, unless the host's site wants more of its clients than
// the handshake did.
func (c *Certificates) Misdirected(sni, authority string) bool {
	name, asked := serverName(sni), hostName(authority)
	if name == asked {
		return false
	}
	here, there := c.lookup(name), c.lookup(asked)
	switch {
	case there == nil:
		return false
	case here == nil || here.clientCAs != there.clientCAs || here.minVersion < there.minVersion:
		return true
	case name == "" || asked == "" || host.IsAddress(asked):
		return false // a certificate need not cover the address that a client without a server name connects to
	}
	cert := here.peek(name)
	return cert != nil && cert.Leaf.VerifyHostname(asked) != nil
}

// Pending tells whether the first certificate of a host, which may have a port, is still to come: until then handshakes for it fail.
// A host on demand is never pending, since only a handshake has its certificate ordered.
func (c *Certificates) Pending(authority string) bool {
	name := hostName(authority)
	s := c.lookup(name)
	if s == nil || !s.auto || s.asker != nil {
		return false
	}
	if e := c.manager.entry(name); e != nil {
		return e.cert.Load() == nil
	}
	return slices.Contains(s.site.Hosts, name) // its order is about to begin
}

// hostName returns the canonical host of a Host header.
func hostName(authority string) string {
	name, _ := host.Split(authority)
	return host.Canonical(name)
}

// peek returns the certificate that a client that asks for name is given, without making one.
func (s *siteTLS) peek(name string) *tls.Certificate {
	switch source := s.source.(type) {
	case *autoSource:
		if e := source.manager.entry(name); e != nil {
			return e.cert.Load()
		}
	case filePairs:
		return source.peek(name)
	case *leaves:
		return source.cached(name, source.now())
	}
	return nil
}
