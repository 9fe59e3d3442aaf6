package tls

import (
	"crypto/tls"
	"maps"
	"os"
	"strings"
	"sync"
)

// acmeTLS is the ALPN protocol of the TLS-ALPN-01 challenge (RFC 8737, section 6.2).
const acmeTLS = "acme-tls/1"

// challenges are the answers to the challenges of the orders under way.
type challenges struct {
	mu   sync.RWMutex
	http map[string][]byte           // by token
	tls  map[string]*tls.Certificate // by name
}

func newChallenges() *challenges {
	return &challenges{http: map[string][]byte{}, tls: map[string]*tls.Certificate{}}
}

func (c *challenges) putHTTP(token string, answer []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.http[token] = answer
}

func (c *challenges) putTLS(name string, pair []byte) error {
	cert, err := parsePair(pair)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tls[name] = cert
	return nil
}

// drop takes a key as autocert spells it: TOKEN+http-01 or NAME+token.
func (c *challenges) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, _ := strings.CutSuffix(key, "+http-01")
	name, _ := strings.CutSuffix(key, "+token")
	maps.DeleteFunc(c.http, func(t string, _ []byte) bool { return t == token })
	maps.DeleteFunc(c.tls, func(n string, _ *tls.Certificate) bool { return n == name })
}

// answerHTTP returns the answer for a token (RFC 8555, section 8.3), or nil: from an order of this process, else from one of
// another that shares the storage.
func (c *challenges) answerHTTP(token string, s storage) []byte {
	c.mu.RLock()
	answer := c.http[token]
	c.mu.RUnlock()
	if answer == nil && validToken(token) {
		answer, _ = os.ReadFile(s.file("challenges", token+"+http-01"))
	}
	return answer
}

// answerTLS returns the certificate that answers for a name (RFC 8737, section 3), or nil. The caller has made sure that the
// name is one of ours: for others no file is looked for. A disk that hangs keeps the authority waiting, and no other handshake.
func (c *challenges) answerTLS(name string, s storage) *tls.Certificate {
	c.mu.RLock()
	answer := c.tls[name]
	c.mu.RUnlock()
	if answer == nil && validName(name) {
		if data, err := os.ReadFile(s.file("challenges", name+"+token")); err == nil {
			answer, _ = parsePair(data)
		}
	}
	return answer
}

// validToken tells whether a token is one that an authority may give: base64url (RFC 8555, section 8.3).
func validToken(token string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return token != "" && len(token) <= 128 && strings.Trim(token, letters) == ""
}
