// Package rewrite is what becomes of heads on their way: what a backend is sent of a client's, and a client of a backend's. It is pure.
//
//	inbound.go     a request's head as it came, and who sent it
//	conditions.go  whether it meets those of a location
//	variables.go   what it is to a template; captures.go: to the groups of a regex; url.go: as a part of a URL
//	request.go     what the backend is sent; params.go: a script; trailers.go: behind a body
//	response.go    what the client is answered; urlmapping.go: the backend's own URLs become public ones
//	rules.go       as the configuration's rules for headers have it
package rewrite
