package config

import (
	"slices"
	"strings"
)

// The kinds of mapping in a configuration file, as error texts call them.
const (
	inFile             = "the file"
	inIncluded         = "an included file"
	inListener         = "a listener"
	inTLS              = "tls"
	inACME             = "acme"
	inEAB              = "eab"
	inTimeouts         = "timeouts"
	inLimits           = "limits"
	inSite             = "a site"
	inSiteTLS          = "a site's tls"
	inCertPair         = "a certificate"
	inLocation         = "a location"
	inLocationTimeouts = "a location's timeouts"
	inTarget           = "a target"
	inUpstream         = "an upstream"
	inHealth           = "health"
	inServer           = "a server"
	inBalance          = "balance"
	inSticky           = "sticky"
	inPHP              = "php"
	inAccessLog        = "access_log"
	inBuffer           = "buffer"
	inHeaders          = "headers"
	inRequestRules     = "headers of requests"
	inResponseRules    = "headers of responses"
	inRedirect         = "a redirect"
	inRespond          = "respond"
	inRewrite          = "a rewrite"
	inWhen             = "when"
	inBasicAuth        = "basic_auth"
	inAuthRequest      = "auth_request"
	inCompress         = "compress"
	inDrain            = "drain"
	inAdmin            = "admin"
	inToken            = "a token"
	inSiteAdmin        = "admin of a site"
)

// kinds are all of them.
var kinds = []string{
	inFile, inIncluded, inListener, inTLS, inACME, inEAB, inTimeouts, inLimits, inSite, inSiteTLS, inCertPair,
	inLocation, inLocationTimeouts, inTarget, inUpstream, inHealth, inAccessLog, inBuffer, inHeaders, inRequestRules,
	inResponseRules, inRedirect, inRespond, inRewrite, inWhen, inBasicAuth, inAuthRequest, inCompress, inPHP, inDrain, inAdmin, inToken, inSiteAdmin,
	inServer, inBalance, inSticky,
}

// keysByKind are the keys that a kind of mapping may hold, in the order of the documentation.
var keysByKind = map[string][]string{
	inFile: withRules("listen", "tls", "trusted_proxies", "shutdown_timeout", "drain", "on_route_removed", "admin", "timeouts", "limits", "access_log", "buffer", "min_rate", "spool",
		"spool_max", "sites", "include", "upstreams", "metrics"),
	inIncluded: {"sites", "upstreams"},
	inListener: {"address", "tls", "proxy_protocol"},
	inTLS:      {"storage", "acme"},
	inACME:     {"email", "directory", "ca", "eab"},
	inEAB:      {"kid", "hmac_key"},
	inTimeouts: {"request_head", "keepalive", "connect", "response_head", "response_body", "handshake", "tunnel_idle"},
	inLimits:   {"max_connections", "max_connections_per_client", "relay_memory", "buffer_memory", "spool_space"},
	inSite: slices.Concat(withRules("hosts", "tls", "redirect_https", "hsts", "min_version", "client_ca", "access_log", "buffer", "min_rate", "spool",
		"spool_max", "admin", "rewrite", "locations", "include"), shortKeys),
	inSiteTLS:  {"cert", "key", "auto", "ask"},
	inCertPair: {"cert", "key"},
	inLocation: withRules("path", "when", "proxy", "websocket", "http", "redirect", "respond", "rewrite", "static", "root", "index", "listing", "try_files",
		"php", "front_controller", "params", "deny_scripts_in",
		"serve_sources", "precompressed", "mode", "max_message", "ping", "host", "rewrite_responses", "forwarded", "timeouts", "access_log", "buffer",
		"min_rate", "spool", "spool_max", "tls_verify", "tls_ca"),
	inLocationTimeouts: {"connect", "response_head", "response_body", "handshake", "tunnel_idle"},
	inTarget:           {"url", "tls_verify", "tls_ca", "keepalive", "proxy_protocol"},
	inUpstream: {
		"servers", "balance", "sticky", "keepalive", "max_connections", "queue", "hold", "handshakes_per_second", "resolve", "health",
		"slow_start", "on_down",
	},
	inServer:        {"address", "weight", "max_connections", "backup", "down"},
	inBalance:       {"hash"},
	inSticky:        {"cookie", "ttl", "secure", "same_site", "secret"},
	inHealth:        {"kind", "path", "host", "interval", "timeout", "rise", "fall", "expect"},
	inPHP:           {"url", "keepalive"},
	inBuffer:        {"request", "response"},
	inAccessLog:     {"to", "format"},
	inHeaders:       {"request", "response"},
	inRequestRules:  {"set", "add", "remove"},
	inResponseRules: {"set", "add", "remove", "always"},
	inRedirect:      {"to", "status"},
	inRespond:       {"status", "body", "type"},
	inRewrite:       {"path", "to", "stay"},
	inWhen:          {"method", "header", "cookie", "query", "client"},
	inBasicAuth:     {"realm", "users"},
	inAuthRequest:   {"url", "copy_headers", "on_401", "tls_verify", "tls_ca"},
	inDrain:         {"spread", "code"},
	inAdmin:         {"socket", "mode", "group", "allow", "address", "tokens"},
	inToken:         {"name", "hash", "sites", "verbs"},
	inSiteAdmin:     {"allow"},
	inCompress:      {"types", "min_size", "level"},
}

// keysOf returns the keys that a kind of mapping may hold.
func keysOf(kind string) []string {
	keys, known := keysByKind[kind]
	if !known {
		panic("config: no keys for " + kind)
	}
	return keys
}

// unknownKey words the mistake of a key that kind does not hold: with what was most likely meant, or else with all that there is.
func unknownKey(key, kind string) problem {
	keys := keysOf(kind)
	hint := misspelt(key, keys...)
	if hint == "" {
		hint = misplaced(key, kind)
	}
	if hint != "" {
		return problem{"unknown key " + quote(key), strings.TrimPrefix(hint, "; ")}
	}
	return problem{"unknown key " + quote(key), "allowed here: " + strings.Join(keys, ", ")}
}

// misplaced returns what to add to the allowed keys if key is, or is most likely meant to be, one that stands elsewhere.
func misplaced(key, kind string) string {
	var elsewhere []string
	for _, k := range kinds {
		if k != kind {
			elsewhere = append(elsewhere, keysOf(k)...)
		}
	}
	near := nearest(key, elsewhere)
	if near == "" {
		return ""
	}
	var places []string
	for _, k := range kinds {
		if k != kind && slices.Contains(keysOf(k), near) {
			places = append(places, k)
		}
	}
	where := strings.Join(places, " or ")
	if near == key {
		return "; it stands in " + where
	}
	return "; did you mean " + quote(near) + ", which stands in " + where + "?"
}

// nearest returns the word that s is most likely a misspelling of, or "".
func nearest(s string, words []string) string {
	s = strings.ReplaceAll(strings.ToLower(s), "-", "_")
	best, bestDistance := "", 3
	for _, w := range words {
		plain := strings.ReplaceAll(w, "-", "_")
		if d := editDistance(s, plain); d < bestDistance && d*2 < max(len(plain), 2) {
			best, bestDistance = w, d
		}
	}
	return best
}

// editDistance counts the letters to insert, remove, replace or swap with their neighbour
// to turn a into b; lengths that differ by more than 2 are not looked into.
func editDistance(a, b string) int {
	if max(len(a), len(b))-min(len(a), len(b)) > 2 {
		return 3
	}
	var older, prev []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, prev, row = prev, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j+1]+1, row[j]+1, prev[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// misspelt returns what to add to the allowed words if s looks like one of them.
func misspelt(s string, words ...string) string {
	if near := nearest(s, words); near != "" {
		return "; did you mean " + quote(near) + "?"
	}
	return ""
}
