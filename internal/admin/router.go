package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// router is a mux that knows its patterns.
type router struct {
	http.ServeMux
	patterns []string
}

// HandleFunc is [http.ServeMux.HandleFunc].
func (m *router) HandleFunc(pattern string, h http.HandlerFunc) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.HandleFunc(pattern, h)
}

// queries are the names that may stand in the query of a request, by its pattern; in that of others none may, so that no filter is lost by a slip.
var queries = map[string][]string{
	"GET /v1/tunnels":                  {"site", "user", "group", "client", "limit", "after"},
	"DELETE /v1/tunnels/{id}":          {"code", "reason"},
	"POST /v1/users/{user}/messages":   {"site"},
	"POST /v1/groups/{group}/messages": {"site"},
	"GET /v1/events":                   {"site"},
}

// checkQuery fails where a query has something that means nothing, is there twice, or is empty: a variable that was not set, say.
func checkQuery(raw string, names []string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("the query: %w", err)
	}
	for name, all := range values {
		switch {
		case len(names) == 0:
			return fmt.Errorf("%s in the query: there is to be none", quoted(name))
		case !slices.Contains(names, name):
			return fmt.Errorf("unknown %s in the query; there may be %s", quoted(name), strings.Join(names, ", "))
		case len(all) > 1:
			return fmt.Errorf("%s is twice in the query", name)
		case all[0] == "" && name != "reason":
			return fmt.Errorf("%s in the query is empty", name)
		}
	}
	return nil
}

// ServeHTTP is [http.ServeMux.ServeHTTP], but for what means nothing: that is answered as all else is.
func (m *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, pattern := m.Handler(r)
	if pattern == "" {
		m.refuse(w, r)
		return
	}
	if strings.Contains(pattern, " /v1/") { // clients of Pushpin may have a query of their own
		if err := checkQuery(r.URL.RawQuery, queries[pattern]); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	m.ServeMux.ServeHTTP(w, r)
}

// refuse answers a request that there is no pattern for, with the methods of those that have its path.
func (m *router) refuse(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := m.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		fail(w, http.StatusNotFound, "there is nothing at "+quoted(r.URL.Path))
		return
	}
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	fail(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not for %s; there is %s", quoted(r.URL.Path), quoted(r.Method), list))
}
