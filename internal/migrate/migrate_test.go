package migrate

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/config"
)

func TestListenAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"80": ":80", "*:80": ":80", "[::]:80": ":80", "0.0.0.0:8080": ":8080", "192.0.2.1": "192.0.2.1:80", "192.0.2.1:443": "192.0.2.1:443", "[2001:db8::1]:443": "[2001:db8::1]:443",
		"[::1]": "[::1]:80", "localhost:81": "127.0.0.1:81", "_default_:443": ":443", "": ":80", "x:y": "", "0": "", "70000": "",
	} {
		if got, ok := listenAddress(in); got != want && want != "" || ok != (want != "") {
			t.Errorf("%q: %q %t, want %q", in, got, ok, want)
		}
	}
}

// TestOrderOfAccessRulesIsThatOfTheirLists compares the first of the rules that holds a client with the longest prefix of the lists.
func TestOrderOfAccessRulesIsThatOfTheirLists(t *testing.T) {
	rule := func(s string) accessRule {
		verb, what, _ := strings.Cut(s, " ")
		r := accessRule{allow: verb == "allow", all: what == "all"}
		r.network, _ = network(what)
		return r
	}
	tests := []struct {
		rules       []string
		open        bool
		allow, deny []string
	}{
		{[]string{"allow 192.0.2.0/24", "deny all"}, true, []string{"192.0.2.0/24"}, nil},
		{[]string{"deny 192.0.2.1", "allow 192.0.2.0/24", "deny all"}, true, []string{"192.0.2.0/24"}, []string{"192.0.2.1"}},
		{[]string{"allow 192.0.2.0/24", "deny 192.0.2.1", "deny all"}, true, []string{"192.0.2.0/24"}, nil},
		{[]string{"deny 192.0.2.1"}, true, nil, []string{"192.0.2.1"}},
		{[]string{"deny all"}, true, nil, []string{"all"}},
		{[]string{"allow all"}, true, nil, nil},
		{[]string{"allow 192.0.2.1", "deny 192.0.2.0/24"}, true, []string{"192.0.2.1", "all"}, []string{"192.0.2.0/24"}},
		{[]string{"allow 192.0.2.1"}, false, []string{"192.0.2.1"}, nil},
		{[]string{"deny all", "allow 192.0.2.1"}, true, nil, []string{"all"}},
	}
	for _, tt := range tests {
		var rules []accessRule
		for _, r := range tt.rules {
			rules = append(rules, rule(r))
		}
		allow, deny := accessLists(rules, tt.open)
		if !slices.Equal(allow, tt.allow) || !slices.Equal(deny, tt.deny) {
			t.Errorf("%q: allow %q, deny %q; want %q, %q", tt.rules, allow, deny, tt.allow, tt.deny)
		}
	}
}

func TestLookaheadsOfPlainWordsAreSpeltOut(t *testing.T) {
	for pattern, paths := range map[string]struct{ yes, no []string }{
		`/\.(?!well-known).*`:      {[]string{"/.git", "/.", "/.wellknown", "/a/.ht", "/.w"}, []string{"/.well-known", "/.well-known/x", "/a"}},
		`^/(?!api|app/)`:           {[]string{"/", "/a", "/ap", "/appx", "/x"}, []string{"/api", "/apix", "/app/", "/app/x"}},
		`\.(?!php)`:                {[]string{"/a.txt", "/a.ph", "/a."}, []string{"/a.php", "/a"}},
		`^/x/(?:a|b)/(?!index)[a]`: {nil, nil},
	} {
		re, ok := toRE2(pattern)
		if paths.yes == nil {
			if ok {
				t.Errorf("%s became %s", pattern, re)
			}
			continue
		}
		if !ok {
			t.Errorf("%s is not known", pattern)
			continue
		}
		compiled := regexp.MustCompile(re)
		for _, p := range paths.yes {
			if !compiled.MatchString(p) {
				t.Errorf("%s: %s does not match %s", pattern, re, p)
			}
		}
		for _, p := range paths.no {
			if compiled.MatchString(p) {
				t.Errorf("%s: %s matches %s", pattern, re, p)
			}
		}
	}
}

// TestNoDirectiveIsLost counts what becomes of lines that nobody knows, and of those that have no counterpart.
func TestNoDirectiveIsLost(t *testing.T) {
	for kind, text := range map[string]string{
		"nginx":  "server {\n listen 80;\n what_is this;\n location / { proxy_pass http://a:1; sub_filter a b; proxy_cache z; }\n}\n",
		"apache": "<VirtualHost *:80>\nServerName a.example\nWhatIs this\nProxyPass / http://a:1/\nSubstitute s/a/b/\nCacheEnable disk /\n</VirtualHost>\n",
	} {
		r, err := translators[kind](Input{Files: fstest.MapFS{}, Name: "/etc/x/x.conf", Text: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Counts.Noted != 3 {
			t.Errorf("%s: %+v, want 3 noted\n%s", kind, r.Counts, r.YAML)
		}
		for _, n := range r.Notes {
			if !strings.Contains(string(r.YAML), n.File) || n.Line == 0 || n.Do == "" || n.Does == "" {
				t.Errorf("%s: note %+v", kind, n)
			}
		}
	}
}

func TestFilesThatIncludeOneAnotherEnd(t *testing.T) {
	files := fstest.MapFS{
		"etc/x/a.conf": {Data: []byte("include b.conf;\nInclude b.conf\n")},
		"etc/x/b.conf": {Data: []byte("include a.conf;\nInclude a.conf\n")},
		"etc/x/m.conf": {Data: []byte("<Macro M $x>\nUse M $x\nUse M $x\n</Macro>\nUse M 1\n")},
	}
	for name, translate := range map[string]func(Input) (*Result, error){"a": Nginx, "m": Apache} {
		if _, err := translate(Input{Files: files, Name: "/etc/x/" + name + ".conf"}); err == nil {
			t.Errorf("%s: no mistake", name)
		}
	}
}

// check is what the import command checks its output with.
func check(yaml []byte) (mistakes []Mistake) {
	_, err := config.Parse("/etc/x/config.yaml", yaml, func(string) (string, bool) { return "", false })
	var errs config.Errors
	if err != nil && !errors.As(err, &errs) {
		return []Mistake{{Line: 1, Text: err.Error()}}
	}
	for _, e := range errs {
		mistakes = append(mistakes, Mistake{Line: e.Line, Text: e.Found + "; " + e.Allowed, Unreachable: e.Unreachable, NoFile: e.NoFile})
	}
	return mistakes
}

// fuzz translates anything; the output passes the check, and is the same each time.
func fuzz(t *testing.T, translate func(Input) (*Result, error), text []byte) {
	in := Input{Check: check, Files: fstest.MapFS{"etc/x/other.conf": {Data: []byte("allow all;\n")}}, Name: "/etc/x/x.conf", Text: text}
	r, err := translate(in)
	if err != nil {
		return
	}
	var any map[string]any
	if err := yaml.Unmarshal(r.YAML, &any); err != nil {
		t.Fatalf("%v\n%.2000s", err, r.YAML)
	}
	for _, m := range r.Mistakes {
		if !m.NoFile {
			t.Fatalf("line %d: %s\n%s", m.Line, m.Text, lineOf(r.YAML, m.Line))
		}
	}
	if again, err := translate(in); err != nil || string(again.YAML) != string(r.YAML) {
		t.Fatalf("%v: another time\n%.2000s\n%.2000s", err, r.YAML, again.YAML)
	}
}

// lineOf returns a line with some before it.
func lineOf(yaml []byte, n int) string {
	lines := strings.Split(string(yaml), "\n")
	shown := strings.Join(lines[max(0, min(n, len(lines))-6):min(n, len(lines))], "\n")
	return shown[:min(len(shown), 2000)]
}

func seed(f *testing.F, kind string) {
	for name, file := range load(f, kind) {
		if strings.HasSuffix(name, ".conf") {
			f.Add(file.Data)
		}
	}
}

func FuzzNginx(f *testing.F) {
	seed(f, "nginx")
	f.Fuzz(func(t *testing.T, text []byte) { fuzz(t, Nginx, text) })
}

func FuzzApache(f *testing.F) {
	seed(f, "apache")
	f.Fuzz(func(t *testing.T, text []byte) { fuzz(t, Apache, text) })
}

// FuzzParseApache takes files apart.
func FuzzParseApache(f *testing.F) {
	seed(f, "apache")
	f.Add([]byte("a \\\n b\n<x \"y\">\n</X>\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, err := parseApache("x", text)
		if err != nil {
			return
		}
		var walk func(lines []*apacheLine)
		walk = func(lines []*apacheLine) {
			for _, l := range lines {
				if l.name == "" && !l.section || l.Line < 1 {
					t.Fatalf("%+v", l)
				}
				apacheArgs(l.rest)
				walk(l.block)
			}
		}
		walk(lines)
	})
}

// TestHostOfAllAddressesIsOpenWhereApacheListens, and nowhere else.
func TestHostOfAllAddressesIsOpenWhereApacheListens(t *testing.T) {
	for _, tt := range []struct{ listened, address, port, want string }{
		{"127.0.0.1:8081 127.0.0.1:80", ":8081", "8081", "127.0.0.1:8081"},
		{"127.0.0.1:80 [::1]:80", ":80", "80", "127.0.0.1:80 [::1]:80"},
		{":80 127.0.0.1:8081", ":80", "80", ":80"},
		{":80", ":8080", "8080", ":8080"},
		{"", ":80", "80", ":80"},
		{"127.0.0.1:80 127.0.0.2:80", "127.0.0.2:80", "80", "127.0.0.2:80"},
	} {
		if got := strings.Join(openAt(strings.Fields(tt.listened), tt.address, tt.port), " "); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestAccessIsNotDroppedInSilence: what lets clients in or keeps them out, and was of no use, is told of.
func TestAccessIsNotDroppedInSilence(t *testing.T) {
	r, err := Nginx(Input{Files: fstest.MapFS{}, Name: "/etc/x/x.conf", Text: []byte(`server {
		deny 192.0.2.1;
		return 200 open;
	}
	server {
		server_name b.example;
		location /p {
			auth_basic closed;
			proxy_pass http://127.0.0.1:1;
			proxy_next_upstream off;
		}
		location /r {
			return 301 /p;
			rewrite ^ /q;
		}
	}`)})
	if err != nil {
		t.Fatal(err)
	}
	advice := map[int]bool{}
	for _, n := range r.Notes {
		advice[n.Line] = n.Advice
	}
	if want := map[int]bool{2: true, 8: false, 10: false, 14: true}; !maps.Equal(advice, want) {
		t.Errorf("got %v, want %v\n%s", advice, want, r.YAML)
	}
}
