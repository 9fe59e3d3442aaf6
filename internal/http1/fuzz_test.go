package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"wstunnel/internal/head"
)

// stricter are the reasons for which requests are refused here that net/http takes.
var stricter = []string{
	"Host ", "no Host header", "the host of the request target", "request target", "byte 0x", "CRLF", "folded header line", "header name", "Content-Length", "Transfer-Encoding",
	"transfer coding", "HTTP version", "malformed HTTP version", "an upgrade request with a body", "names in Connection", "header fields", "malformed body", "method", "expectation",
	"bare CR before", "request line", "user name", "header line without a colon", "a TLS handshake",
}

// laxer tells why net/http refuses a request that is taken here.
func laxer(r *http.Request, mine *head.Request, err error) bool {
	text := err.Error()
	return strings.Contains(text, "invalid URL escape") || strings.Contains(text, "parse ") || // paths are normalised, and refused, later
		strings.Contains(text, "malformed HTTP version") || strings.Contains(text, "invalid method") ||
		strings.Contains(text, "bad trailer key") || strings.Contains(text, "Trailer") // Trailer is never relied on
}

// FuzzRequest holds the decoder against net/http, in both directions, and against itself in pieces.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nHEAD http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
		"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add(seed, byte(3))
	}
	f.Fuzz(func(t *testing.T, stream string, piece byte) {
		whole, errWhole := told(stream, len(stream)+1)
		pieces, errPieces := told(stream, int(piece)+1)
		if (errWhole == nil) != (errPieces == nil) || strings.Join(whole, "|") != strings.Join(pieces, "|") {
			t.Fatalf("%q: %q, %v; in pieces of %d: %q, %v", stream, whole, errWhole, int(piece)+1, pieces, errPieces)
		}
		var d RequestDecoder
		n, event, err := d.Next([]byte(stream))
		theirs, theirErr := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.TrimPrefix(stream, "\r\n"))))
		switch {
		case err == nil && event != Head:
			return
		case err != nil && theirErr == nil:
			var bad *head.Error
			if !errors.As(err, &bad) || !oneOf(bad.Reason, stricter) {
				t.Fatalf("%q: refused for %v, but net/http takes it", stream, err)
			}
		case err == nil && theirErr != nil:
			if !laxer(theirs, d.Request, theirErr) {
				t.Fatalf("%q: taken, but net/http says %v", stream, theirErr)
			}
		case err == nil:
			compare(t, &d, stream[n:], theirs)
		}
	})
}

func oneOf(reason string, reasons []string) bool {
	for _, r := range reasons {
		if strings.Contains(reason, r) {
			return true
		}
	}
	return false
}

func compare(t *testing.T, d *RequestDecoder, rest string, theirs *http.Request) {
	mine := d.Request
	if mine.Method != theirs.Method || mine.Target != theirs.RequestURI || mine.Minor != theirs.ProtoMinor {
		t.Fatalf("%s %s 1.%d; net/http has %s %s %s", mine.Method, mine.Target, mine.Minor, theirs.Method, theirs.RequestURI, theirs.Proto)
	}
	if mine.Protocol != "" {
		return
	}
	if mine.Length != theirs.ContentLength && mine.Method != http.MethodConnect {
		t.Fatalf("length %d; net/http has %d", mine.Length, theirs.ContentLength)
	}
	var body []byte
	p := []byte(rest)
	for {
		n, event, err := d.Next(p)
		p = p[n:]
		if err != nil || event == More {
			return
		}
		if event == End {
			break
		}
		body = append(body, d.Data...)
	}
	theirBody, err := io.ReadAll(theirs.Body)
	if err == nil && string(theirBody) != string(body) {
		t.Fatalf("body %q; net/http has %q", body, theirBody)
	}
}

// FuzzResponse holds what a backend may send against net/http, and against itself in pieces.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200\nX: a\n b\n\nuntil the end",
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
		"HTTP/1.1 099 \r\n\r\n", "\r\n\r\n", "foo\r\n", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
	} {
		f.Add(seed, byte(3), false)
	}
	f.Fuzz(func(t *testing.T, stream string, piece byte, toHead bool) {
		method := http.MethodGet
		if toHead {
			method = http.MethodHead
		}
		whole, errWhole := toldOfResponse(stream, method, len(stream)+1)
		pieces, errPieces := toldOfResponse(stream, method, int(piece)+1)
		if (errWhole == nil) != (errPieces == nil) || whole.String() != pieces.String() {
			t.Fatalf("%q: %+v, %v; in pieces of %d: %+v, %v", stream, whole, errWhole, int(piece)+1, pieces, errPieces)
		}
		if !whole.ended {
			return
		}
		br := bufio.NewReader(strings.NewReader(stream))
		var theirs *http.Response
		for {
			var err error
			if theirs, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
				return // net/http is stricter in places; what is taken here can be read in one way
			}
			if theirs.StatusCode >= 200 || theirs.StatusCode == http.StatusSwitchingProtocols {
				break
			}
		}
		body, err := io.ReadAll(theirs.Body)
		if theirs.StatusCode != whole.status || err == nil && theirs.StatusCode != http.StatusSwitchingProtocols && string(body) != whole.body {
			t.Fatalf("%q: %d %q; net/http has %d %q", stream, whole.status, whole.body, theirs.StatusCode, body)
		}
	})
}

type responseTold struct {
	status int
	fields head.Fields
	body   string
	ended  bool
}

func (r *responseTold) String() string {
	text := r.body
	for _, f := range r.fields {
		text += "|" + f.Name + "=" + f.Value
	}
	return text
}

func toldOfResponse(stream, method string, piece int) (*responseTold, error) {
	var d ResponseDecoder
	d.Expect(method)
	r := &responseTold{}
	feed := func(p []byte) error {
		for {
			n, event, err := d.Next(p)
			p = p[n:]
			switch {
			case err != nil:
				return err
			case event == Head:
				r.status, r.fields = d.Response.Status, d.Response.Fields
			case event == Data:
				r.body += string(d.Data)
			case event == End:
				r.ended = true
				return nil
			default:
				return nil
			}
		}
	}
	for len(stream) > 0 && !r.ended {
		p := stream[:min(piece, len(stream))]
		stream = stream[len(p):]
		if err := feed([]byte(p)); err != nil {
			return r, err
		}
	}
	if r.ended {
		return r, nil
	}
	if err := d.EOF(); err != nil {
		return r, err
	}
	return r, feed(nil)
}
