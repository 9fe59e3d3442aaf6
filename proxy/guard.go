package proxy

import (
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/access"
	"wstunnel/internal/head"
)

// guard finds out whether a request may have what was decided: by where it comes from, by a password, and by asking another server. Its body waits meanwhile.
type guard struct {
	*exchange
	then    decision
	refused *answer // what is answered if nothing else lets the request in
	asking  *inquiry
	holding bool // the request's body
}

// guard returns who lets the request in; nil where nobody needs to.
func (x *exchange) guard(d decision) *guard {
	if x.location == nil || !x.location.guarded {
		return nil
	}
	return &guard{exchange: x, then: d}
}

// serve begins with where the request comes from.
func (g *guard) serve() {
	verdict, inside := g.location.judgeAddress(g.in.Client)
	if !inside {
		g.refused = textAnswer(http.StatusForbidden, "access from this address is not allowed")
	}
	switch verdict {
	case letIn:
		g.letIn()
	case refuse:
		g.refuse()
	default:
		g.askPassword()
	}
}

// verdict is what an address alone means for a request.
type verdict int

const (
	askFurther verdict = iota
	letIn
	refuse
)

// judgeAddress says what a client's address means, and whether allow and deny let it in.
func (l *location) judgeAddress(client netip.Addr) (v verdict, inside bool) {
	a := &l.Access
	inside = access.Allowed(client, a.Allow, a.Deny)
	switch {
	case inside && a.Any && len(a.Allow) > 0: // not to be denied is no leave, as nginx has it
		return letIn, inside
	case !inside && (!a.Any || l.users == nil && l.asked == nil):
		return refuse, inside
	}
	return askFurther, inside
}

// askPassword checks the name and the password that the request brings (RFC 7617).
func (g *guard) askPassword() {
	users := g.location.users
	if users == nil {
		g.askServer()
		return
	}
	name, password, ok := credentials(g.in.Request.Fields)
	switch {
	case !ok:
		g.passwordIs(name, access.ErrWrong)
	case users.Known(name, password):
		g.passwordIs(name, nil)
	case users.Blocked(g.in.Client) > 0:
		a := textAnswer(http.StatusTooManyRequests, "too many wrong passwords")
		a.fields.Add(head.RetryAfter, strconv.Itoa(int(math.Ceil(users.Blocked(g.in.Client).Seconds()))))
		g.err = errors.New("the client had too many wrong passwords")
		g.refused = a
		g.refuse()
	default:
		g.wait()
		client := g.in.Client
		go func() {
			err := users.Verify(client, name, password)
			g.post(func() { g.passwordIs(name, err) })
		}()
	}
}

// post goes on on the loop, if the exchange does.
func (g *guard) post(then func()) {
	conn := g.client.Conn()
	conn.Loop().Post(func() {
		conn.Do(func() {
			if !g.over {
				then()
			}
		})
	})
}

// passwordIs goes on when it is known whether the password is right.
func (g *guard) passwordIs(name string, err error) {
	a := &g.location.Access
	switch {
	case err == nil && a.Any:
		g.in.User = name
		g.letIn()
		return
	case err == nil:
		g.in.User = name
		g.askServer()
		return
	case errors.Is(err, access.ErrWrong):
		g.refused = textAnswer(http.StatusUnauthorized, "a name and a password are needed")
		g.refused.add("WWW-Authenticate", `Basic realm="`+a.BasicAuth.Realm+`", charset="UTF-8"`)
	case errors.Is(err, access.ErrBusy):
		g.err = err
		g.refused = textAnswer(http.StatusServiceUnavailable, "the server has too much to do")
		g.refused.fields.Add(head.RetryAfter, "1")
	default:
		g.err = err
		g.refused = textAnswer(http.StatusInternalServerError, "passwords can't be checked now")
	}
	if a.Any && g.location.asked != nil {
		g.askServer()
		return
	}
	g.refuse()
}

// credentials returns the name and the password of a request.
func credentials(fields head.Fields) (name, password string, ok bool) {
	if fields.Count(head.Authorization) != 1 {
		return "", "", false
	}
	scheme, encoded, _ := strings.Cut(fields.Get(head.Authorization), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(head.Trim(encoded))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}

// askServer asks the server of auth_request.
func (g *guard) askServer() {
	switch {
	case g.location.asked != nil:
		g.asking = &inquiry{guard: g}
		g.wait()
		g.asking.begin()
	case g.refused != nil:
		g.refuse()
	default:
		g.letIn()
	}
}

// letIn does what was decided.
func (g *guard) letIn() {
	g.leave()
	g.responder = nil
	if a := g.location.Access.AuthRequest; a != nil { // though another may have let it in
		g.in.Grants = a.CopyHeaders
	}
	g.act(g.then)
	g.goOn()
}

// wait keeps the request's body away.
func (g *guard) wait() {
	if !g.holding {
		g.holding = true
		g.hold()
	}
}

// goOn lets it come.
func (g *guard) goOn() {
	if g.holding {
		g.holding = false
		g.release()
	}
}

// refuse answers instead.
func (g *guard) refuse() {
	g.goOn() // nobody wants the body
	if !g.over {
		g.give(g.refused)
	}
}

// data and whole are for whoever serves the request.
func (g *guard) data([]byte)       {}
func (g *guard) whole(head.Fields) {}

// drained is of no interest: nothing was answered.
func (g *guard) drained() {}

// leave ends what is under way.
func (g *guard) leave() {
	if g.asking != nil {
		g.asking.leave()
	}
}

// inquiryTimeout is how long the server of auth_request may take to answer, from when it is asked.
const inquiryTimeout = 30 * time.Second
