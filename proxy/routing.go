package proxy

import (
	"errors"
	"net/http"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/route"
)

// maxRouted bounds how often a location is looked for: rewrites and try_files may lead from one to the next.
const maxRouted = 10

// route finds the location of the request's path, which it leaves in the exchange, and what that does with it.
func (x *exchange) route() decision {
	rewritten := false
	for ; x.routed < maxRouted; x.routed++ {
		l, lacksSlash, err := x.site.locations.Find(x.in.Path, x.wanted)
		x.location = l
		x.trace.looked(x, x.in.Path)
		switch {
		case err != nil:
			return refuseTarget(err)
		case x.in.Oversized:
			return refusal(http.StatusRequestHeaderFieldsTooLarge, "a header is too long for the conditions of this site")
		case l == nil:
			return refusal(http.StatusNotFound, "no location is configured for this path")
		case lacksSlash && x.in.Request.Protocol == "":
			return decision{
				action: redirect, status: http.StatusMovedPermanently, reason: "this path ends in a slash",
				location: route.Escape(x.in.Path) + "/" + x.in.Query(),
			}
		case lacksSlash: // clients of WebSocket follow no redirects
			raw, query := route.Split(x.in.Target)
			x.in.Path, x.in.Target = x.in.Path+"/", raw+"/"+query
		}
		x.in.Captures = rewrite.Captures{Regexp: l.Match.Regexp, Text: x.in.Path}
		if rewritten || len(l.Rewrites) == 0 {
			return x.decideAt(l)
		}
		rewritten = true
		before := x.in.Target
		stay, err := x.rewrite(l.Rewrites)
		switch {
		case err != nil:
			return refuseTarget(err)
		case stay || x.in.Target == before:
			return x.decideAt(l)
		}
	}
	d := refusal(http.StatusInternalServerError, "this path leads in a circle")
	d.err = errors.New("rewrite or try_files lead from one location to the next without an end")
	return d
}

// refuseTarget refuses a request for its path.
func refuseTarget(err error) decision {
	if errors.Is(err, route.ErrTooLong) {
		return refusal(http.StatusRequestURITooLong, err.Error())
	}
	return refusal(http.StatusBadRequest, err.Error())
}

// wanted reports whether the request meets the conditions of a location.
func (x *exchange) wanted(l *location) bool { return l.When == nil || x.in.Meets(l.When) }

// rewrite applies the first of some rewrites that matches, and reports whether the request is to stay at its location.
func (x *exchange) rewrite(rewrites []config.Rewrite) (stay bool, err error) {
	if len(rewrites) > 0 && len(x.in.Path) > route.MaxMatched {
		return false, route.ErrTooLong
	}
	for i := range rewrites {
		if r := &rewrites[i]; r.Path.MatchString(x.in.Path) {
			return r.Stay, x.rewriteBy(r)
		}
	}
	return false, nil
}

// rewriteBy changes the path, and the query if the rewrite has one.
func (x *exchange) rewriteBy(r *config.Rewrite) error {
	x.trace.rewrote(r)
	own := rewrite.Captures{Regexp: r.Path, Text: x.in.Path}
	url := rewrite.URL(r.To, func(name string) string {
		if r.Path.SubexpIndex(name) >= 0 || strings.Trim(name, "0123456789") == "" {
			return own.Value(name)
		}
		return x.in.Value(name)
	})
	return x.goTo(rewrite.WithQuery(url, x.in.Query()))
}

// goTo makes another path and query what is served; $request_uri stays what the client asked for.
func (x *exchange) goTo(target string) error {
	target = strings.TrimSuffix(target, "?")
	raw, _ := route.Split(target)
	path, err := route.Normalise(raw)
	if err != nil {
		return err
	}
	x.in.Target, x.in.Path = target, path
	return nil
}
