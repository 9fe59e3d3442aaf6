package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Verbs are kinds of things that may be done, as a set.
type Verbs uint8

// The verbs.
const (
	List   Verbs = 1 << iota // see tunnels, users, groups, counts, events, upstreams, certificates and how the server is
	Send                     // say something into tunnels
	Group                    // put tunnels into groups, and take them out
	Kick                     // close tunnels
	Manage                   // reload, drain, upgrade, and see the configuration
	// All of them.
	All = List | Send | Group | Kick | Manage
)

// verbNames are the verbs as the configuration has them.
var verbNames = map[string]Verbs{"list": List, "send": Send, "group": Group, "kick": Kick, "manage": Manage}

// ParseVerb returns the verb of a name; zero for none.
func ParseVerb(name string) Verbs { return verbNames[name] }

func (v Verbs) String() string { return strings.Join(v.names(), ", ") }

// names are those of the verbs, in order.
func (v Verbs) names() []string {
	names := []string{}
	for name, one := range verbNames {
		if v&one != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Grant is what one who asks may do. It is not changed.
type Grant struct {
	// Who is whose it is, as the log tells it.
	Who string
	// Sites are those whose tunnels one sees and reaches, by their first hosts; nil for all of them, and for what is the whole server's.
	Sites []string
	Verbs Verbs
	owner bool // what is done is not told in the log as somebody else's
}

// may fails where the verb is not granted.
func (g *Grant) may(v Verbs) error {
	if g.Verbs&v == v {
		return nil
	}
	return &StatusError{http.StatusForbidden, fmt.Errorf("%s may not %s: what is granted is %s", g.Who, v, dashed(g.Verbs.String()))}
}

// mayAll fails where the verb is not granted for the whole server.
func (g *Grant) mayAll(v Verbs) error {
	if err := g.may(v); err != nil {
		return err
	}
	if g.Sites == nil {
		return nil
	}
	return &StatusError{http.StatusForbidden, fmt.Errorf("%s may not: this is of the whole server, and what is granted is of %s", g.Who, strings.Join(g.Sites, ", "))}
}

// sees reports whether a site, by its first host, is there for whose grant it is.
func (g *Grant) sees(site string) bool { return g.Sites == nil || slices.Contains(g.Sites, site) }

// errNotSeen is what the server says of a tunnel that there is none of.
var errNotSeen = &StatusError{http.StatusNotFound, errors.New("no such tunnel")}

// find returns a tunnel that is there for whose grant it is. Who has some sites only is told the same of all others, whether they live, have ended or never were:
// the number of an ended one says nothing of whose it was, and who may count those has the number of all. One that may live, but can't be asked for now, may be theirs.
func (g *Grant) find(tunnels Tunnels, id string) (Tunnel, error) {
	t, err := tunnels.Tunnel(id)
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusServiceUnavailable {
		return Tunnel{}, err
	}
	if g.Sites != nil && (err != nil || !g.sees(t.Site)) {
		return Tunnel{}, errNotSeen
	}
	return t, err
}

// reach fails for a tunnel that is not there for whose grant it is.
func (g *Grant) reach(tunnels Tunnels, id string) error {
	if g.Sites == nil {
		return nil
	}
	_, err := g.find(tunnels, id)
	return err
}

func dashed(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

type grantKey struct{}

// withGrant notes what the one who asks may do.
func withGrant(ctx context.Context, g *Grant) context.Context {
	return context.WithValue(ctx, grantKey{}, g)
}

// granted answers a request of one who may do something.
type granted func(w http.ResponseWriter, r *http.Request, g *Grant)

// needs lets those through who have a verb.
func needs(v Verbs, then granted) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g := r.Context().Value(grantKey{}).(*Grant)
		if err := g.may(v); err != nil {
			give(w, nil, err)
			return
		}
		then(w, r, g)
	}
}

// needsAll lets those through who have a verb for the whole server.
func needsAll(v Verbs, then granted) http.HandlerFunc {
	return needs(v, func(w http.ResponseWriter, r *http.Request, g *Grant) {
		if err := g.mayAll(v); err != nil {
			give(w, nil, err)
			return
		}
		then(w, r, g)
	})
}
