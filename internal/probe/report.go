package probe

import (
	"strconv"
	"time"
)

// Outcome is how far a probe came.
type Outcome string

// The outcomes, in the order of the steps.
const (
	Open         Outcome = "open"          // the WebSocket opened, and a ping was answered
	NoAddress    Outcome = "no address"    // the name has none
	NoConnection Outcome = "no connection" // no TCP connection
	NoTLS        Outcome = "no tls"        // no TLS that a browser takes
	Refused      Outcome = "refused"       // answered with another status than 101
	Broken       Outcome = "broken"        // no answer of HTTP, or a 101 that browsers do not take
	Unanswered   Outcome = "unanswered"    // it opened, and the ping was not answered
	Blocked      Outcome = "blocked"       // it opened, but no browser would open it for a page of that origin
)

// Report is what is told of a probe.
type Report struct {
	URL     string   `json:"url"`
	Outcome Outcome  `json:"outcome"`
	Cause   string   `json:"cause,omitempty"`  // a sentence; empty where it is open
	Advice  []string `json:"advice,omitempty"` // what to do, each for itself
	Notes   []string `json:"notes,omitempty"`  // what else was seen, and does no harm to this probe
	Steps   []Step   `json:"steps"`
}

// Step is what is told of one step.
type Step struct {
	Name    string       `json:"step"` // DNS, TCP, TLS, HTTP, PING, CLOSE
	OK      bool         `json:"ok"`
	Took    Milliseconds `json:"duration_ms"`
	Result  string       `json:"result"`
	Details []string     `json:"details,omitempty"`

	Certificates []Certificate `json:"certificates,omitempty"` // of TLS, with the server's own first
	Answer       *Answer       `json:"answer,omitempty"`       // of HTTP
}

// Certificate is what is told of one.
type Certificate struct {
	Names     []string  `json:"names"`  // whom it is for; of an authority its own name
	Issuer    string    `json:"issuer"` // "itself" where it is self-signed
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"`
}

// Answer is the head of an answer, and how its body begins.
type Answer struct {
	Status int     `json:"status"`
	Fields []Field `json:"fields"`
	Body   string  `json:"body,omitempty"` // its first line, or the title of a page
}

// Field is a line of a head.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Milliseconds is a duration that is written as a number of them, with three places.
type Milliseconds time.Duration

// MarshalJSON writes the number.
func (m Milliseconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Duration(m).Microseconds())/1000, 'f', 3, 64), nil
}

// failure is why a probe ends.
type failure struct {
	outcome Outcome
	cause   string
	advice  []string
}

func fail(outcome Outcome, cause string, advice ...string) *failure {
	return &failure{outcome, cause, advice}
}
