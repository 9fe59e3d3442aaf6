// Package access knows who may ask: users with passwords, networks, origins.
package access

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/bcrypt"
)

// hashes are the ways in which a password may stand in a file.
var hashes = []htpasswd.PasswdParser{htpasswd.AcceptBcrypt, htpasswd.AcceptMd5, htpasswd.AcceptCryptSha, htpasswd.AcceptSsha, htpasswd.AcceptSha}

// table are the passwords of users, hashed.
type table map[string]htpasswd.EncodedPasswd

// BadLineError is a line of a file of users that says nothing.
type BadLineError struct {
	Line   int
	Reason string
}

func (e *BadLineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// CheckUsers reports the first line of a file of users that can't be used, as a [BadLineError]. No hash stands in it.
func CheckUsers(data []byte) error {
	_, err := parseUsers(data)
	return err
}

// parseUsers reads NAME:HASH lines, as htpasswd writes them.
func parseUsers(data []byte) (table, error) {
	users := table{}
	var bad error
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, found := strings.Cut(line, ":")
		hash, _, _ = strings.Cut(hash, ":") // nginx takes comments behind it
		password, err := parseHash(hash)
		switch {
		case !found || name == "":
			err = errors.New("no NAME:HASH")
		case err == nil:
			users[name] = password
		}
		if err != nil && bad == nil {
			bad = &BadLineError{n, err.Error()}
		}
	}
	return users, errors.Join(bad, lines.Err())
}

func parseHash(hash string) (htpasswd.EncodedPasswd, error) {
	if _, err := bcrypt.Cost([]byte(hash)); err != nil && strings.HasPrefix(hash, "$2") {
		return nil, errors.New("a hash that is broken")
	}
	for _, parse := range hashes {
		if password, err := parse(hash); err != nil {
			return nil, errors.New("a hash that is broken")
		} else if password != nil {
			return password, nil
		}
	}
	return nil, errors.New("a hash of a kind that is not known; bcrypt is made by htpasswd -B, apr1 by htpasswd, SHA-crypt by openssl passwd -6")
}

// Bounds on what clients can make us remember, and on what they can make us hash.
const (
	maxRemembered = 10_000
	remembered    = time.Minute     // how long a password is known to be right
	lookedAt      = 5 * time.Second // how long the file is taken to be unchanged
	attempts      = 10              // wrong passwords of a client at once
	attemptPause  = 6 * time.Second // after which one more may be wrong
	maxWaiting    = 64              // passwords that wait to be hashed
	maxAsking     = 8               // of one client's
)

// Users are the users of one file. They are safe for concurrent use.
type Users struct {
	file    string
	now     func() time.Time
	key     [32]byte // of what is remembered
	hashing chan struct{}
	waiting chan struct{}

	mu       sync.Mutex
	users    table
	modified time.Time
	looked   time.Time
	right    map[[32]byte]time.Time     // passwords that were, and until when that is so
	wrong    map[netip.Prefix]attempted // clients that had wrong ones
	asking   map[netip.Prefix]int       // clients whose passwords are being checked, or wait for that
}

type attempted struct {
	left float64
	at   time.Time
}

// OpenUsers returns the users of a file, which is read when somebody asks. It is read again when it has changed.
func OpenUsers(file string, now func() time.Time) *Users {
	u := &Users{
		file: file, now: now, hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), waiting: make(chan struct{}, maxWaiting),
		right: map[[32]byte]time.Time{}, wrong: map[netip.Prefix]attempted{}, asking: map[netip.Prefix]int{},
	}
	rand.Read(u.key[:])
	return u
}

// Errors of [Users.Verify].
var (
	ErrWrong = errors.New("wrong name or password")
	ErrBusy  = errors.New("too many passwords are being checked")
)

// Known reports whether a password was found right a moment ago. It does no I/O and hashes nothing that is dear.
func (u *Users) Known(name, password string) bool {
	key := u.mark(name, password)
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	return now.Before(u.right[key]) && now.Sub(u.looked) < lookedAt
}

// mark is what a password is remembered by.
func (u *Users) mark(name, password string) (key [32]byte) {
	h := hmac.New(sha256.New, u.key[:])
	fmt.Fprintf(h, "%d:%s%s", len(name), name, password)
	h.Sum(key[:0])
	return key
}

// Blocked returns how long a client, which had too many wrong passwords, has to wait; zero: not at all.
func (u *Users) Blocked(client netip.Addr) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.attempts(netOf(client))
	if a.left >= 1 {
		return 0
	}
	return max(time.Second, time.Duration((1-a.left)*float64(attemptPause)))
}

// attempts returns how many a client has left now.
func (u *Users) attempts(client netip.Prefix) attempted {
	now := u.now()
	a, known := u.wrong[client]
	if !known {
		return attempted{attempts, now}
	}
	a.left = min(attempts, a.left+float64(now.Sub(a.at))/float64(attemptPause))
	a.at = now
	return a
}

// netOf is what counts as one client: an address, or the /64 of IPv6.
func netOf(client netip.Addr) netip.Prefix {
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	p, _ := client.Prefix(bits)
	return p
}

// Verify checks a password of a client's, which takes a while: it reads the file if that has changed, and hashes. The error is ErrWrong, ErrBusy, or says why
// the file can't be read.
func (u *Users) Verify(client netip.Addr, name, password string) error {
	if !u.enter(netOf(client)) {
		return ErrBusy
	}
	defer u.leave(netOf(client))
	select {
	case u.waiting <- struct{}{}:
		defer func() { <-u.waiting }()
	default:
		return ErrBusy
	}
	u.hashing <- struct{}{}
	defer func() { <-u.hashing }()
	users, err := u.load()
	if err != nil {
		return err
	}
	if u.Known(name, password) { // somebody else has just asked
		return nil
	}
	hashed, known := users[name]
	if !known { // it takes as long as if there were one
		for _, hashed = range users {
			break
		}
	}
	right := hashed != nil && hashed.MatchesPassword(password) && known
	u.mu.Lock()
	defer u.mu.Unlock()
	if !right {
		a := u.attempts(netOf(client))
		a.left--
		bound(u.wrong)
		u.wrong[netOf(client)] = a
		return ErrWrong
	}
	bound(u.right)
	u.right[u.mark(name, password)] = u.now().Add(remembered)
	return nil
}

// enter counts a client in that asks, if it does not ask for too much at a time.
func (u *Users) enter(client netip.Prefix) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asking[client] >= maxAsking {
		return false
	}
	u.asking[client]++
	return true
}

func (u *Users) leave(client netip.Prefix) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asking[client]--; u.asking[client] == 0 {
		delete(u.asking, client)
	}
}

// bound empties what has become too much.
func bound[K comparable, V any](m map[K]V) {
	if len(m) >= maxRemembered {
		clear(m)
	}
}

// load returns the users of the file as it is now.
func (u *Users) load() (table, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users != nil && u.now().Sub(u.looked) < lookedAt {
		return u.users, nil
	}
	info, err := os.Stat(u.file)
	if err != nil {
		return nil, err
	}
	if u.users == nil || !info.ModTime().Equal(u.modified) {
		data, err := os.ReadFile(u.file)
		if err != nil {
			return nil, err
		}
		users, _ := parseUsers(data) // what can be used of it
		u.users, u.modified = users, info.ModTime()
		clear(u.right)
	}
	u.looked = u.now()
	return u.users, nil
}
