package rewrite

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/template"
)

// FuzzHeaderRules: whatever a client sent, the head that rules make of it is one that net/http reads as it is meant, with the fields of the rules and no others.
func FuzzHeaderRules(f *testing.F) {
	for _, seed := range []string{"", "a", "a\r\nX-Evil: 1", "\r\n\r\nGET / HTTP/1.1", "\x00", "é", " a ", "a, b", "%0d%0a", "example.com:80", "\t"} {
		f.Add(seed, seed)
	}
	rules := []config.HeaderRules{
		{Remove: []string{"x-secret-*", "cookie"}, Set: values("Host", "$http_x_a", "X-Set", "a$uri-$1", "X-Arg", "$arg_q"), Add: values("X-Add", "$http_x_a")},
		{Remove: []string{"sec-*", "c*", "x-gone"}, Set: values("X-Set", "$http_x_a$request_uri")},
	}
	f.Fuzz(func(t *testing.T, value, path string) {
		if _, bad := head.BadValueByte(value); bad { // no decoder lets it in; what is decoded from the path may be anything
			value = ""
		}
		r := &head.Request{Method: "GET", Target: "/x?q=" + onlyTarget(value), Host: "example.com", Major: 1, Minor: 1, Length: 0}
		for _, name := range []string{"X-A", "X-Set", "X-Secret-B", "Cookie", "X-Gone", "Sec-X", "CDN-Loop"} {
			r.Fields = append(r.Fields, head.Field{Name: name, Value: head.Trim(value), ID: head.IDOf(name)})
		}
		in := &Inbound{Request: r, Target: r.Target, Path: path, Client: netip.MustParseAddr("192.0.2.1")}
		out := *r
		out.Fields = append(head.Fields{}, r.Fields...)
		ApplyRequestRules(&out, in, rules)
		text := http1.AppendRequest(nil, &out)
		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got.Host != out.Host || got.RequestURI != out.Target {
			t.Fatalf("%q: host %q, target %q", text, got.Host, got.RequestURI)
		}
		for name, values := range got.Header {
			switch name {
			case "X-A", "X-Set", "X-Arg", "X-Add", "Cdn-Loop":
				if len(values) > 1 {
					t.Fatalf("%q: %d of %s", text, len(values), name)
				}
			default:
				t.Fatalf("%q: there is %s", text, name)
			}
		}
		if want := head.Trim(Text(rules[1].Set[0].Value, in.Value)); got.Header.Get("X-Set") != want {
			t.Fatalf("%q: %q, want %q", text, got.Header.Get("X-Set"), want)
		}
	})
}

// onlyTarget keeps what a decoder lets stand in a request target.
func onlyTarget(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}

// values are names and templates in turn.
func values(texts ...string) (all []config.HeaderValue) {
	for i := 0; i < len(texts); i += 2 {
		t, err := template.Parse(texts[i+1], func(string) bool { return true })
		if err != nil {
			panic(err)
		}
		all = append(all, config.HeaderValue{Name: texts[i], Value: t})
	}
	return all
}

// FuzzConditions: whatever a client sends, a condition and its opposite do not both hold, and a value equals itself alone.
func FuzzConditions(f *testing.F) {
	f.Add("a=b&c=%20d", "a=b; c=d", "a")
	f.Add("A=%zz", "a", "c")
	f.Fuzz(func(t *testing.T, query, cookie, name string) {
		r := &head.Request{Method: "GET", Target: "/?" + query, Fields: head.Fields{{Name: "Cookie", Value: cookie, ID: head.Cookie}}}
		in := &Inbound{Request: r, Target: r.Target}
		for _, get := range []func(string) (string, bool){in.decodedParameter, in.Cookie, in.Header} {
			value, found := get(name)
			equal := []config.Condition{{Name: name, Value: value}}
			if !in.all(equal, get) {
				t.Fatalf("%q does not equal itself", value)
			}
			for _, c := range []config.Condition{equal[0], {Name: name, Any: true}, {Name: name, Value: value + "x"}} {
				opposite := c
				opposite.Not = true
				if in.all([]config.Condition{c}, get) == in.all([]config.Condition{opposite}, get) {
					t.Fatalf("%+v and its opposite", c)
				}
			}
			if !found && value != "" {
				t.Fatalf("%q was not found", value)
			}
		}
	})
}
