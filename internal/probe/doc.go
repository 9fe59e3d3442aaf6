// Package probe opens one WebSocket as a browser would, step by step, and says in plain words what keeps it from opening and what to do about it.
//
//	probe.go        the steps in their order
//	target.go       what a URL names
//	report.go       what is told of a probe
//	dns.go tcp.go tls.go http.go ping.go close.go   one step each
//	certificate.go  what browsers have against a certificate
//	switching.go    what browsers have against a 101
//	status.go       what any other status means
//	language.go     what speaks something else than was expected
package probe
