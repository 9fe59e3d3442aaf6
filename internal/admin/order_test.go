package admin

import (
	"errors"
	"strings"
	"testing"
)

func TestOrdersAreRead(t *testing.T) {
	for line, want := range map[string]lineOrder{
		"LIST WEBSOCKETS":                       {verb: listTunnels},
		"COUNT":                                 {verb: countThem},
		"DRAIN":                                 {verb: drainAll},
		"WATCH":                                 {verb: watchEvents},
		"WATCH example.com":                     {verb: watchEvents, name: "example.com"},
		"SEND MESSAGE 1-00000000 two  words ":   {verb: sendMessage, name: "1-00000000", text: "two  words "},
		"SEND USER anna ":                       {verb: sendUser, name: "anna"},
		"SEND GROUP lobby {\"a\": 1}":           {verb: sendGroup, name: "lobby", text: `{"a": 1}`},
		"JOIN 1-00000000 lobby":                 {verb: joinGroup, name: "1-00000000", group: "lobby"},
		"LEAVE 1-00000000 lobby":                {verb: leaveGroup, name: "1-00000000", group: "lobby"},
		"KICK 1-00000000":                       {verb: kickTunnel, name: "1-00000000", code: kickCode, text: kickReason},
		"KICK 1-00000000 4001":                  {verb: kickTunnel, name: "1-00000000", code: 4001, text: kickReason},
		"KICK 1-00000000 4001 you are too loud": {verb: kickTunnel, name: "1-00000000", code: 4001, text: "you are too loud"},
	} {
		if got, err := parseOrder(line); got != want || err != nil {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

func TestWhatIsNoOrderIsRefused(t *testing.T) {
	for line, status := range map[string]int{
		"": 400, "count": 400, "WATCH a b": 400, "LIST": 400, "LIST WEBSOCKETS all": 400, "SEND": 400, "SEND ALL x": 400, "SEND USER anna": 400, "SEND USER  text": 400,
		"SEND USER anna \xff": 422, "SEND USER anna " + strings.Repeat("x", MaxMessage+1): 413, "JOIN 1": 400, "JOIN 1 ": 400, "KICK": 400, "KICK 1 x": 422,
		"KICK 1 65536": 422, "KICK 1 4001 " + strings.Repeat("x", 124): 422, "GET / HTTP/1.1": 400, "\x00": 400,
	} {
		_, err := parseOrder(line)
		if e, ok := errors.AsType[*StatusError](err); !ok || e.Status != status {
			t.Errorf("%.40q: %v, want %d", line, err, status)
		}
	}
}

// FuzzOrder finds lines whose order names nobody, or whose refusal is more than a line.
func FuzzOrder(f *testing.F) {
	for _, line := range []string{"LIST WEBSOCKETS", "SEND USER anna hello", "JOIN 1-0 a", "WATCH x", "KICK 1-0 4001 out", "SEND MESSAGE \x00 \xff", "x\ny"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseOrder(line)
		if err != nil {
			if e, ok := errors.AsType[*StatusError](err); !ok || e.Status < 400 || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Fatalf("%q is refused with %q", line, err)
			}
			return
		}
		switch o.verb {
		case listTunnels, countThem, drainAll:
		case watchEvents:
			if strings.Contains(o.name, " ") {
				t.Fatalf("%q is %+v", line, o)
			}
		default:
			if o.name == "" || strings.Contains(o.name, " ") || len(o.text) > MaxMessage {
				t.Fatalf("%q is %+v", line, o)
			}
		}
	})
}
