package fastcgi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"testing"

	"wstunnel/internal/head"
)

// record makes a record of the one request.
func record(kind byte, content string, padding int) string {
	header := appendHeader(nil, kind, len(content))
	header[6] = byte(padding)
	return string(header) + content + strings.Repeat("p", padding)
}

const endOK = "\x00\x00\x00\x00\x00\x00\x00\x00"

// told is what a decoder tells of an answer.
type told struct {
	status       int
	length       int64
	fields, body string
	stderr       string
	ended        bool
	rest         int
}

func decode(stream, method string, piece int) (*told, error) {
	var d Decoder
	d.Expect(method)
	got := &told{length: -2}
	for len(stream) > 0 && !got.ended {
		p := []byte(stream[:min(piece, len(stream))])
		stream = stream[len(p):]
		for {
			n, event, err := d.Next(p)
			p = p[n:]
			if err != nil {
				return got, err
			}
			switch event {
			case Head:
				got.status, got.length = d.Response.Status, d.Response.Length
				for _, f := range d.Response.Fields {
					got.fields += f.Name + ": " + f.Value + "\n"
				}
			case Data:
				got.body += string(d.Data)
			case Stderr:
				got.stderr += string(d.Data)
			case End:
				got.ended = true
			}
			if event == More || event == End {
				break
			}
		}
		got.rest = len(p)
	}
	got.rest += len(stream)
	if !got.ended {
		return got, d.EOF()
	}
	return got, nil
}

func TestAnswers(t *testing.T) {
	out := func(text string) string { return record(typeStdout, text, 0) }
	end := record(typeEnd, endOK, 0)
	tests := []struct {
		name, method, stream string
		want                 told
		err                  string
	}{
		{"a page", "GET", out("Content-Type: text/html\r\n\r\npage") + out("") + end, told{status: 200, length: -1, fields: "Content-Type: text/html\n", body: "page", ended: true}, ""},
		{"a status", "GET", out("Status: 404 Not Found\r\nX: y\r\n\r\n") + end, told{status: 404, length: -1, fields: "X: y\n", ended: true}, ""},
		{"a bare status", "GET", out("status:418\nX: y\n\n") + end, told{status: 418, length: -1, fields: "X: y\n", ended: true}, ""},
		{"a redirect", "GET", out("Location: /x\n\n") + end, told{status: 302, length: -1, fields: "Location: /x\n", ended: true}, ""},
		{"a status and a place", "GET", out("Location: /x\nStatus: 201\n\n") + end, told{status: 201, length: -1, fields: "Location: /x\n", ended: true}, ""},
		{
			"in records with padding", "GET", record(typeStdout, "X: y\r\n\r", 3) + record(typeStdout, "\nbo", 255) + record(typeStdout, "dy", 1) + record(typeEnd, endOK, 8) + "more",
			told{status: 200, length: -1, fields: "X: y\n", body: "body", ended: true, rest: 4},
			"",
		},
		{
			"complaints before and within the head", "GET", record(typeStderr, "before", 2) + out("X: ") + record(typeStderr, " within", 0) + out("y\n\nbody") + record(typeStderr, " behind", 0) + end,
			told{status: 200, length: -1, fields: "X: y\n", body: "body", stderr: "before within behind", ended: true},
			"",
		},
		{"a length", "GET", out("Content-Length: 3\n\nabcdef") + end, told{status: 200, length: 3, fields: "Content-Length: 3\n", body: "abc", ended: true}, ""},
		{"too little for a length", "GET", out("Content-Length: 9\n\nabcdef") + end, told{}, "unexpected EOF"},
		{"to a HEAD", "HEAD", out("Content-Length: 9\n\nabcdef") + end, told{status: 200, fields: "Content-Length: 9\n", ended: true}, ""},
		{"nothing to have", "GET", out("Status: 304\n\nabcdef") + end, told{status: 304, ended: true}, ""},
		{"records of others", "GET", "\x01\x06\x00\x02\x00\x01\x00\x00x" + record(11, "what?", 1) + out("X: y\n\nbody") + end, told{status: 200, length: -1, fields: "X: y\n", body: "body", ended: true}, ""},
		{"HTTP", "GET", "HTTP/1.1 400 Bad Request\r\n\r\n", told{}, "no record of FastCGI"},
		{"nothing", "GET", "", told{}, "EOF"},
		{"no head", "GET", out("") + end, told{}, "after 0 bytes of the head"},
		{"an end in the head", "GET", out("X: y\n") + end, told{}, "after 5 bytes of the head"},
		{"the end of the stream in the body", "GET", out("X: y\n\nbody"), told{}, "unexpected EOF"},
		{"an overloaded application", "GET", record(typeEnd, "\x00\x00\x00\x00\x02\x00\x00\x00", 0), told{}, "overloaded"},
		{"a short end", "GET", record(typeEnd, "\x00", 0), told{}, "in 1 bytes"},
		{"two lengths", "GET", out("Content-Length: 3\nContent-Length: 3\n\nabc") + end, told{}, "2 Content-Length"},
		{"a bad length", "GET", out("Content-Length: +3\n\nabc") + end, told{}, "Content-Length"},
		{"two statuses", "GET", out("Status: 200\nStatus: 404\n\n") + end, told{}, "several Status"},
		{"a status of its own", "GET", out("Status: 99\n\n") + end, told{}, "Status"},
		{"an informational status", "GET", out("Status: 100 Continue\n\n") + end, told{}, "Status"},
		{"an empty head", "GET", out("\r\n\r\nbody") + end, told{}, "without a header"},
		{"a status line", "GET", out("HTTP/1.1 200 OK\r\nX: y\r\n\r\n") + end, told{}, "header name"},
		{"a long head", "GET", strings.Repeat(out("X: "+strings.Repeat("y", 60000)+"\n"), 3), told{}, "above"},
	}
	for _, tt := range tests {
		for _, piece := range []int{1 << 20, 1, 7} {
			got, err := decode(tt.stream, tt.method, piece)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s in pieces of %d: %v, want %s", tt.name, piece, err, tt.err)
				}
				continue
			}
			if err != nil || *got != tt.want {
				t.Errorf("%s in pieces of %d:\n got %+v, %v\nwant %+v", tt.name, piece, *got, err, tt.want)
			}
		}
	}
}

// TestRequestsAreThoseOfNetHTTP has Go's own responder read what is written, and reads its answer.
func TestRequestsAreThoseOfNetHTTP(t *testing.T) {
	ours, theirs := net.Pipe()
	served := make(chan string, 1)
	go fcgi.Serve(&onePipe{conn: theirs}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		served <- r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("X-Long") + " " + string(body)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(201)
		w.Write(bytes.Repeat([]byte("b"), 100000))
	}))
	long, body := strings.Repeat("x", 200000), strings.Repeat("y", 70000)
	r := &head.Request{Method: "POST", Close: true, Fields: head.Fields{
		{Name: "REQUEST_METHOD", Value: "POST"},
		{Name: "REQUEST_URI", Value: "/a?b"},
		{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"},
		{Name: "CONTENT_LENGTH", Value: "70000"},
		{Name: "HTTP_X_LONG", Value: long},
		{Name: strings.Repeat("N", 300), Value: ""},
	}}
	go ours.Write(AppendEnd(AppendBody(AppendRequest(nil, r), []byte(body))))
	var answer []byte
	for p := make([]byte, 1000); ; {
		n, err := ours.Read(p)
		answer = append(answer, p[:n]...)
		if err != nil {
			break
		}
	}
	if got := <-served; got != "POST /a?b "+long+" "+body {
		t.Errorf("the application has got %d bytes: %.40q", len(got), got)
	}
	got, err := decode(string(answer), "POST", 999)
	if err != nil || got.status != 201 || !strings.Contains(got.fields, "X-Answer: yes") || len(got.body) != 100000 {
		t.Errorf("%d, %d bytes, %v", got.status, len(got.body), err)
	}
}

// onePipe is a listener that accepts once.
type onePipe struct {
	conn net.Conn
	done bool
}

func (l *onePipe) Accept() (net.Conn, error) {
	if l.done {
		return nil, net.ErrClosed
	}
	l.done = true
	return l.conn, nil
}
func (l *onePipe) Close() error   { return nil }
func (l *onePipe) Addr() net.Addr { return l.conn.LocalAddr() }

// TestRequestIsOneRecordOfParameters: small ones are written in place.
func TestRequestIsOneRecordOfParameters(t *testing.T) {
	r := &head.Request{Fields: head.Fields{{Name: "A", Value: "b"}}}
	want := "\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00" + "\x01\x04\x00\x01\x00\x04\x00\x00\x01\x01Ab" + "\x01\x04\x00\x01\x00\x00\x00\x00"
	if got := AppendRequest([]byte("x"), r); string(got) != "x"+want {
		t.Errorf("%q", got)
	}
	dst := make([]byte, 0, 1<<10)
	if n := testing.AllocsPerRun(100, func() { dst = AppendRequest(dst[:0], r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAnswer holds the decoder against itself in pieces, and its memory to the longest head.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		record(typeStdout, "Content-Type: a\r\n\r\nbody", 3) + record(typeEnd, endOK, 0),
		record(typeStderr, "e", 0) + record(typeStdout, "Status: 302\nLocation: /\n", 0) + record(typeStdout, "\nb", 9) + record(typeEnd, endOK, 1),
		record(typeStdout, "Content-Length: 1\n\nab", 0) + record(typeEnd, endOK, 0), "HTTP/1.1 200 OK\r\n\r\n", "\x01\x03\x00\x01\x00\x00\x00\x00",
	} {
		f.Add(seed, byte(3), false)
	}
	f.Fuzz(func(t *testing.T, stream string, piece byte, toHead bool) {
		method := http.MethodGet
		if toHead {
			method = http.MethodHead
		}
		whole, errWhole := decode(stream, method, len(stream)+1)
		pieces, errPieces := decode(stream, method, int(piece)+1)
		if (errWhole == nil) != (errPieces == nil) || *whole != *pieces && errWhole == nil {
			t.Fatalf("%q: %+v, %v; in pieces of %d: %+v, %v", stream, whole, errWhole, int(piece)+1, pieces, errPieces)
		}
		if whole.ended && (whole.status < 200 || whole.status > 999 || toHead && whole.body != "" || whole.length > 0 && whole.length != int64(len(whole.body))) {
			t.Fatalf("%q: %+v", stream, whole)
		}
		if errWhole != nil && errors.Is(errWhole, io.EOF) && len(stream) > 0 {
			t.Fatalf("%q: nothing has come", stream)
		}
	})
}

// FuzzHead holds what is taken for a head against its fields' syntax.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{"Status: 404\r\nX: y\r\n\r\n", "Location: /\n\n", "Content-Length: 3\n\nabc", "X: a\n b\n\n", "\n\n", "Status: +20\n\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var stream []byte
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1000)
			stream = append(stream, record(typeStdout, rest[:n], 0)...)
			rest = rest[n:]
		}
		got, err := decode(string(stream)+record(typeEnd, endOK, 0), "GET", 1<<20)
		if err != nil {
			return
		}
		if got.status < 200 || strings.ContainsAny(got.fields, "\r\x00") || strings.Contains(got.fields, "Status:") {
			t.Fatalf("%q: %+v", text, got)
		}
	})
}

// FuzzRequest takes apart what is written as the specification says.
func FuzzRequest(f *testing.F) {
	f.Add("A", "b", uint32(3), []byte("body"))
	f.Add("", strings.Repeat("x", 128), uint32(70000), []byte{})
	f.Fuzz(func(t *testing.T, name, value string, times uint32, body []byte) {
		value = strings.Repeat(value, 1+int(times%1000))
		r := &head.Request{Fields: head.Fields{{Name: name, Value: value}, {Name: "Z", Value: name}}}
		stream := AppendEnd(AppendBody(AppendRequest(nil, r), body))
		var params, stdin []byte
		for len(stream) > 0 {
			n := int(binary.BigEndian.Uint16(stream[4:]))
			content := stream[headerSize : headerSize+n]
			switch stream[1] {
			case typeParams:
				params = append(params, content...)
			case typeStdin:
				stdin = append(stdin, content...)
			}
			stream = stream[headerSize+n:]
		}
		var got []string
		for len(params) > 0 {
			var lengths [2]int
			for i := range lengths {
				if params[0] < 0x80 {
					lengths[i], params = int(params[0]), params[1:]
				} else {
					lengths[i], params = int(binary.BigEndian.Uint32(params)&^(1<<31)), params[4:]
				}
			}
			got = append(got, string(params[:lengths[0]]), string(params[lengths[0]:lengths[0]+lengths[1]]))
			params = params[lengths[0]+lengths[1]:]
		}
		if len(got) != 4 || got[0] != name || got[1] != value || got[2] != "Z" || got[3] != name || !bytes.Equal(stdin, body) {
			t.Fatalf("%d parameters, %d bytes of body", len(got)/2, len(stdin))
		}
	})
}
