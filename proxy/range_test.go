package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
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
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Range"] = []string{rangeFor(value, int64(len(content)))}
		w := httptest.NewRecorder()
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(content))
		at := w.Header().Get("Content-Range")
		switch {
		case w.Code == http.StatusOK && w.Body.String() == content:
		case w.Code == http.StatusRequestedRangeNotSatisfiable:
		case w.Code == http.StatusPartialContent && at == "": // several parts
		default:
			var first, last, size int
			if _, err := fmt.Sscanf(at, "bytes %d-%d/%d", &first, &last, &size); err != nil || first < 0 || first > last || last >= len(content) ||
				size != len(content) || w.Body.String() != content[first:last+1] {
				t.Fatalf("%q: %d, Content-Range %q, %q", value, w.Code, at, w.Body)
			}
		}
	})
}
