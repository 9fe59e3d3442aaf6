package http2

import (
	"fmt"
	"strings"
	"testing"

	"wstunnel/internal/head"
)

// without returns the fields of a GET without one of the pseudo ones.
func without(name string, more ...string) (pairs []string) {
	all := get(more...)
	for i := 0; i < len(all); i += 2 {
		if all[i] != name {
			pairs = append(pairs, all[i], all[i+1])
		}
	}
	return pairs
}

func TestRequests(t *testing.T) {
	long := strings.Repeat("a", MaxHeaderList)
	tests := []struct {
		name  string
		pairs []string
		want  string // the head, or why there is none
	}{
		{"plain", get(), "GET https / example.com -1 []"},
		{
			"names are spelt as in HTTP/1.1", get("content-type", "a", "user-agent", "b", "x-own-name", "c", "etag", "d", "sec-websocket-protocol", "e"),
			"GET https / example.com -1 [Content-Type=a User-Agent=b X-Own-Name=c ETag=d Sec-WebSocket-Protocol=e]",
		},
		{"crumbs become one cookie", get("cookie", "a=b", "x", "y", "cookie", "c=d", "cookie", "e=f"), "GET https / example.com -1 [Cookie=a=b; c=d; e=f X=y]"},
		{"host alone", without(":authority", "host", "other.example"), "GET https / other.example -1 [Host=other.example]"},
		{"host and authority", get("host", "EXAMPLE.com:443"), "GET https / example.com -1 [Host=EXAMPLE.com:443]"},
		{"star", []string{":method", "OPTIONS", ":scheme", "https", ":path", "*", ":authority", "a"}, "OPTIONS https * a -1 []"},
		{"length", get("content-length", "5"), "GET https / example.com 5 [Content-Length=5]"},
		{"te", get("te", "trailers"), "GET https / example.com -1 [TE=trailers]"},
		{"expect", get("expect", "100-Continue"), "GET https / example.com -1 [Expect=100-Continue]"},
		{"an empty value", get("x", ""), "GET https / example.com -1 [X=]"},
		{"bytes above ASCII", get("x", "\xe4"), "GET https / example.com -1 [X=\xe4]"},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "a:1"}, "CONNECT  a:1 a:1 -1 []"},

		{"other host", get("host", "other.example"), "400"},
		{"two hosts", get("host", "example.com", "host", "example.com"), "400"},
		{"no host", without(":authority"), "400"},
		{"user name", append(without(":authority"), ":authority", "u@example.com"), "400"},
		{"two lengths", get("content-length", "5", "content-length", "5"), "400"},
		{"a list of lengths", get("content-length", "5, 5"), "400"},
		{"length with a sign", get("content-length", "+5"), "400"},
		{"expectation", get("expect", "a miracle"), "417"},
		{"long", get("x", long), "431"},
		{"long in all", get("a", long[:40000], "b", long[:30000]), "431"},

		{"no method", without(":method"), "PROTOCOL_ERROR"},
		{"no scheme", without(":scheme"), "PROTOCOL_ERROR"},
		{"no path", without(":path"), "PROTOCOL_ERROR"},
		{"two methods", append([]string{":method", "GET"}, get()...), "PROTOCOL_ERROR"},
		{"an empty path", append(without(":path"), ":path", ""), "PROTOCOL_ERROR"},
		{"absolute path", append(without(":path"), ":path", "http://example.com/"), "PROTOCOL_ERROR"},
		{"star of a GET", append(without(":path"), ":path", "*"), "PROTOCOL_ERROR"},
		{"space in the path", append(without(":path"), ":path", "/a b"), "PROTOCOL_ERROR"},
		{"fragment", append(without(":path"), ":path", "/a#b"), "PROTOCOL_ERROR"},
		{"method with a space", append(without(":method"), ":method", "GET /"), "PROTOCOL_ERROR"},
		{"another scheme", append(without(":scheme"), ":scheme", "ftp"), "PROTOCOL_ERROR"},
		{"pseudo behind others", append(without(":path"), "x", "y", ":path", "/"), "PROTOCOL_ERROR"},
		{"pseudo of a response", get(":status", "200"), "PROTOCOL_ERROR"},
		{"unknown pseudo", append([]string{":own", "x"}, get()...), "PROTOCOL_ERROR"},
		{"protocol", append([]string{":protocol", "websocket"}, get()...), "PROTOCOL_ERROR"},
		{"CONNECT with a path", append(without(":method"), ":method", "CONNECT"), "PROTOCOL_ERROR"},
		{"upper case", get("X", "y"), "PROTOCOL_ERROR"},
		{"no name", get("", "y"), "PROTOCOL_ERROR"},
		{"no token", get("a b", "y"), "PROTOCOL_ERROR"},
		{"line end", get("x", "a\r\nb: c"), "PROTOCOL_ERROR"},
		{"NUL", get("x", "a\x00"), "PROTOCOL_ERROR"},
		{"blank before", get("x", " a"), "PROTOCOL_ERROR"},
		{"blank behind", get("x", "a\t"), "PROTOCOL_ERROR"},
		{"connection", get("connection", "keep-alive"), "PROTOCOL_ERROR"},
		{"keep-alive", get("keep-alive", "x"), "PROTOCOL_ERROR"},
		{"proxy-connection", get("proxy-connection", "x"), "PROTOCOL_ERROR"},
		{"transfer-encoding", get("transfer-encoding", "chunked"), "PROTOCOL_ERROR"},
		{"upgrade", get("upgrade", "websocket"), "PROTOCOL_ERROR"},
		{"te of more", get("te", "trailers, gzip"), "PROTOCOL_ERROR"},
		{"te of a coding", get("te", "gzip"), "PROTOCOL_ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			block := c.fields(tt.pairs...)
			b, err := c.conn.decode(block)
			if err != nil {
				t.Fatal(err)
			}
			r, refused, malformed := b.request(false, false)
			got := ""
			switch {
			case malformed != nil:
				got = malformed.Code.String()
			case refused != nil:
				got = fmt.Sprint(refused.Status)
			default:
				got = show(r)
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func show(r *head.Request) string {
	var fields []string
	for _, f := range r.Fields {
		fields = append(fields, f.Name+"="+f.Value)
		if f.ID != head.IDOf(f.Name) {
			fields = append(fields, "of another ID")
		}
	}
	return fmt.Sprintf("%s %s %s %s %d %v", r.Method, r.Scheme, r.Target, r.Host, r.Length, fields)
}

func TestLengthOfARequestWithoutABody(t *testing.T) {
	for _, tt := range []struct {
		pairs  []string
		length int64
		status int
	}{{get(), 0, 0}, {get("content-length", "0"), 0, 0}, {get("content-length", "1"), 0, 400}} {
		b, _ := newClient(t).conn.decode(newClient(t).fields(tt.pairs...))
		r, refused, _ := b.request(true, false)
		switch {
		case tt.status == 0 && (refused != nil || r.Length != tt.length):
			t.Errorf("%v: %v, %v", tt.pairs, r, refused)
		case tt.status > 0 && (refused == nil || refused.Status != tt.status):
			t.Errorf("%v: %v", tt.pairs, refused)
		}
	}
}

func TestExtendedConnect(t *testing.T) {
	connect := []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/chat", ":authority", "example.com"}
	for _, tt := range []struct {
		pairs []string
		want  string
	}{
		{connect, "websocket /chat"},
		{connect[:6], "PROTOCOL_ERROR"},
		{append([]string{":method", "GET"}, connect[2:]...), "PROTOCOL_ERROR"},
	} {
		c := newClient(t)
		b, _ := c.conn.decode(c.fields(tt.pairs...))
		r, _, malformed := b.request(false, true)
		got := ""
		if malformed != nil {
			got = malformed.Code.String()
		} else {
			got = r.Protocol + " " + r.Target
		}
		if got != tt.want {
			t.Errorf("%v: %s, want %s", tt.pairs, got, tt.want)
		}
	}
}
