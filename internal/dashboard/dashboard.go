// Package dashboard is the page that the control desk shows over TCP: three static files, which know nothing. All that they show they ask for with a token.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"time"
)

//go:embed dashboard.html
var html []byte

//go:embed dashboard.css
var css []byte

//go:embed dashboard.js
var script []byte

// policy lets the page load these files and ask this server, and nothing else (Content Security Policy, level 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// Handler serves the page at /, and what it is made of.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", file("text/html; charset=utf-8", html))
	mux.Handle("GET /dashboard.css", file("text/css; charset=utf-8", css))
	mux.Handle("GET /dashboard.js", file("text/javascript; charset=utf-8", script))
	return mux
}

// file serves a file, again only where it has changed.
func file(kind string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}
