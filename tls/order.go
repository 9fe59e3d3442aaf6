package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"wstunnel/internal/config"
)

// An authority is an ACME authority (RFC 8555) as one configuration describes it.
type authority struct {
	settings  config.ACME
	storage   storage
	transport *http.Transport
	http01    bool          // there is a plain listener to answer that challenge on
	patience  time.Duration // with one request
}

func newAuthority(cfg *config.Config, storage storage) (*authority, error) {
	a := &authority{settings: cfg.TLS.ACME, storage: storage, patience: answerTimeout}
	a.transport = http.DefaultTransport.(*http.Transport).Clone()
	if file := cfg.TLS.ACME.CA; file != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("tls: acme: ca: %w", err)
		}
		if !roots.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("tls: acme: ca: %s: no certificate in it", file)
		}
		a.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	a.http01 = slices.ContainsFunc(cfg.Listen, func(l config.Listener) bool { return !l.TLS })
	return a, nil
}

// Bounds on an order. autocert itself gives up after five minutes.
const (
	answerTimeout = 30 * time.Second // for one request to the authority
	maxAnswer     = 6 << 20          // bytes of its answer; acme takes chains of up to 5 MiB
	maxRetries    = 10               // of one request, after badNonce or 5xx
)

// order has a certificate issued for a name. It takes seconds, or minutes. The challenges are answered from c meanwhile.
//
// Each order has an autocert.Manager of its own. One for all would renew by its own clock and try a failed order again every
// minute, where Let's Encrypt allows five failures an hour; and its locks would be in the way of handshakes. The certificate
// has a P-256 key: the handshake that is shown to the Manager knows ECDSA, so that no second, RSA order follows.
func (a *authority) order(ctx context.Context, c *challenges, name string) (*tls.Certificate, error) {
	key, err := a.storage.accountKey(a.settings.EAB)
	if err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	o := &order{ctx: ctx, name: name, transport: a.transport, challenges: c, storage: a.storage}
	manager := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      o,
		HostPolicy: autocert.HostWhitelist(name),
		Email:      a.settings.Email,
		// RenewBefore stays zero: at or above the lifetime it would be a loop.
		Client: &acme.Client{
			Key: key, DirectoryURL: a.settings.Directory, UserAgent: "wstunnel",
			HTTPClient: &http.Client{Transport: o, Timeout: a.patience}, RetryBackoff: o.retryAfter,
		},
	}
	if eab := a.settings.EAB; eab.KID != "" {
		manager.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: eab.KID, Key: []byte(eab.HMACKey)}
	}
	if a.http01 {
		manager.HTTPHandler(nil) // makes it try HTTP-01 too, after TLS-ALPN-01
	}
	cert, err := manager.GetCertificate(&tls.ClientHelloInfo{
		ServerName: name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
	if err != nil {
		return nil, o.explain(err)
	}
	return cert, nil
}

// An order is what one autocert.Manager deals with instead of the network and a cache.
type order struct {
	ctx        context.Context
	name       string
	transport  http.RoundTripper
	challenges *challenges
	storage    storage

	asked atomic.Bool

	mu    sync.Mutex
	words []string // what the authority said of failures
	wait  time.Duration
}

// Get is asked for the certificate once, by the order itself, which is to go on. The second time it is the Manager's own
// renewal: a timer that nothing stops from outside. It ends here; deferred calls run, and the Manager is garbage from then
// on. Renewals are new orders: see schedule.go.
//
// ErrCacheMiss is returned as it is, since autocert compares it with ==.
func (o *order) Get(_ context.Context, key string) ([]byte, error) {
	if key == o.name && o.asked.Swap(true) {
		runtime.Goexit()
	}
	return nil, autocert.ErrCacheMiss
}

// Put takes the answers to challenges. The certificate is stored by the caller of order, who can tell of failures.
func (o *order) Put(_ context.Context, key string, data []byte) error {
	if token, ok := strings.CutSuffix(key, "+http-01"); ok {
		o.challenges.putHTTP(token, data)
	} else if name, ok := strings.CutSuffix(key, "+token"); ok {
		if err := o.challenges.putTLS(name, data); err != nil {
			return err
		}
	} else {
		return nil
	}
	return replace(o.storage.file("challenges", key), data)
}

// Delete forgets the answer to a challenge.
func (o *order) Delete(_ context.Context, key string) error {
	o.challenges.drop(key)
	return os.Remove(o.storage.file("challenges", key))
}

// RoundTrip sends a request to the authority and notes what it says of failures: autocert goes on to the next challenge
// with no word of the last.
func (o *order) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(o.ctx, cancel)()
	resp, err := o.transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		for _, words := range problemsOf(data) {
			o.note(words)
		}
	}
	return resp, nil
}

func (o *order) note(words string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.words) < 10 && !slices.Contains(o.words, words) {
		o.words = append(o.words, words)
	}
}

// problemsOf returns what an answer of the authority says went wrong (RFC 8555, sections 6.7, 7.1.3 and 8). A nonce that
// was not good enough goes without saying.
func problemsOf(data []byte) []string {
	type problem struct{ Type, Detail string }
	var answer struct {
		problem
		Error      *problem
		Challenges []struct {
			Type  string
			Error *problem
		}
	}
	if json.Unmarshal(data, &answer) != nil {
		return nil
	}
	var words []string
	add := func(prefix string, p *problem) {
		const family = "urn:ietf:params:acme:error:"
		if p != nil && strings.HasPrefix(p.Type, family) && p.Type != family+"badNonce" {
			words = append(words, fmt.Sprintf("%s%s (%s)", prefix, p.Detail, strings.TrimPrefix(p.Type, family)))
		}
	}
	for _, c := range answer.Challenges {
		add(c.Type+": ", c.Error)
	}
	add("", answer.Error)
	add("", &answer.problem)
	return words
}

// retryAfter tells acme how long to wait before it sends a request again. It never is after a rate limit: that ends the
// order, and its Retry-After counts for the next one.
func (o *order) retryAfter(n int, _ *http.Request, resp *http.Response) time.Duration {
	switch {
	case o.ctx.Err() != nil || n > maxRetries:
		return 0
	case resp.StatusCode == http.StatusTooManyRequests:
		if after, ok := acme.RateLimit(&acme.Error{
			ProblemType: "urn:ietf:params:acme:error:rateLimited", Header: resp.Header,
		}); ok {
			o.mu.Lock()
			o.wait = after
			o.mu.Unlock()
		}
		return 0
	case resp.StatusCode == http.StatusBadRequest: // badNonce: the next one is there already
		return time.Duration(n) * 50 * time.Millisecond
	case n > 3:
		return 0
	}
	return time.Duration(n) * time.Second
}

// An orderError is why there is no certificate, in the words of the authority where it has said any.
type orderError struct {
	words string
	wait  time.Duration // that the authority asks for; zero if it does not
}

func (e *orderError) Error() string { return e.words }

// explain words why an order has failed. That no challenge was left to try is what autocert says in the end; why is what the
// authority has said.
func (o *order) explain(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	words := slices.Clone(o.words)
	_, quoted := errors.AsType[*acme.Error](err) // so its text is among the words
	if len(words) == 0 || !quoted && !strings.Contains(err.Error(), "no viable challenge type") {
		words = append(words, err.Error())
	}
	const longest = 1000
	text := strings.Join(strings.Fields(strings.Join(words, "; ")), " ")
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return &orderError{words: text, wait: o.wait}
}
