package demo

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

//go:embed site
var siteFiles embed.FS

// contentSecurityPolicy lets the page load its own files and open its own socket, no more.
// 'self' covers ws: and wss: of the same host (CSP level 3).
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageConfig is what the chat page is told about its surroundings, at /config.json.
type pageConfig struct {
	HTTPPort  int    `json:"httpPort"`
	HTTPSPort int    `json:"httpsPort"`
	Site      string `json:"site"` // the site's own address, behind the proxy
	Chat      string `json:"chat"` // the chat backend's address, behind the proxy
	CA        string `json:"ca"`   // path of the local CA's certificate, served by the proxy
}

// asset is one file of the site, ready to be sent.
type asset struct {
	contentType string
	body        []byte
	etag        string
}

// site serves the embedded files, all held in memory.
type site struct {
	assets map[string]asset // by URL path
}

// newSite reads the embedded files and renders the page's configuration.
func newSite(c pageConfig) (*site, error) {
	s := &site{assets: make(map[string]asset)}
	const html, css, js, svg = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"
	for _, f := range []struct{ path, file, contentType string }{
		{"/", "index.html", html},
		{"/chat.css", "chat.css", css},
		{"/chat.js", "chat.js", js},
		{"/favicon.svg", "favicon.svg", svg},
		{"/favicon.ico", "favicon.svg", svg}, // asked for by browsers that ignore the link
	} {
		body, err := siteFiles.ReadFile("site/" + f.file)
		if err != nil {
			return nil, fmt.Errorf("embedded file %s: %w", f.file, err)
		}
		s.add(f.path, f.contentType, body)
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("page configuration: %w", err)
	}
	s.add("/config.json", "application/json", body)
	return s, nil
}

// add makes body the answer for path.
func (s *site) add(path, contentType string, body []byte) {
	sum := sha256.Sum256(body)
	s.assets[path] = asset{contentType, body, `"` + hex.EncodeToString(sum[:8]) + `"`}
}

// ServeHTTP answers GET and HEAD for the site's few paths.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	a, ok := s.assets[r.URL.Path]
	if !ok {
		http.Error(w, "404: the demo site has no such page", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "405: the demo site only answers GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Cache-Control", "no-cache") // ask again each time; the tag makes that cheap
	h.Set("ETag", a.etag)
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if r.Method == http.MethodGet {
		w.Write(a.body) // a client that went away is no news here
	}
}
