package static

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
		rep := newRepresentation(Variant{name: "a.txt"}, int64(len(content)), time.Time{}, time.Now())
		r := &head.Request{Method: http.MethodGet, Fields: head.Fields{{Name: "Range", Value: value, ID: head.Range}}}
		a := rep.Answer(nil, r, time.Now())
		if a.Refusal != "" {
			if a.Status != http.StatusRequestedRangeNotSatisfiable {
				t.Fatalf("%q: %d", value, a.Status)
			}
			return
		}
		body := ""
		for _, part := range a.Parts {
			body += part.Before + content[part.Offset:part.Offset+part.Length]
		}
		if int64(len(body)) != a.Length {
			t.Fatalf("%q: %d bytes, announced are %d", value, len(body), a.Length)
		}
		at := a.Fields.Get(head.ContentRange)
		switch {
		case a.Status == http.StatusOK && body == content:
		case a.Status == http.StatusPartialContent && at == "" && len(a.Parts) > 2:
		default:
			var first, last, size int
			if _, err := fmt.Sscanf(at, "bytes %d-%d/%d", &first, &last, &size); err != nil || first < 0 || first > last || last >= len(content) ||
				size != len(content) || body != content[first:last+1] {
				t.Fatalf("%q: %d, Content-Range %q, %q", value, a.Status, at, body)
			}
		}
	})
}
