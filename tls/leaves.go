package tls

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	leafLifetime = 90 * 24 * time.Hour
	// maxLeaves bounds the memory that clients asking for random names can take: about 4 KB each.
	maxLeaves = 1000
)

// leaves serves certificates made for each name asked and signed by the local CA, keeping
// those asked for last in memory. All self-signed sites share it.
type leaves struct {
	ca  *localCA
	now func() time.Time

	mu     sync.Mutex
	byName map[string]*list.Element // of recent
	recent list.List                // of *leaf, last used first
}

// A leaf is a certificate and when to replace it.
type leaf struct {
	name  string
	cert  *tls.Certificate
	renew time.Time
}

func newLeaves(ca *localCA, now func() time.Time) *leaves {
	return &leaves{ca: ca, now: now, byName: map[string]*list.Element{}}
}

// certificate returns the certificate for name or, without one, for the IP address that the
// client has connected to.
func (l *leaves) certificate(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error) {
	var ip netip.Addr
	switch {
	case name == "":
		var ok bool
		if ip, ok = localIP(hello.Conn); !ok {
			return nil, nil
		}
		name = ip.String()
	case !validName(name):
		return nil, nil
	}
	now := l.now()
	if cert := l.cached(name, now); cert != nil {
		return cert, nil
	}
	// Signing takes a fraction of what the handshake takes; two that ask for one new name at
	// the same moment may both sign.
	made, err := l.ca.sign(name, ip, now)
	if err != nil {
		return nil, err
	}
	l.store(made)
	return made.cert, nil
}

// cached returns the certificate for name unless there is none or it is to be renewed.
func (l *leaves) cached(name string, now time.Time) *tls.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	element := l.byName[name]
	if element == nil {
		return nil
	}
	kept := element.Value.(*leaf)
	if now.After(kept.renew) {
		return nil
	}
	l.recent.MoveToFront(element)
	return kept.cert
}

// store keeps a new certificate in the place of the older one for its name, or of the one that
// was not asked for longest.
func (l *leaves) store(made *leaf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if element := l.byName[made.name]; element != nil {
		element.Value = made
		l.recent.MoveToFront(element)
		return
	}
	l.byName[made.name] = l.recent.PushFront(made)
	if l.recent.Len() > maxLeaves {
		oldest := l.recent.Remove(l.recent.Back()).(*leaf)
		delete(l.byName, oldest.name)
	}
}

// sign makes a certificate for ip if it is valid, else for name.
func (ca *localCA) sign(name string, ip netip.Addr, now time.Time) (*leaf, error) {
	if now.After(ca.cert.NotAfter) {
		return nil, fmt.Errorf("local CA: %s: expired on %s", ca.certFile, ca.cert.NotAfter.Format(time.DateOnly))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", name, err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"wstunnel self-signed"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(leafLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	if ip.IsValid() {
		template.IPAddresses = []net.IP{ip.AsSlice()}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", name, err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", name, err)
	}
	return &leaf{
		name:  name,
		cert:  &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key, Leaf: parsed},
		renew: parsed.NotAfter.Add(-parsed.NotAfter.Sub(now) / 3),
	}, nil
}

// localIP returns the address a client has connected to; ok is false if it is no IP address.
func localIP(conn net.Conn) (ip netip.Addr, ok bool) {
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}, false
	}
	return local.Addr().Unmap().WithZone(""), true
}

// maxName is the length of the longest DNS name as text, without the trailing dot (RFC 1035
// section 2.3.4).
const maxName = 253

// validName says whether name, which is lower case, can stand in a certificate: labels of 1 to
// 63 letters, digits, hyphens within, and underscores (which are in use), 253 bytes in all.
func validName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}
