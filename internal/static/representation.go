package static

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/head"
)

// Representation is a file as HTTP sees it.
type Representation struct {
	kind     string // its Content-Type
	coding   string // its Content-Encoding, or empty
	tag      string // its ETag, a strong one
	size     int64
	modified time.Time // in whole seconds; zero where it is not known
	date     string    // that as a Last-Modified
}

// newRepresentation describes a file as it is now. A date that is still to come says nothing (RFC 9110, section 8.8.2.1), nor does the one that
// reproducible builds give their files.
func newRepresentation(v Variant, size int64, modified, now time.Time) Representation {
	tag := strconv.AppendInt(append(make([]byte, 0, 48), '"'), modified.UnixNano(), 16)
	tag = strconv.AppendInt(append(tag, '-'), size, 16)
	if v.coding.name != "" {
		tag = append(append(tag, '-'), v.coding.name...)
	}
	rep := Representation{kind: contentType(v.name), coding: v.coding.name, tag: string(append(tag, '"')), size: size}
	if modified.Unix() != 0 && !modified.After(now) {
		rep.modified = modified.UTC().Truncate(time.Second)
		rep.date = rep.modified.Format(http.TimeFormat)
	}
	return rep
}

// Answer is what a request for a file is answered.
type Answer struct {
	Status int
	Fields head.Fields
	Length int64 // of the body
	Parts  []Part
	// Refusal says why the request is refused; it is empty where it is not. Fields are then those that say more.
	Refusal string
}

// Part is a stretch of the file, behind what stands before it.
type Part struct {
	Before         string
	Offset, Length int64
}

// Answer answers a GET or HEAD for the file: its conditions first, in the order of RFC 9110, section 13.2.2, then its range. It does no I/O. Fields are appended
// to those given, but for a refusal.
func (rep *Representation) Answer(fields head.Fields, r *head.Request, now time.Time) Answer {
	switch rep.precondition(r.Fields) {
	case http.StatusNotModified:
		fields.Add(head.ETag, rep.tag)
		return Answer{Status: http.StatusNotModified, Fields: fields}
	case http.StatusPreconditionFailed:
		return Answer{Status: http.StatusPreconditionFailed, Refusal: "the file is not the one that the request is about"}
	}
	ranges, satisfiable := []byteRange(nil), true
	if r.Method == http.MethodGet && r.Fields.Count(head.Range) == 1 && rep.rangeApplies(r.Fields, now) {
		ranges, satisfiable = parseRange(r.Fields.Get(head.Range), rep.size)
	}
	if !satisfiable {
		a := Answer{Status: http.StatusRequestedRangeNotSatisfiable, Refusal: "the file has no such range"}
		a.Fields.Add(head.ContentRange, "bytes */"+strconv.FormatInt(rep.size, 10))
		return a
	}
	if len(ranges) > 1 {
		return rep.multipart(fields, ranges)
	}
	fields.Add(head.ContentType, rep.kind)
	a := Answer{Status: http.StatusOK, Length: rep.size, Fields: rep.describe(fields)}
	if len(ranges) == 1 {
		only := ranges[0]
		a.Status, a.Length = http.StatusPartialContent, only.length
		a.Fields.Add(head.ContentRange, only.of(rep.size))
		a.Parts = []Part{{"", only.first, only.length}}
	} else if rep.size > 0 {
		a.Parts = []Part{{"", 0, rep.size}}
	}
	return a
}

// describe adds what is said of the file beside its type.
func (rep *Representation) describe(fields head.Fields) head.Fields {
	if rep.kind == unknownType {
		fields = append(fields, head.Field{Name: "X-Content-Type-Options", Value: "nosniff"})
	}
	if rep.coding != "" {
		fields.Add(head.ContentEncoding, rep.coding)
	}
	fields.Add(head.ETag, rep.tag)
	if rep.date != "" {
		fields.Add(head.LastModified, rep.date)
	}
	return append(fields, head.Field{Name: "Accept-Ranges", Value: "bytes"})
}

// multipart is the answer of several ranges (RFC 9110, section 14.6).
func (rep *Representation) multipart(fields head.Fields, ranges []byteRange) Answer {
	boundary := rand.Text()
	fields.Add(head.ContentType, "multipart/byteranges; boundary="+boundary)
	a := Answer{Status: http.StatusPartialContent, Fields: rep.describe(fields)}
	for _, part := range ranges {
		before := "\r\n--" + boundary + "\r\nContent-Type: " + rep.kind + "\r\nContent-Range: " + part.of(rep.size) + "\r\n\r\n"
		a.Parts = append(a.Parts, Part{before, part.first, part.length})
		a.Length += int64(len(before)) + part.length
	}
	end := "\r\n--" + boundary + "--\r\n"
	a.Parts = append(a.Parts, Part{Before: end})
	a.Length += int64(len(end))
	return a
}

// precondition returns the status that a request's conditions call for, or 0 (RFC 9110, section 13.2.2).
func (rep *Representation) precondition(f head.Fields) int {
	switch {
	case f.Has(head.IfMatch):
		if !hasTag(f.Joined(head.IfMatch), rep.tag, false) {
			return http.StatusPreconditionFailed
		}
	case f.Has(head.IfUnmodifiedSince):
		if since, ok := rep.parseDate(f.Get(head.IfUnmodifiedSince)); ok && rep.modified.After(since) {
			return http.StatusPreconditionFailed
		}
	}
	switch {
	case f.Has(head.IfNoneMatch):
		if hasTag(f.Joined(head.IfNoneMatch), rep.tag, true) {
			return http.StatusNotModified
		}
	case f.Has(head.IfModifiedSince):
		if since, ok := rep.parseDate(f.Get(head.IfModifiedSince)); ok && !rep.modified.After(since) {
			return http.StatusNotModified
		}
	}
	return 0
}

// rangeApplies evaluates If-Range (RFC 9110, section 13.1.5): by a date only where that says for sure that the file is still the same, as it does of one
// that was changed a second ago.
func (rep *Representation) rangeApplies(f head.Fields, now time.Time) bool {
	condition := f.Get(head.IfRange)
	if !f.Has(head.IfRange) || condition == rep.tag {
		return true
	}
	date, ok := rep.parseDate(condition)
	return ok && date.Equal(rep.modified) && now.Sub(rep.modified) >= 2*time.Second
}

// parseDate parses a date to compare the file's with; it reports false where there is nothing to compare.
func (rep *Representation) parseDate(s string) (time.Time, bool) {
	if rep.modified.IsZero() {
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	return t, err == nil
}

// hasTag reports whether a list of entity tags holds one, or is "*". Weak ones count only for a weak comparison (RFC 9110, sections 8.8.3.2 and 13.1).
func hasTag(list, tag string, weak bool) bool {
	if head.Trim(list) == "*" {
		return true
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		rest, isWeak := strings.CutPrefix(list, "W/")
		if rest == "" || rest[0] != '"' {
			return false
		}
		end := strings.IndexByte(rest[1:], '"') + 2
		if end < 2 {
			return false
		}
		if rest[:end] == tag && (weak || !isWeak) {
			return true
		}
		list = rest[end:]
	}
}
