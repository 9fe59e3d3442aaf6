package host

import (
	"net/http"
	"strings"
	"testing"
)

func TestValid(t *testing.T) {
	for _, good := range []string{
		"example.com", "EXAMPLE.com:80", "example.com.", "a_b.example", "localhost:65535", "192.0.2.1", "[::1]", "[2001:db8::1]:443", "example.com:",
		"xn--bcher-kva.test", strings.Repeat("a", 253),
	} {
		if !Valid(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{
		"", ":80", "a,b", "evil@x", "[::1", "::1", "[::1]x", "[1.2.3.4]", "[fe80::1%25eth0]", "a..b", ".a", "a:-1", "a:0", "a:65536", "a:80a", "a:80:80", "a/b",
		"a b", "a%0d", "b\xc3\xbccher.test", "a\x00", "a\x7f", strings.Repeat("a", 255),
	} {
		if Valid(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"Example.COM", "example.com"},
		{"example.com.", "example.com"},
		{"[2001:DB8:0:0::1]", "2001:db8::1"},
		{"2001:DB8:0:0::1", "2001:db8::1"},
		{"192.0.2.1", "192.0.2.1"},
		{"b\u00fccher.test", "xn--bcher-kva.test"},
		{"B\u00dcCHER.test.", "xn--bcher-kva.test"},
		{"[x", "x"},
		{"", ""},
	} {
		if got := Canonical(tt.name); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAuthority(t *testing.T) {
	for _, tt := range []struct{ scheme, authority, want string }{
		{"http", "A.example", "a.example:80"},
		{"https", "a.example.", "a.example:443"},
		{"https", "a.example:8443", "a.example:8443"},
		{"http", "[::1]:", "::1:80"},
	} {
		if got := Authority(tt.scheme, tt.authority); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.scheme, tt.authority, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	var table Table[int]
	if _, ok := table.Find("a.example"); ok {
		t.Error("an empty table has an answer")
	}
	for i, name := range []string{"example.com", "*.example.com", "*.b.example.com", "example.com"} {
		table.Add(name, i)
	}
	for _, tt := range []struct {
		name string
		want int
		ok   bool
	}{
		{"example.com", 0, true},
		{"a.example.com", 1, true},
		{"x.a.example.com", 1, true},
		{"b.example.com", 1, true},
		{"a.b.example.com", 2, true},
		{"example.org", 0, false},
		{".example.com", 0, false},
	} {
		if got, ok := table.Find(tt.name); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %d %t, want %d %t", tt.name, got, ok, tt.want, tt.ok)
		}
	}
	table.Add("_", 9)
	if got, ok := table.Find("example.org"); got != 9 || !ok {
		t.Errorf("the fallback: %d %t", got, ok)
	}
}

// FuzzHost compares with net/http, which must be able to send a request to whatever is valid here, and wants one form for each host.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"example.com:80", "[::1]:443", "EXAMPLE.com.", "a_b", "a:", "b\u00fccher.test", "[::ffff:1.2.3.4]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		name, _ := Split(authority)
		canonical := Canonical(name)
		if !Valid(authority) {
			return
		}
		if again := Canonical(canonical); again != canonical && !strings.HasSuffix(canonical, ".") {
			t.Fatalf("%q is %q, and that is %q", name, canonical, again)
		}
		if _, err := http.NewRequest("GET", "http://"+authority+"/", nil); err != nil {
			t.Fatalf("%q: %v", authority, err)
		}
	})
}
