package admin

import (
	"net/http"
	"time"

	"wstunnel/internal/history"
)

// Overview is how all goes, without the tunnels themselves.
type Overview struct {
	Time time.Time `json:"time"`
	// Server is for those who see the whole server.
	Server *Status `json:"server,omitempty"`
	// LastReload is when the configuration in use was read, and, where a later one could not be, why; for those who see the whole server.
	LastReload *LastReload `json:"last_reload,omitempty"`
	// May is what the one who asks may do.
	May     []string `json:"may"`
	Tunnels int      `json:"tunnels"` // that are open
	// Sites are those with most tunnels and traffic, 100 at most.
	Sites []SiteOverview `json:"sites"`
	// Hour is empty where nothing is written down: without admin.address.
	Hour         history.Series   `json:"hour"`
	Upstreams    []Upstream       `json:"upstreams"`
	Certificates []CertificateEnd `json:"certificates"`
}

// LastReload is what became of the configuration that was read last.
type LastReload struct {
	Time   time.Time `json:"time"` // when the one in use was read
	OK     bool      `json:"ok"`
	Errors []string  `json:"errors,omitempty"`
}

// SiteOverview is how a site does. Rates are of a second, over the last five minutes.
type SiteOverview struct {
	Site     string  `json:"site"`
	Tunnels  int     `json:"tunnels"`
	Opened   uint64  `json:"opened"` // since the start
	Requests float64 `json:"requests"`
	Messages float64 `json:"messages"`
	Bytes    float64 `json:"bytes"`
}

// CertificateEnd is when the certificate of a host ends.
type CertificateEnd struct {
	Host string    `json:"host"` // empty for those ordered on demand
	Ends time.Time `json:"ends"`
	Days int       `json:"days"` // whole days until then; negative afterwards
}

// handleOverview answers with what the one who asks may see.
func handleOverview(mux *router, service Service) {
	mux.HandleFunc("GET /v1/overview", needs(List, func(w http.ResponseWriter, _ *http.Request, g *Grant) {
		o := service.Overview(g.Sites)
		o.Time, o.May = time.Now(), g.Verbs.names()
		answer(w, http.StatusOK, o)
	}))
}
