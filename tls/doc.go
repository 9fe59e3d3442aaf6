// Package tls answers TLS handshakes: it finds the site of the name a client asks for and
// hands out that site's certificate.
//
// Read manager.go first: a [Manager] lives as long as the process, and makes of each configuration a [Certificates]
// (certificates.go, builder.go), which gives each site a source of certificates. The handshake (server.go) picks the site by
// server name (SNI, RFC 6066 section 3). The sources are
//
//   - files.go: certificate and key files, read again when they change on disk;
//   - leaves.go: certificates made for each name asked, signed by the local CA of localca.go;
//   - manager.go: certificates that an ACME authority has issued.
//
// The last are ordered and renewed in the background: schedule.go says when, order.go does it by autocert, challenges.go holds
// the answers that the authority comes for, storage.go keeps the results for the next start and for other processes,
// ondemand.go decides about names that no configuration lists. list.go tells operators of it all.
//
// A handshake reads a map. It waits only for the first certificate of a name, for seconds at most; only the schedule's
// goroutines speak to the authority.
package tls
