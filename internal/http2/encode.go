package http2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"wstunnel/internal/head"
)

// Limits on an encoder's table. It is small, so that an idle connection costs little.
const (
	maxEntries    = 12
	maxTableSize  = 1024
	maxEntryValue = 96 // bytes
	staticEntries = 61 // RFC 7541, appendix A
)

// encoder writes header blocks (RFC 7541). Its table takes what is likely to come again and is never evicted from: a name has the first value
// that it came with.
type encoder struct {
	block   []byte // being made, behind the frames before it
	entries []entry
	size    int
	shut    bool // the client's table is smaller than ours
	told    bool // and knows that it is not used
}

type entry struct{ name, value string }

// begin begins a block behind dst.
func (e *encoder) begin(dst []byte) {
	e.block = dst
	if e.shut && !e.told {
		e.told = true
		e.block = append(e.block, 0x20) // the table's size is 0 from here on
	}
}

// limit takes the size that the client gives the table.
func (e *encoder) limit(size uint32) {
	if size < maxTableSize && !e.shut {
		e.shut, e.entries, e.size = true, nil, 0
	}
}

// once are the fields whose values seldom come again.
var once = head.SetOf(head.ContentLength, head.ContentRange, head.Date, head.ETag, head.LastModified, head.Location, head.SetCookie, head.Authorization,
	head.ContentLocation, head.Refresh)

// field writes a field.
func (e *encoder) field(f *head.Field) {
	var space [64]byte
	name := appendLower(space[:0], f.Name)
	static := staticNames[string(name)]
	if f.ID == head.SetCookie || f.ID == head.Authorization {
		e.literal(0x10, 4, static, name, f.Value) // never to be indexed, by nobody
		return
	}
	known := 0
	for i := range e.entries {
		if e.entries[i].name == string(name) {
			known = staticEntries + len(e.entries) - i
			if e.entries[i].value == f.Value {
				e.block = appendInt(e.block, 0x80, 7, uint64(known))
				return
			}
			break
		}
	}
	if known == 0 && e.remember(name, f) {
		e.literal(0x40, 6, static, name, f.Value)
		return
	}
	if static == 0 {
		static = known
	}
	e.literal(0, 4, static, name, f.Value)
}

// remember puts a field into the table, if it is worth it and there is room.
func (e *encoder) remember(name []byte, f *head.Field) bool {
	size := len(name) + len(f.Value) + head.FieldCharge
	if e.shut || once.Has(f.ID) || len(f.Value) > maxEntryValue || len(e.entries) == maxEntries || e.size+size > maxTableSize {
		return false
	}
	e.size += size
	e.entries = append(e.entries, entry{string(name), strings.Clone(f.Value)})
	return true
}

// literal writes a field whose value, and perhaps name, is in no table.
func (e *encoder) literal(pattern byte, prefix uint8, index int, name []byte, value string) {
	e.block = appendInt(e.block, pattern, prefix, uint64(index))
	if index == 0 {
		e.block = appendString(e.block, string(name))
	}
	e.block = appendString(e.block, value)
}

// Indices of the static table (RFC 7541, appendix A).
const (
	staticStatus200     = 8
	staticContentLength = 28
	staticDate          = 33
)

var staticStatus = map[int]int{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}

func (e *encoder) status(status int) {
	if index := staticStatus[status]; index > 0 {
		e.block = append(e.block, 0x80|byte(index))
		return
	}
	e.block = append(e.block, staticStatus200, 3)
	e.block = strconv.AppendInt(e.block, int64(status), 10)
}

func (e *encoder) length(n int64) {
	var space [20]byte
	digits := strconv.AppendInt(space[:0], n, 10)
	e.block = appendInt(e.block, 0, 4, staticContentLength)
	e.block = append(append(e.block, byte(len(digits))), digits...)
}

func (e *encoder) date(date string) {
	e.block = appendInt(e.block, 0, 4, staticDate)
	e.block = appendString(e.block, date)
}

// appendInt writes an integer behind a pattern (RFC 7541, section 5.1).
func appendInt(dst []byte, pattern byte, prefix uint8, n uint64) []byte {
	most := uint64(1)<<prefix - 1
	if n < most {
		return append(dst, pattern|byte(n))
	}
	dst = append(dst, pattern|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendString writes a string in whichever form is shorter (RFC 7541, section 5.2).
func appendString(dst []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInt(dst, 0x80, 7, n), s)
	}
	return append(appendInt(dst, 0, 7, uint64(len(s))), s...)
}

func appendLower(dst []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// staticNames are the names of the static table that answers have.
var staticNames = map[string]int{
	"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19, "access-control-allow-origin": 20,
	"age": 21, "allow": 22, "authorization": 23, "cache-control": 24, "content-disposition": 25, "content-encoding": 26,
	"content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31, "cookie": 32,
	"date": 33, "etag": 34, "expect": 35, "expires": 36, "from": 37, "host": 38, "if-match": 39, "if-modified-since": 40,
	"if-none-match": 41, "if-range": 42, "if-unmodified-since": 43, "last-modified": 44, "link": 45, "location": 46,
	"max-forwards": 47, "proxy-authenticate": 48, "proxy-authorization": 49, "range": 50, "referer": 51, "refresh": 52,
	"retry-after": 53, "server": 54, "set-cookie": 55, "strict-transport-security": 56, "transfer-encoding": 57, "user-agent": 58,
	"vary": 59, "via": 60, "www-authenticate": 61,
}
