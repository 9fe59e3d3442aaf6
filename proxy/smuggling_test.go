package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// host is a request's only needful header line.
const host = "Host: example.com\r\n"

// smuggled is what an attacker hides behind a request.
const smuggled = "GET /smuggled HTTP/1.1\r\n" + host + "\r\n"

// refusedHeads are request heads that two parsers could read in two ways. None may reach a backend.
var refusedHeads = []struct {
	name, raw string
	status    int
}{
	{"CL.TE", "POST / HTTP/1.1\r\n" + host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400},
	{"TE.CL", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\nab\r\n0\r\n\r\n", 400},
	{"TE xchunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
	{"TE quoted", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400},
	{"TE identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", 400},
	{"TE identity and CL", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 400},
	{"TE gzip, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"TE chunked, identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400},
	{"TE chunked, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE empty", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400},
	{"TE twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE twice, one unknown", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400},
	{"TE space before colon", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE tab before colon", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE vertical tab", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"TE form feed", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n", 400},
	{"TE NUL", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n", 400},
	{"TE folded", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after a bare LF", "POST / HTTP/1.1\r\n" + host + "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after a bare CR", "POST / HTTP/1.1\r\n" + host + "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE on HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"CL twice, equal", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
	{"CL twice, different", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", 400},
	{"CL +5", "POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\nhello", 400},
	{"CL -1", "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
	{"CL 5 5", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5 5\r\n\r\nhello", 400},
	{"CL 5,5", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5,5\r\n\r\nhello", 400},
	{"CL 5, 5", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n\r\nhello", 400},
	{"CL 0x5", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x5\r\n\r\nhello", 400},
	{"CL 5.0", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5.0\r\n\r\nhello", 400},
	{"CL empty", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", 400},
	{"CL above 63 bits", "POST / HTTP/1.1\r\n" + host + "Content-Length: 9223372036854775808\r\n\r\n", 400},
	{"CL above 64 bits", "POST / HTTP/1.1\r\n" + host + "Content-Length: 18446744073709551621\r\n\r\nhello", 400},
	{"CL of a hundred digits", "POST / HTTP/1.1\r\n" + host + "Content-Length: " + strings.Repeat("9", 100) + "\r\n\r\n", 400},
	{"CL folded", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n 5\r\n\r\nhello", 400},
	{"CL space before colon", "POST / HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\nhello", 400},
	{"bare LF after the request line", "GET / HTTP/1.1\n" + host + "\r\n", 400},
	{"bare LF after a header", "GET / HTTP/1.1\r\nHost: example.com\nX: y\r\n\r\n", 400},
	{"bare LF everywhere", "GET / HTTP/1.1\nHost: example.com\n\n", 400},
	{"bare LF as the empty line", "GET / HTTP/1.1\r\n" + host + "\n", 400},
	{"bare CR in a value", "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400},
	{"bare CR in the request line", "GET /\r HTTP/1.1\r\n" + host + "\r\n", 400},
	{"CR CR LF", "GET / HTTP/1.1\r\n" + host + "X: a\r\r\n\r\n", 400},
	{"folded header", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 400},
	{"folded with a tab", "GET / HTTP/1.1\r\n" + host + "X: a\r\n\tb\r\n\r\n", 400},
	{"space before the first header", "GET / HTTP/1.1\r\n " + host + "\r\n", 400},
	{"NUL in a value", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
	{"DEL in a value", "GET / HTTP/1.1\r\n" + host + "X: a\x7fb\r\n\r\n", 400},
	{"space in a name", "GET / HTTP/1.1\r\n" + host + "X Y: a\r\n\r\n", 400},
	{"colon in front", "GET / HTTP/1.1\r\n" + host + ": a\r\n\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 400},
	{"name beyond ASCII", "GET / HTTP/1.1\r\n" + host + "X\xff: a\r\n\r\n", 400},
	{"space before the request line", " GET / HTTP/1.1\r\n" + host + "\r\n", 400},
	{"two empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
	{"bare LF before it", "\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
	{"tab", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", 400},
	{"space at the end", "GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
	{"fragment", "GET /#a HTTP/1.1\r\n" + host + "\r\n", 400},
	{"control byte in the target", "GET /\x01 HTTP/1.1\r\n" + host + "\r\n", 400},
	{"no version", "GET /\r\n" + host + "\r\n", 400},
	{"lower-case version", "GET / http/1.1\r\n" + host + "\r\n", 400},
	{"HTTP/1.10", "GET / HTTP/1.10\r\n" + host + "\r\n", 400},
	{"HTTP/01.1", "GET / HTTP/01.1\r\n" + host + "\r\n", 400},
	{"HTTP/2.0 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"HTTP/2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", 505},
	{"bad method", "G(T / HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target without a slash", "GET a HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target of another scheme", "GET ftp://example.com/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target without an authority", "GET http:///a HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target with one slash", "GET http:/example.com/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target with a user", "GET http://me@example.com/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target of another host", "GET http://other.example/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"target of another port", "GET http://example.com:81/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"authority as the target", "GET example.com:80 HTTP/1.1\r\n" + host + "\r\n", 400},
}

func TestAmbiguousHeadsAreRefused(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	for _, tt := range refusedHeads {
		t.Run(tt.name, func(t *testing.T) {
			before := len(b.seen())
			c := dial(t, f.plain)
			c.send(tt.raw, smuggled)
			c.expect(tt.status)
			if rest := c.rest(); rest != "" {
				t.Errorf("the connection went on with %q", rest)
			}
			if seen := b.seen()[before:]; len(seen) > 0 {
				t.Errorf("the backend saw %q", seen)
			}
		})
	}
}

// TestMalformedChunksEndTheConnection sends bodies whose heads are in order, so that the backend has seen those. It must
// not see a whole body, and the rest is no request.
func TestMalformedChunksEndTheConnection(t *testing.T) {
	tests := []struct{ name, body string }{
		{"sign", "+5\r\nhello\r\n0\r\n\r\n"},
		{"minus", "-5\r\nhello\r\n0\r\n\r\n"},
		{"0x", "0x5\r\nhello\r\n0\r\n\r\n"},
		{"space in front", " 5\r\nhello\r\n0\r\n\r\n"},
		{"space after", "5 \r\nhello\r\n0\r\n\r\n"},
		{"underscore", "1_0\r\nhello\r\n0\r\n\r\n"},
		{"no size", "\r\nhello\r\n0\r\n\r\n"},
		{"no digits but an extension", ";a\r\nhello\r\n0\r\n\r\n"},
		{"above 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
		{"bare LF after the size", "5\nhello\r\n0\r\n\r\n"},
		{"bare CR after the size", "5\rhello\r\n0\r\n\r\n"},
		{"bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"},
		{"bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
		{"no CRLF after the data", "5\r\nhello0\r\n\r\n"},
		{"bare LF after the data", "5\r\nhello\n0\r\n\r\n"},
		{"data above the size", "5\r\nhello!\r\n0\r\n\r\n"},
		{"bare LF after the last chunk", "5\r\nhello\r\n0\n\r\n"},
		{"bare LF as the empty line", "5\r\nhello\r\n0\r\n\n"},
		{"folded trailer", "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n"},
		{"trailer without a colon", "5\r\nhello\r\n0\r\nX\r\n\r\n"},
		{"NUL in a trailer", "5\r\nhello\r\n0\r\nX: \x00\r\n\r\n"},
		{"bare LF in the trailers", "5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n"},
		{"extension without a name", "5;\r\nhello\r\n0\r\n\r\n"},
		{"extension without a name, with a value", "5;=a\r\nhello\r\n0\r\n\r\n"},
		{"extension without a value", "5;a=\r\nhello\r\n0\r\n\r\n"},
		{"extension with two values", "5;a=b=c\r\nhello\r\n0\r\n\r\n"},
		{"extension with a name that is no token", "5;a b\r\nhello\r\n0\r\n\r\n"},
		{"extension with an open quote", "5;a=\"b\r\nhello\r\n0\r\n\r\n"},
		{"extension with CRLF in quotes", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n"},
		{"extension with text behind quotes", "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n"},
		{"extension with NUL", "5;a=\"\x00\"\r\nhello\r\n0\r\n\r\n"},
		{"extension of a megabyte", "5;" + strings.Repeat("a", 1<<20) + "\r\nhello\r\n0\r\n\r\n"},
	}
	whole := make(chan string, 100)
	b := startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.ReadAll(req.Body); err != nil {
				return
			}
			whole <- req.RequestURI
			io.WriteString(conn, ok)
		}
	})
	f := start(t, oneSite(httpTo(b.address)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, f.plain)
			c.send("POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n", tt.body, smuggled)
			rest := c.rest()
			cut := rest == "" && strings.Contains(tt.body, "\r\n0\r\n") // behind the last chunk the connection ends without an answer
			if !cut && (strings.Count(rest, "HTTP/1.1 ") != 1 || !strings.HasPrefix(rest, "HTTP/1.1 400 ")) {
				t.Errorf("the client was answered %q", rest)
			}
			if len(whole) > 0 {
				t.Errorf("the backend saw a whole request of %s", <-whole)
			}
		})
	}
}

func TestMalformedBodyIsABadRequest(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "-5\r\nhello\r\n0\r\n\r\n")
	c.expect(400)
	await(t, "the reason in the log", func() bool { return strings.Contains(f.log.String(), "chunk") })
}

// TestFramingThatIsInOrderIsTaken is the other side of the tables above.
func TestFramingThatIsInOrderIsTaken(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"Content-Length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", "POST / hello"},
		{"leading zero", "POST / HTTP/1.1\r\n" + host + "Content-Length: 05\r\n\r\nhello", "POST / hello"},
		{"chunks", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "POST / hello"},
		{"Chunked", "POST / HTTP/1.1\r\n" + host + "tRANSFER-eNCODING:\tChunked \r\n\r\n05;a=b\r\nhello\r\n0\r\n\r\n", "POST / hello"},
		{"trailers", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "POST / hello"},
		{"an empty line in front", "\r\nGET / HTTP/1.1\r\n" + host + "\r\n", "GET / "},
		{"absolute target", "GET http://EXAMPLE.com:80/a?b HTTP/1.1\r\n" + host + "\r\n", "GET /a?b "},
		{"absolute target without a path", "GET http://example.com HTTP/1.1\r\n" + host + "\r\n", "GET / "},
		{"two slashes in front", "GET //a/b HTTP/1.1\r\n" + host + "\r\n", "GET //a/b "},
		{"bytes beyond ASCII in a value", "GET / HTTP/1.1\r\n" + host + "X: \xc3\xbc\xff\r\n\r\n", "GET / "},
	}
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, f.plain)
			c.send(tt.raw, "GET /next HTTP/1.1\r\nConnection: close\r\n"+host+"\r\n")
			if a := c.expect(200); a.body != tt.want {
				t.Errorf("the backend got %q, want %q", a.body, tt.want)
			}
			if a := c.expect(200); a.body != "GET /next " {
				t.Errorf("then %q", a.body)
			}
		})
	}
}

// TestPipelinedRequestsStayWhatTheyAre has a body that looks like a request and a request right behind it.
func TestPipelinedRequestsStayWhatTheyAre(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(fmt.Sprintf("POST /1 HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", host, len(smuggled), smuggled),
		"GET /2 HTTP/1.1\r\n"+host+"\r\n",
		fmt.Sprintf("POST /3 HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", host, len(smuggled), smuggled),
		"GET /4 HTTP/1.1\r\n"+host+"Connection: close\r\n\r\n")
	for i, want := range []string{"POST /1 " + smuggled, "GET /2 ", "POST /3 " + smuggled, "GET /4 "} {
		if a := c.expect(200); a.body != want {
			t.Errorf("answer %d is %q, want %q", i+1, a.body, want)
		}
	}
	c.rest()
	if want := []string{"POST /1", "GET /2", "POST /3", "GET /4"}; !slices.Equal(b.seen(), want) {
		t.Errorf("the backend saw %q, want %q", b.seen(), want)
	}
}

// TestRestOfABodyAnsweredEarlyIsNeverARequest has a backend that answers before it has the body. What is left of the body
// must not be taken for a request, whatever comes with it.
func TestRestOfABodyAnsweredEarlyIsNeverARequest(t *testing.T) {
	for name, behind := range map[string]string{"alone": "", "before an honest request": "GET /honest HTTP/1.1\r\n" + host + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			b := startHeads(t, always(ok))
			f := start(t, streaming+oneSite(httpTo(b.address)))
			for range 10 {
				c := f.dial()
				c.send(fmt.Sprintf("POST /first HTTP/1.1\r\n%sContent-Length: %d\r\n\r\nx", host, 1+len(smuggled)))
				c.expect(200)
				other := f.dial() // leaves an idle connection to the backend behind
				other.send(get)
				other.expect(200)
				c.send(smuggled, behind)
				if rest := c.rest(); strings.Contains(rest, "HTTP/1.1") {
					t.Fatalf("the rest of the body was answered with %q", rest)
				}
			}
			if strings.Contains(f.log.String(), "/smuggled") {
				t.Error("the rest of the body was taken for a request")
			}
			for _, head := range b.seen() {
				if strings.HasPrefix(head, "GET /smuggled") {
					t.Fatalf("the backend saw %q", head)
				}
			}
		})
	}
}

// TestRestOfARefusedBodyIsNeverARequest has answers of the front end's own, which take no interest in the body.
func TestRestOfARefusedBodyIsNeverARequest(t *testing.T) {
	f := start(t, streaming+oneSite(`{path: /files, static: "`+t.TempDir()+`"}`, `{path: /down, http: "http://`+closedPort(t)+`"}`))
	tests := []struct {
		name, path, host string
		status           int
	}{
		{"static", "/files/a", "example.com", 405},
		{"no site", "/", "nobody.example", 404},
		{"no location", "/", "example.com", 404},
		{"bad path", "/..", "example.com", 400},
		{"backend down", "/down", "example.com", 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, f.plain)
			c.send(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\nx", tt.path, tt.host, 1+len(smuggled)))
			c.expect(tt.status)
			c.send(smuggled, "GET /honest HTTP/1.1\r\n"+host+"\r\n")
			if rest := c.rest(); strings.Contains(rest, "HTTP/1.1") {
				t.Errorf("went on with %q", rest)
			}
			if strings.Contains(f.log.String(), "/smuggled") {
				t.Error("the rest of the body was taken for a request")
			}
		})
	}
}
