package proxy

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"wstunnel/internal/head"
)

// FuzzRange: whatever a client asks for, a single part that it is sent lies in the file, and has the length that it is said to have.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{
		"bytes=2-4", "bytes=-3", "bytes=8-", "bytes=10-", "bytes=-0", "bytes=-00,2-4", "bytes=5-2", "BYTES=1-1", "lines=1-2", "bytes=", "bytes",
		"bytes=0-99", "bytes=99999999999999999999-", "bytes=0-18446744073709551615", "bytes=-18446744073709551615", "bytes= 1-2 ,\t3-4", "bytes=--1", "bytes=1-2,5-2", "bytes=- 0,-+0",
	} {
		f.Add(seed)
	}
	const content = "0123456789"
	f.Fuzz(func(t *testing.T, value string) {
		rep := newRepresentation(variant{name: "a.txt"}, int64(len(content)), time.Time{}, time.Now())
		r := &head.Request{Method: http.MethodGet, Fields: head.Fields{{Name: "Range", Value: value, ID: head.Range}}}
		a, refused := answerWithFile(nil, r, &rep, time.Now())
		if refused != nil {
			if refused.status != http.StatusRequestedRangeNotSatisfiable {
				t.Fatalf("%q: %d", value, refused.status)
			}
			return
		}
		body := ""
		for _, part := range a.parts {
			body += part.before + content[part.offset:part.offset+part.length]
		}
		if int64(len(body)) != a.length {
			t.Fatalf("%q: %d bytes, announced are %d", value, len(body), a.length)
		}
		at := a.fields.Get(head.ContentRange)
		switch {
		case a.status == http.StatusOK && body == content:
		case a.status == http.StatusPartialContent && at == "" && len(a.parts) > 2:
		default:
			var first, last, size int
			if _, err := fmt.Sscanf(at, "bytes %d-%d/%d", &first, &last, &size); err != nil || first < 0 || first > last || last >= len(content) ||
				size != len(content) || body != content[first:last+1] {
				t.Fatalf("%q: %d, Content-Range %q, %q", value, a.status, at, body)
			}
		}
	})
}
