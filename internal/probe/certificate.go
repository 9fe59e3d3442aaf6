package probe

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// localCA begins the name of the authority that wstunnel makes for sites with `tls: self-signed`.
const localCA = "wstunnel local CA"

// complaint is what browsers have against a certificate.
type complaint struct {
	cause  string
	advice []string
}

// judgeCertificates tells of the certificates, and of all that a browser has against them.
func (p *probe) judgeCertificates(s *Step, chain []*x509.Certificate) *failure {
	now := time.Now()
	for _, c := range chain {
		told := tellCertificate(c, now)
		s.Certificates = append(s.Certificates, told)
		s.Details = append(s.Details, told.String())
	}
	complaints := slices.Concat(p.judgeName(chain[0]), judgeDates(chain[0], now), p.judgeAuthority(chain, now))
	if len(complaints) == 0 {
		return nil
	}
	f := fail(NoTLS, "")
	for _, c := range complaints {
		if p.Insecure {
			p.note(c.cause + " Browsers go no further.")
			continue
		}
		f.cause = strings.TrimSpace(f.cause + " " + c.cause)
		f.advice = append(f.advice, c.advice...)
	}
	if p.Insecure {
		return nil
	}
	f.advice = append(f.advice, "--insecure goes on all the same, to see what comes behind it")
	return f
}

func tellCertificate(c *x509.Certificate, now time.Time) Certificate {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = []string{nameOf(c.Subject.CommonName, c.Subject.String())}
	}
	issuer := nameOf(c.Issuer.CommonName, c.Issuer.String())
	if bytes.Equal(c.RawIssuer, c.RawSubject) {
		issuer = "itself"
	}
	return Certificate{
		Names: names, Issuer: issuer, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		DaysLeft: int(c.NotAfter.Sub(now).Hours() / 24),
	}
}

func nameOf(common, whole string) string {
	if common != "" {
		return common
	}
	return whole
}

// mostNames is how many names of a certificate are shown.
const mostNames = 8

// String is the certificate's line. Times are in UTC.
func (c Certificate) String() string {
	names := strings.Join(c.Names[:min(len(c.Names), mostNames)], ", ")
	if more := len(c.Names) - mostNames; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s, by %s, from %s to %s (%s)", names, c.Issuer, c.NotBefore.UTC().Format(time.DateTime), c.NotAfter.UTC().Format(time.DateTime), daysLeft(c.DaysLeft))
}

func daysLeft(days int) string {
	switch {
	case days < 0:
		return fmt.Sprintf("%s ago", count(-days, "day"))
	case days == 0:
		return "less than a day left"
	}
	return count(days, "day") + " left"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// judgeName checks whom the certificate is for.
func (p *probe) judgeName(leaf *x509.Certificate) []complaint {
	name := p.Target.host
	switch {
	case leaf.VerifyHostname(name) == nil:
		return nil
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return []complaint{{
			"The certificate names its host only as common name, where browsers do not look.",
			[]string{"have one made with " + name + " as subjectAltName"},
		}}
	case net.ParseIP(name) != nil:
		return []complaint{{
			"The certificate is for " + shownNames(leaf) + ", not for the address " + name + ".",
			[]string{"use the name in the URL; --connect " + p.Target.address() + " leads there whatever the name server says"},
		}}
	}
	return []complaint{{
		"The certificate is for " + shownNames(leaf) + ", not for " + name + ".",
		[]string{
			"see whether the name is spelt right, and leads to the right machine",
			"a server that knows no site of that name often shows another site's certificate: name it in the site's hosts (server_name, ServerName)",
			"have " + name + " put into the certificate; a wildcard covers one label only",
		},
	}}
}

func shownNames(leaf *x509.Certificate) string {
	names := tellCertificate(leaf, time.Time{}).Names
	if len(names) > mostNames {
		return strings.Join(names[:mostNames], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}

// judgeDates checks whether the certificate is valid now.
func judgeDates(leaf *x509.Certificate, now time.Time) []complaint {
	switch {
	case now.After(leaf.NotAfter):
		return []complaint{{
			"The certificate has expired, on " + leaf.NotAfter.UTC().Format(time.DateTime) + " UTC.",
			[]string{
				"renew it, and let the server read the new files: nginx and Apache do at a reload",
				"in wstunnel `tls: auto` renews by itself, and `wstunnel certs` says why an order failed",
			},
		}}
	case now.Before(leaf.NotBefore):
		return []complaint{{
			"The certificate is not valid yet, but from " + leaf.NotBefore.UTC().Format(time.DateTime) + " UTC on.",
			[]string{"see whether this machine's clock is right: it says " + now.UTC().Format(time.DateTime) + " UTC"},
		}}
	}
	return nil
}

// judgeAuthority checks whether somebody vouches for the certificate whom this machine trusts, at a time at which it is valid itself.
func (p *probe) judgeAuthority(chain []*x509.Certificate, now time.Time) []complaint {
	leaf := chain[0]
	at, dated := now, judgeDates(leaf, now) == nil
	if !dated {
		at = leaf.NotAfter
	}
	options := x509.VerifyOptions{Roots: p.Roots, Intermediates: x509.NewCertPool(), CurrentTime: at}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(options)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case err == nil, isInvalid && invalid.Reason == x509.Expired && !dated: // what is above the certificate is of another time
		return nil
	case isInvalid && invalid.Reason == x509.Expired:
		return []complaint{{
			"A certificate between the server's and its authority's is not valid now: that of " + nameOf(invalid.Cert.Subject.CommonName, invalid.Cert.Subject.String()) + ".",
			[]string{"let the server send the chain that came with its certificate (fullchain.pem)"},
		}}
	case isUnknown:
		return p.judgeUnknown(chain)
	}
	return []complaint{{"The certificate is not valid: " + strings.TrimPrefix(err.Error(), "x509: ") + ".", nil}}
}

// judgeUnknown says who vouches for a certificate whom nobody knows.
func (p *probe) judgeUnknown(chain []*x509.Certificate) []complaint {
	leaf, last := chain[0], chain[len(chain)-1]
	issuer := nameOf(last.Issuer.CommonName, last.Issuer.String())
	trust := "if you trust it: --ca FILE, with the authority's certificate"
	switch {
	case strings.HasPrefix(issuer, localCA):
		page := p.Target.Origin() + "/.well-known/wstunnel/ca.pem"
		return []complaint{{
			"The certificate is by wstunnel's own local CA (tls: self-signed), which no browser trusts before it is told to.",
			[]string{
				"let each client trust the CA: its certificate is " + page + ", and the file ca.pem under the server's tls.storage",
				"this probe trusts it with --ca ca.pem",
				"a site that strangers visit needs tls: auto, or a certificate of its own",
			},
		}}
	case bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		return []complaint{{
			"The certificate is self-signed: nobody vouches for it.",
			[]string{"have one made by an authority; in wstunnel tls: auto does", "if you trust it: --ca FILE, with the certificate itself"},
		}}
	case len(chain) == 1:
		return []complaint{{
			"The server sends no certificate but its own, and its issuer " + issuer + " is not known here: the chain has a gap, or the authority is a private one.",
			[]string{"let the server send the chain that came with its certificate (fullchain.pem, SSLCertificateFile with both)", trust},
		}}
	}
	return []complaint{{"The certificate is by an authority that this machine does not know: " + issuer + ".", []string{trust}}}
}
