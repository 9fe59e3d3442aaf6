package rewrite

import (
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/tags"
)

// headOnly are the fields that no trailer section may bring: who asks, on what condition, and what the content is (RFC 9110, section 6.5.1).
var headOnly = head.SetOf(head.Authorization, head.Cookie, head.SetCookie, head.ContentEncoding, head.ContentType, head.ContentRange, head.Range,
	head.IfMatch, head.IfModifiedSince, head.IfNoneMatch, head.IfRange, head.IfUnmodifiedSince)

// Trailers returns the fields of a trailer section that go on: none that would have meant something in the
// head (RFC 9110, section 6.5.1), and none that the message's Connection lists.
func Trailers(trailers, fields head.Fields) (out head.Fields) {
	listed := ListedIn(fields)
	for i := range trailers {
		f := &trailers[i]
		if !endsHere.Has(f.ID) && !headOnly.Has(f.ID) && !isOwn(f) && !listed.has(f) && head.IsPlain(f.Name) && !tags.IsPrivate(f) {
			out = append(out, *f)
		}
	}
	return out
}

// Announce adds a Trailer field with the names that a message announces, as far as they go on.
func Announce(dst, fields head.Fields) head.Fields {
	if !fields.Has(head.Trailer) {
		return dst
	}
	var trailers head.Fields
	for name := range strings.SplitSeq(fields.Joined(head.Trailer), ",") {
		if name = head.Trim(name); head.IsToken(name) {
			trailers = append(trailers, head.Field{Name: name, ID: head.IDOf(name)})
		}
	}
	var names []string
	for _, f := range Trailers(trailers, fields) {
		names = append(names, f.Name)
	}
	if len(names) > 0 {
		dst.Add(head.Trailer, strings.Join(names, ", "))
	}
	return dst
}
