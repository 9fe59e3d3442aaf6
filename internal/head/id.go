package head

import "strings"

// ID is a field name that the front end has something to do with; 0 for any other.
type ID uint8

// The names. Their order is that of the table below.
const (
	Other ID = iota
	Accept
	AcceptEncoding
	AltSvc
	Authorization
	CacheControl
	CDNLoop
	Connection
	ContentEncoding
	ContentLength
	ContentLocation
	ContentRange
	ContentType
	Cookie
	Date
	ETag
	Expect
	Forwarded
	Host
	HTTP2Settings
	IfMatch
	IfModifiedSince
	IfNoneMatch
	IfRange
	IfUnmodifiedSince
	KeepAlive
	LastModified
	Location
	Origin
	Proxy
	ProxyConnection
	Range
	Refresh
	RetryAfter
	SecWebSocketAccept
	SecWebSocketExtensions
	SecWebSocketKey
	SecWebSocketProtocol
	SecWebSocketVersion
	SetCookie
	StrictTransportSecurity
	TE
	Trailer
	TransferEncoding
	Upgrade
	Vary
	XClientSubject
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XOriginalURL
	XRealIP
	XRewriteURL
	idCount
)

// spellings are the names as this front end writes them; those of WebSocket as RFC 6455 does, since hand-written servers compare them
// byte by byte.
var spellings = [idCount]string{
	"",
	"Accept", "Accept-Encoding", "Alt-Svc", "Authorization", "Cache-Control", "CDN-Loop", "Connection", "Content-Encoding", "Content-Length",
	"Content-Location", "Content-Range", "Content-Type", "Cookie", "Date", "ETag", "Expect", "Forwarded", "Host", "HTTP2-Settings",
	"If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive", "Last-Modified", "Location",
	"Origin", "Proxy", "Proxy-Connection", "Range", "Refresh", "Retry-After", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions",
	"Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Set-Cookie", "Strict-Transport-Security", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade", "Vary", "X-Client-Subject", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port",
	"X-Forwarded-Proto", "X-Original-URL", "X-Real-IP", "X-Rewrite-URL",
}

// Known is how many IDs there are, [Other] included.
const Known = idCount

func (id ID) String() string { return spellings[id] }

// buckets are the IDs by a hash of their names' length and ends; few share one.
var buckets = func() (table [256][]ID) {
	for id := ID(1); id < idCount; id++ {
		h := bucketOf(spellings[id])
		table[h] = append(table[h], id)
	}
	return table
}()

func bucketOf(name string) byte {
	return byte(len(name))*31 + (name[0]|0x20)*7 + (name[len(name)-1] | 0x20) + (name[len(name)/2]|0x20)*13
}

// IDOf returns the ID of a name in any spelling.
func IDOf(name string) ID {
	if name == "" {
		return Other
	}
	for _, id := range buckets[bucketOf(name)] {
		if len(spellings[id]) == len(name) && strings.EqualFold(spellings[id], name) {
			return id
		}
	}
	return Other
}

// IDs is a set of names.
type IDs uint64

// SetOf returns the set of some names.
func SetOf(ids ...ID) (set IDs) {
	for _, id := range ids {
		set |= 1 << id
	}
	return set
}

// Has reports whether a name is in the set. [Other] never is.
func (s IDs) Has(id ID) bool { return id != Other && s&(1<<id) != 0 }
