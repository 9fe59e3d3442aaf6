package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
)

// Access says who may ask, besides root and the user of this process, who may do everything. It is not changed: a reload puts another one in its place.
type Access struct {
	// Users are the grants of users, by their numbers.
	Users map[uint32]*Grant
	// Tokens are those of requests over TCP.
	Tokens []Token
}

// Token is a bearer token (RFC 6750), known by its SHA-256.
type Token struct {
	Hash  [sha256.Size]byte
	Grant *Grant
}

// gate knows what who asks may do.
type gate struct{ access atomic.Pointer[Access] }

// user returns what a peer may do; nil for nothing.
func (g *gate) user(p peer) *Grant {
	switch {
	case p.err != nil:
		return nil
	case p.uid == 0 || p.uid == uint32(os.Geteuid()):
		return &Grant{Who: fmt.Sprintf("user %d", p.uid), Verbs: All, owner: true}
	}
	if a := g.access.Load(); a != nil {
		return a.Users[p.uid]
	}
	return nil
}

// bearer returns what a token is for; nil for nothing. How long it takes tells nothing of the tokens.
func (g *gate) bearer(token string) (found *Grant) {
	a := g.access.Load()
	if a == nil || token == "" { // which has a hash, too
		return nil
	}
	hash := sha256.Sum256([]byte(token))
	for i := range a.Tokens {
		if subtle.ConstantTimeCompare(a.Tokens[i].Hash[:], hash[:]) == 1 {
			found = a.Tokens[i].Grant
		}
	}
	return found
}

// holds reports whether a grant is still given: whoever has it may have waited since, and a reload may have changed who may.
func (g *gate) holds(grant *Grant) bool {
	if grant.owner {
		return true
	}
	a := g.access.Load()
	if a == nil {
		return false
	}
	for _, u := range a.Users {
		if u == grant {
			return true
		}
	}
	for i := range a.Tokens {
		if a.Tokens[i].Grant == grant {
			return true
		}
	}
	return false
}

// errChanged is said to one whose grant holds no more.
var errChanged = &StatusError{http.StatusServiceUnavailable, errors.New("who may ask has changed meanwhile; ask again")}
