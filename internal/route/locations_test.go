package route

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/config"
)

// each wants each location.
func each(string) bool { return true }

// locationsOf makes locations of patterns as they stand in a configuration, each of which is for itself.
func locationsOf(patterns ...string) *Locations[string] {
	ls := &Locations[string]{}
	for _, text := range patterns {
		match := config.Match{Kind: config.MatchPrefix, Path: text}
		if kind, rest, spaced := strings.Cut(text, " "); spaced {
			match.Path = rest
			switch kind {
			case "=":
				match.Kind = config.MatchExact
			case "^~":
				match.Kind = config.MatchPrefixStop
			case "~":
				match = config.Match{Kind: config.MatchRegex, Regexp: regexp.MustCompile(rest)}
			case "~*":
				match = config.Match{Kind: config.MatchRegexFold, Regexp: regexp.MustCompile("(?i)" + rest)}
			}
		}
		ls.Add(match, text)
	}
	return ls
}

func TestLocationPrecedenceIsThatOfNginx(t *testing.T) {
	all := []string{"/", "/ws", "= /ws", "/ws/chat/", "^~ /static/", "~ \\.php$", "~* \\.JPG$", "~ ^/ws/reg", "/images/"}
	tests := []struct{ path, want string }{
		{"/", "/"},
		{"/other", "/"},
		{"/ws", "= /ws"},
		{"/ws/", "/ws"},
		{"/ws/x", "/ws"},
		{"/wsx", "/"},
		{"/ws/chat/", "/ws/chat/"},
		{"/ws/chat/1", "/ws/chat/"},
		{"/static/a.php", "^~ /static/"},
		{"/a.php", "~ \\.php$"},
		{"/a.PHP", "/"},
		{"/images/a.jpg", "~* \\.JPG$"},
		{"/images/a.png", "/images/"},
		{"/ws/register.php", "~ \\.php$"}, // the first regex in file order
		{"/ws/register", "~ ^/ws/reg"},
	}
	s := locationsOf(all...)
	for _, tt := range tests {
		if got, slash, err := s.Find(tt.path, each); got != tt.want || slash || err != nil {
			t.Errorf("%s: %q, %t, %v, want %s", tt.path, got, slash, err, tt.want)
		}
	}
}

func TestPathThatLacksTheSlashOfAPrefix(t *testing.T) {
	tests := []struct {
		patterns   []string
		path, want string
		lacksSlash bool
	}{
		{[]string{"/ws/"}, "/ws", "/ws/", true},
		{[]string{"/ws/"}, "/ws/", "/ws/", false},
		{[]string{"/a/ws/", "/"}, "/a/ws", "/a/ws/", true},
		{[]string{"/a/ws/", "/"}, "/a", "/", false},
		{[]string{"/ws/", "/ws"}, "/ws", "/ws", false},
		{[]string{"/ws/", "= /ws"}, "/ws", "= /ws", false},
		{[]string{"/ws/", "~ ^/ws"}, "/ws", "/ws/", true}, // before any regex, as nginx
		{[]string{"^~ /ws/", "/"}, "/ws", "^~ /ws/", true},
	}
	for _, tt := range tests {
		got, slash, err := locationsOf(tt.patterns...).Find(tt.path, each)
		if got != tt.want || slash != tt.lacksSlash || err != nil {
			t.Errorf("%q, %s: %q, %t, %v; want %s, %t", tt.patterns, tt.path, got, slash, err, tt.want, tt.lacksSlash)
		}
	}
	if got, _, _ := locationsOf("/ws/").Find("/w", each); got != "" {
		t.Errorf("/w matched %s", got)
	}
}

func TestRegexesAreNotTriedOnPathsOfAnyLength(t *testing.T) {
	ls := locationsOf("~ x$", "^~ /plain/", "/")
	for path, want := range map[string]error{
		"/" + strings.Repeat("a", MaxMatched-2) + "x": nil,
		"/" + strings.Repeat("a", MaxMatched-1) + "x": ErrTooLong,
		"/plain/" + strings.Repeat("a", MaxMatched):   nil,
	} {
		if _, _, err := ls.Find(path, each); err != want {
			t.Errorf("%d bytes: %v, want %v", len(path), err, want)
		}
	}
}

func TestLocationThatIsNotWantedIsAsIfItWereNotThere(t *testing.T) {
	ls := locationsOf("/", "/ws/", "/ws", "= /ws", "^~ /ws/a", "~ ^/ws/a")
	for unwanted, want := range map[string]string{
		"":                                   "^~ /ws/a",
		"^~ /ws/a":                           "~ ^/ws/a",
		"^~ /ws/a, ~ ^/ws/a":                 "/ws/",
		"^~ /ws/a, ~ ^/ws/a, /ws/":           "/ws",
		"^~ /ws/a, ~ ^/ws/a, /ws/, /ws":      "/",
		"^~ /ws/a, ~ ^/ws/a, /ws/, /ws, /, ": "",
	} {
		not := strings.Split(unwanted, ", ")
		got, slash, err := ls.Find("/ws/a", func(l string) bool { return !slices.Contains(not, l) })
		if got != want || slash || err != nil {
			t.Errorf("without %s: %q, %t, %v; want %q", unwanted, got, slash, err, want)
		}
	}
	if got, slash, _ := ls.Find("/ws", func(l string) bool { return l == "/ws/" || l == "/" }); got != "/ws/" || !slash {
		t.Errorf("%q, %t", got, slash)
	}
}

func TestOfSeveralLocationsWithOnePathTheFirstThatIsWantedCounts(t *testing.T) {
	ls := &Locations[int]{}
	for i := range 3 {
		for _, m := range []config.Match{{Path: "/p"}, {Kind: config.MatchExact, Path: "/e"}, {Kind: config.MatchRegex, Regexp: regexp.MustCompile("^/r")}} {
			ls.Add(m, i)
		}
	}
	for _, path := range []string{"/p", "/p/x", "/e", "/r"} {
		if got, _, _ := ls.Find(path, func(i int) bool { return i > 0 }); got != 1 {
			t.Errorf("%s: %d", path, got)
		}
	}
}
