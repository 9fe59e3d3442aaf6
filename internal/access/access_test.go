package access

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// usersOf writes a file of users, and returns them with a clock that can be turned.
func usersOf(t *testing.T, lines ...string) (u *Users, file string, turn func(time.Duration)) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	return OpenUsers(file, func() time.Time { return now }), file, func(d time.Duration) { now = now.Add(d) }
}

// lineBy has Apache's own program make a line.
func lineBy(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("htpasswd", append([]string{"-nb"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// openssl has it make a hash.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", append([]string{"passwd"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

var client = netip.MustParseAddr("192.0.2.1")

func TestHashesOfTheProgramsThatMakeThem(t *testing.T) {
	lines := []string{
		"# comment", "",
		lineBy(t, "-B", "bcrypt", "s3cret:with colon"),
		lineBy(t, "-m", "apr1", "s3cret:with colon"),
		lineBy(t, "-s", "sha1", "s3cret:with colon"),
		"sha256:" + openssl(t, "-5", "s3cret:with colon"),
		"sha512:" + openssl(t, "-6", "s3cret:with colon") + ":a comment",
	}
	u, _, turn := usersOf(t, lines...)
	for _, name := range []string{"bcrypt", "apr1", "sha1", "sha256", "sha512"} {
		if u.Known(name, "s3cret:with colon") {
			t.Errorf("%s is known before it was checked", name)
		}
		if err := u.Verify(client, name, "s3cret:with colon"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !u.Known(name, "s3cret:with colon") {
			t.Errorf("%s is not known after it was checked", name)
		}
		turn(attemptPause)
		if err := u.Verify(client, name, "wrong"); err != ErrWrong || u.Known(name, "wrong") {
			t.Errorf("%s, wrong: %v", name, err)
		}
	}
	if err := u.Verify(client, "nobody", "s3cret:with colon"); err != ErrWrong {
		t.Errorf("a name that there is not: %v", err)
	}
	if err := CheckUsers([]byte(strings.Join(lines, "\n"))); err != nil {
		t.Error(err)
	}
}

func TestLinesThatSayNothing(t *testing.T) {
	for text, want := range map[string]string{
		"name":                               "line 1: no NAME:HASH",
		"\n:$apr1$x$y":                       "line 2: no NAME:HASH",
		"a:" + "rqXexS6ZhobKA":               "line 1: a hash of a kind that is not known",
		"# x\n\na:plain":                     "line 3: a hash of a kind that is not known",
		"a:$2y$05$short":                     "line 1: a hash",
		"a:{SHA}no base 64":                  "line 1: a hash",
		"a:$5$rounds=1000$salt$" + "notlong": "",
	} {
		err := CheckUsers([]byte(text))
		if want == "" {
			continue
		}
		var bad *BadLineError
		if !errors.As(err, &bad) || !strings.HasPrefix(bad.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestPasswordIsForgottenWhenTheFileChanges(t *testing.T) {
	u, file, turn := usersOf(t, lineBy(t, "-m", "a", "one"))
	if err := u.Verify(client, "a", "one"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(lineBy(t, "-m", "a", "two")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(file, time.Now(), time.Now().Add(time.Hour))
	if !u.Known("a", "one") {
		t.Error("it is not known within the time that the file is taken to be unchanged")
	}
	turn(lookedAt)
	if u.Known("a", "one") {
		t.Error("it is known beyond that time")
	}
	if err := u.Verify(client, "a", "one"); err != ErrWrong {
		t.Errorf("the old one: %v", err)
	}
	if err := u.Verify(client, "a", "two"); err != nil {
		t.Errorf("the new one: %v", err)
	}
	os.Remove(file)
	turn(lookedAt)
	if err := u.Verify(client, "a", "two"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestClientWithTooManyWrongPasswordsWaits(t *testing.T) {
	u, _, turn := usersOf(t, lineBy(t, "-m", "a", "one"))
	for i := range attempts {
		if wait := u.Blocked(client); wait != 0 {
			t.Fatalf("after %d: %v", i, wait)
		}
		if err := u.Verify(client, "a", "x"); err != ErrWrong {
			t.Fatal(err)
		}
	}
	if wait := u.Blocked(client); wait <= 0 || wait > attemptPause {
		t.Errorf("wait %v", wait)
	}
	if u.Blocked(netip.MustParseAddr("192.0.2.2")) != 0 {
		t.Error("another client waits")
	}
	turn(attemptPause)
	if wait := u.Blocked(client); wait != 0 {
		t.Errorf("after the pause: %v", wait)
	}
	six := netip.MustParseAddr("2001:db8::1")
	for range attempts {
		u.Verify(six, "a", "x")
	}
	if u.Blocked(netip.MustParseAddr("2001:db8::2")) == 0 || u.Blocked(netip.MustParseAddr("2001:db8:0:1::2")) != 0 {
		t.Error("a client over IPv6 is its /64")
	}
}

// TestNoClientHasAllPasswordsThatMayWait: while none is hashed, a client's wait, and another's do.
func TestNoClientHasAllPasswordsThatMayWait(t *testing.T) {
	u, _, _ := usersOf(t, lineBy(t, "-s", "a", "one"))
	for range cap(u.hashing) {
		u.hashing <- struct{}{}
	}
	answers := make(chan error)
	for range maxAsking + 1 {
		go func() { answers <- u.Verify(client, "a", "one") }()
	}
	if err := <-answers; err != ErrBusy {
		t.Errorf("one too many: %v", err)
	}
	go func() { answers <- u.Verify(netip.MustParseAddr("192.0.2.2"), "a", "one") }()
	for range cap(u.hashing) {
		<-u.hashing
	}
	for range maxAsking + 1 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if len(u.asking) > 0 {
		t.Errorf("%v still ask", u.asking)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	u, _, _ := usersOf(t, lineBy(t, "-s", "a", "one"))
	for i := range maxRemembered + 10 {
		u.Verify(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "a", "x")
	}
	if len(u.wrong) > maxRemembered {
		t.Errorf("%d clients", len(u.wrong))
	}
}

func TestLongestNetworkDecides(t *testing.T) {
	networks := func(list string) (all []netip.Prefix) {
		for n := range strings.FieldsSeq(list) {
			all = append(all, netip.MustParsePrefix(n))
		}
		return all
	}
	for _, tt := range []struct {
		allow, deny, client string
		want                bool
	}{
		{"", "", "10.0.0.1", true},
		{"10.0.0.0/8", "", "10.0.0.1", true},
		{"10.0.0.0/8", "", "11.0.0.1", false},
		{"", "10.0.0.0/8", "10.0.0.1", false},
		{"", "10.0.0.0/8", "11.0.0.1", true},
		{"10.0.0.0/8", "10.0.0.1/32", "10.0.0.1", false},
		{"10.0.0.0/8", "10.0.0.1/32", "10.0.0.2", true},
		{"10.0.0.1/32", "10.0.0.0/8", "10.0.0.1", true},
		{"10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", false},
		{"10.0.0.0/8", "0.0.0.0/0 ::/0", "11.0.0.1", false},
		{"10.0.0.0/8", "0.0.0.0/0 ::/0", "2001:db8::1", false},
		{"0.0.0.0/0", "", "2001:db8::1", false},
	} {
		if got := Allowed(netip.MustParseAddr(tt.client), networks(tt.allow), networks(tt.deny)); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
}

func TestOrigins(t *testing.T) {
	list := []string{Origin("https://example.com"), Origin("http://Example.org:8080"), "https://*.example.net:443"}
	for origin, want := range map[string]bool{
		"https://example.com":           true,
		"https://EXAMPLE.com:443":       true,
		"http://example.com":            false,
		"https://example.com:444":       false,
		"https://example.com.evil.test": false,
		"https://evilexample.com":       false,
		"http://example.org:8080":       true,
		"http://example.org":            false,
		"https://a.example.net":         true,
		"https://a.b.example.net":       true,
		"https://example.net":           false,
		"https://evilexample.net":       false,
		"http://a.example.net":          false,
		"https://a.example.net:444":     false,
		"null":                          false,
		"":                              false,
		"https://":                      false,
		"https://a.example.net/x":       false,
		"https://x@example.com":         false,
	} {
		if got := OriginAllowed(Origin(origin), list); got != want {
			t.Errorf("%q: %t", origin, got)
		}
	}
}

// FuzzUsers: whatever a file of users holds, it is read or refused.
func FuzzUsers(f *testing.F) {
	f.Add([]byte("a:$apr1$salt$hash\nb:{SHA}x\n"))
	f.Add([]byte("a:$2y$05$"))
	f.Add([]byte("a:$6$rounds=1$s$h"))
	f.Fuzz(func(t *testing.T, data []byte) {
		users, _ := parseUsers(data)
		for name := range users {
			if name == "" {
				t.Fatal("a user without a name")
			}
		}
	})
}
