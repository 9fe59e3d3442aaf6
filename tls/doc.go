// Package tls answers TLS handshakes: it finds the site of the name a client asks for and
// hands out that site's certificate.
//
// Read certificates.go first: [New] gives each site of a configuration a source of
// certificates, and the handshake picks the source by server name (SNI, RFC 6066 section 3).
// The sources are
//
//   - files.go: a certificate and key file, read again when they change on disk;
//   - leaves.go: certificates made for each name asked, signed by the local CA of localca.go.
//
// Everything here belongs to one configuration and is dropped with it; only the local CA's
// two files outlive it. No goroutine is started: files are looked at, and certificates are
// made, by the handshake that needs them.
package tls
