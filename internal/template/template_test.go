package template

import (
	"strings"
	"testing"
)

func known(name string) bool {
	return name == "host" || name == "1" || strings.HasPrefix(name, "http_")
}

func value(name string) string { return "<" + name + ">" }

func TestVariablesAreReplaced(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"$host":                 "<host>",
		"https://$host/x":       "https://<host>/x",
		"$1$1":                  "<1><1>",
		"/$12":                  "/<1>2",
		"$http_x_y-z":           "<http_x_y>-z",
		"$$host":                "$host",
		"a$$":                   "a$",
		"${NAME}":               "${NAME}",
		"$$$host":               "$<host>",
		"price: $$5, at $host.": "price: $5, at <host>.",
	} {
		got, err := Parse(text, known)
		if err != nil || got.Expand(value) != want || got.String() != text {
			t.Errorf("%q: %q, %v; want %q", text, got.Expand(value), err, want)
		}
	}
}

func TestWhatIsNoVariable(t *testing.T) {
	for text, want := range map[string]string{
		"$":         "a $ with no variable's name behind it",
		"a$ b":      "a $ with no variable's name behind it",
		"$-x":       "a $ with no variable's name behind it",
		"$hosts":    "unknown variable $hosts",
		"$host_":    "unknown variable $host_",
		"/$2":       "unknown variable $2",
		"$Ünicode":  "a $ with no variable's name behind it",
		"$host$nil": "unknown variable $nil",
	} {
		if _, err := Parse(text, known); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestLiteralIsNoTemplate(t *testing.T) {
	l := Literal("pa$$word $host ${X}")
	if got := l.Expand(value); got != "pa$$word $host ${X}" {
		t.Errorf("got %q", got)
	}
	again, err := Parse(l.String(), known)
	if err != nil || again.Expand(value) != "pa$$word $host ${X}" {
		t.Errorf("its text means %q, %v", again.Expand(value), err)
	}
}

// FuzzParse: whatever stands in a template, its text means the same again, and no dollar is lost.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "$", "$$", "$host", "${a}", "a$1b", "$$$", "\x00$host"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tmpl, err := Parse(text, known)
		if err != nil {
			return
		}
		again, err := Parse(tmpl.String(), known)
		if err != nil || again.Expand(value) != tmpl.Expand(value) {
			t.Fatalf("%q means %q, and then %q, %v", text, tmpl.Expand(value), again.Expand(value), err)
		}
		if constant, ok := tmpl.Constant(); ok && constant != tmpl.Expand(value) {
			t.Fatalf("%q is constant %q and expands to %q", text, constant, tmpl.Expand(value))
		}
	})
}
