package static

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/head"
)

// TestConditionsOfARequestForAFile: RFC 9110, sections 13.1 and 13.2.2. The file was changed at noon; it is ten past.
func TestConditionsOfARequestForAFile(t *testing.T) {
	noon := time.Date(2024, 5, 6, 12, 0, 0, 123456789, time.UTC)
	rep := newRepresentation(Variant{name: "a.txt"}, 10, noon, noon.Add(10*time.Minute))
	tag := rep.tag
	const before, at, after = "Mon, 06 May 2024 11:59:59 GMT", "Mon, 06 May 2024 12:00:00 GMT", "Mon, 06 May 2024 12:00:01 GMT"
	tests := []struct {
		fields string
		status int
	}{
		{"", 200},
		{"If-Match: *", 200},
		{"If-Match: " + tag, 200},
		{`If-Match: "x", ` + tag, 200},
		{`If-Match: "x"` + "\n" + "If-Match: " + tag, 200},
		{"If-Match: W/" + tag, 412},
		{`If-Match: "x"`, 412},
		{"If-Match: x", 412},
		{"If-Match:", 412},
		{"If-Match: " + tag + "\nIf-Unmodified-Since: " + before, 200}, // which is not looked at
		{"If-Unmodified-Since: " + before, 412},
		{"If-Unmodified-Since: " + at, 200},
		{"If-Unmodified-Since: " + after, 200},
		{"If-Unmodified-Since: yesterday", 200},
		{"If-None-Match: *", 304},
		{"If-None-Match: " + tag, 304},
		{"If-None-Match: W/" + tag, 304},
		{`If-None-Match: "x" , W/"y",, ` + tag, 304},
		{`If-None-Match: "x"`, 200},
		{`If-None-Match: "` + tag, 200},
		{`If-None-Match: "a*", "*"`, 200},
		{"If-None-Match: \"x\"\nIf-Modified-Since: " + after, 200},
		{"If-Modified-Since: " + before, 200},
		{"If-Modified-Since: " + at, 304},
		{"If-Modified-Since: " + after, 304},
		{"If-Modified-Since: Monday, 06-May-24 12:00:00 GMT", 304},
		{"If-Modified-Since: Mon May  6 12:00:00 2024", 304},
		{"If-Modified-Since: 2024-05-06", 200},
		{"If-Match: \"x\"\nIf-None-Match: " + tag, 412},
		{"If-Match: " + tag + "\nIf-None-Match: " + tag, 304},
		{"Range: bytes=1-2", 206},
		{"Range: bytes=1-2\nIf-None-Match: " + tag, 304},
		{"Range: bytes=1-2\nRange: bytes=3-4", 200},
		{"Range: bytes=1-2\nIf-Range: " + tag, 206},
		{"Range: bytes=1-2\nIf-Range: W/" + tag, 200},
		{"Range: bytes=1-2\nIf-Range: \"x\"", 200},
		{"Range: bytes=1-2\nIf-Range: " + at, 206},
		{"Range: bytes=1-2\nIf-Range: " + before, 200},
		{"Range: bytes=1-2\nIf-Range: " + after, 200},
		{"Range: bytes=99-\nIf-Range: \"x\"", 200},
		{"Range: bytes=99-", 416},
		{"Range: bytes=1-2,4-5", 206},
		{"Range: bytes=4-5,1-2", 206},
		{"Range: bytes=1-2,2-3", 200},
		{"Range: bytes=-5,8-", 200},
		{"Range: bytes=1-2,99-", 206},
		{"Range: bytes=1-2,x", 416},
		{"Range: bytes=" + strings.Repeat("1-1,", 1000), 200},
	}
	for _, tt := range tests {
		r := &head.Request{Method: http.MethodGet}
		for line := range strings.Lines(tt.fields) {
			name, value, _ := strings.Cut(line, ":")
			r.Fields.Add(head.IDOf(name), strings.TrimSpace(value))
		}
		a := rep.Answer(nil, r, noon.Add(10*time.Minute))
		if a.Status != tt.status {
			t.Errorf("%q: %d, want %d", tt.fields, a.Status, tt.status)
		}
		if a.Status == 304 && (len(a.Fields) != 1 || a.Fields.Get(head.ETag) != tag || len(a.Parts) != 0) {
			t.Errorf("%q: %v", tt.fields, a)
		}
	}
}

// TestDateThatMayStillBeAnothersIsNoConditionOfARange: within its second a file can change twice.
func TestDateThatMayStillBeAnothersIsNoConditionOfARange(t *testing.T) {
	changed := time.Date(2024, 5, 6, 12, 0, 0, 900_000_000, time.UTC)
	r := &head.Request{Method: http.MethodGet}
	r.Fields.Add(head.Range, "bytes=1-2")
	r.Fields.Add(head.IfRange, "Mon, 06 May 2024 12:00:00 GMT")
	for wait, want := range map[time.Duration]int{500 * time.Millisecond: 200, 2 * time.Second: 206} {
		rep := newRepresentation(Variant{name: "a.txt"}, 10, changed, changed.Add(wait))
		if a := rep.Answer(nil, r, changed.Add(wait)); a.Status != want {
			t.Errorf("after %s: %d, want %d", wait, a.Status, want)
		}
	}
}

func TestHeadHasNoRange(t *testing.T) {
	rep := newRepresentation(Variant{name: "a.txt"}, 10, time.Time{}, time.Now())
	r := &head.Request{Method: http.MethodHead}
	r.Fields.Add(head.Range, "bytes=1-2")
	if a := rep.Answer(nil, r, time.Now()); a.Status != 200 || a.Length != 10 {
		t.Errorf("got %v", a)
	}
}

func TestFileOfTheFutureOrOfNoTimeHasNoDate(t *testing.T) {
	now := time.Now()
	for _, modified := range []time.Time{now.Add(time.Hour), time.Unix(0, 0)} {
		rep := newRepresentation(Variant{name: "a.txt"}, 10, modified, now)
		r := &head.Request{Method: http.MethodGet}
		r.Fields.Add(head.IfModifiedSince, now.Add(2*time.Hour).UTC().Format(http.TimeFormat))
		if a := rep.Answer(nil, r, now); a.Status != 200 || a.Fields.Has(head.LastModified) || !a.Fields.Has(head.ETag) {
			t.Errorf("%s: %v", modified, a)
		}
	}
}

func TestAcceptedCodings(t *testing.T) {
	for value, want := range map[string]string{
		"":                                  "",
		"gzip":                              "gzip",
		"x-gzip":                            "gzip",
		"GZIP, deflate, br, zstd":           "br zstd gzip",
		"gzip;q=0":                          "",
		"gzip;q=1.0, br;q=0.5":              "gzip br",
		"gzip ; Q=0.8 ,br; q=0.9":           "br gzip",
		"*":                                 "br zstd gzip",
		"*;q=0":                             "",
		"*;q=0.1, gzip;q=0":                 "br zstd",
		"identity":                          "",
		"identity;q=0.5, gzip":              "gzip",
		"identity, gzip;q=0.5":              "",
		"identity;q=0":                      "",
		"br;q=x, gzip;q=2, zstd;r=1, a;q=1": "",
		"deflate":                           "",
	} {
		var names []string
		for _, c := range acceptedCodings(value) {
			names = append(names, c.name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if !slices.Equal(codings, acceptedCodings("*")) {
		t.Error("the codings have changed")
	}
}
