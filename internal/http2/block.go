package http2

import (
	"net/http"
	"strings"

	"golang.org/x/net/http2/hpack"

	"wstunnel/internal/head"
)

// MaxHeaderList bounds a request's fields: their names and values, and 32 bytes for each (RFC 9113, section 6.5.2).
const MaxHeaderList = 64 << 10

// The pseudo-header fields of requests (RFC 9113, section 8.3.1; RFC 8441, section 4).
type pseudo uint8

const (
	pseudoMethod pseudo = iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
	pseudoProtocol
	pseudoCount
)

var pseudoNames = map[string]pseudo{
	":method": pseudoMethod, ":scheme": pseudoScheme, ":path": pseudoPath, ":authority": pseudoAuthority, ":protocol": pseudoProtocol,
}

// block is a header block that is being decoded: what it says, and what is wrong with it.
type block struct {
	pseudo  [pseudoCount]string
	has     [pseudoCount]bool
	fields  head.Fields
	regular bool // a field that is none of the pseudo ones has come
	crumbs  int  // cookie fields
	count   int
	size    int
	large   bool
	bad     *Error // the first thing that makes it malformed
}

// usualFields is how many fields a head has at most, usually.
const usualFields = 24

// bombFactor is how many times what a head may be a block may hold before the connection is cut: one byte of it can be a field of kilobytes.
const bombFactor = 4

var errBomb = failure(EnhanceYourCalm, "HTTP/2 header block of far too many fields or bytes")

// decode decodes a whole header block. It fails where the two ends no longer agree on their tables.
func (c *Conn) decode(p []byte) (b *block, err *Error) {
	b = &block{fields: make(head.Fields, 0, usualFields)}
	c.block = b
	defer func() {
		c.block = nil
		if fault := recover(); fault == errBomb {
			b, err = nil, errBomb // it is the only way to stop the decoder
		} else if fault != nil {
			panic(fault)
		}
	}()
	_, failed := c.hpack.Write(p)
	if failed == nil {
		failed = c.hpack.Close()
	}
	if failed != nil {
		return nil, failure(CompressionError, "header block: %v", failed)
	}
	if b.crumbs > 1 {
		b.joinCrumbs()
	}
	return b, nil
}

// addField takes a field from the decoder.
func (c *Conn) addField(f hpack.HeaderField) { c.block.add(f.Name, f.Value) }

func (b *block) add(name, value string) {
	b.count++
	b.size += len(name) + len(value) + head.FieldCharge
	switch {
	case b.count > bombFactor*head.MaxFields || b.size > bombFactor*MaxHeaderList:
		panic(errBomb)
	case b.count > head.MaxFields || b.size > MaxHeaderList:
		b.large = true
	case b.bad != nil:
	case strings.HasPrefix(name, ":"):
		b.addPseudo(name, value)
	default:
		b.addField(name, value)
	}
}

func (b *block) malformed(format string, args ...any) {
	b.bad = failure(ProtocolError, format, args...)
}

func (b *block) addPseudo(name, value string) {
	which, known := pseudoNames[name]
	switch {
	case !known:
		b.malformed("unknown pseudo-header field %s", head.Quoted(name))
	case b.regular:
		b.malformed("%s behind other fields", name)
	case b.has[which]:
		b.malformed("two %s", name)
	default:
		b.pseudo[which], b.has[which] = value, true
	}
}

// connectionFields are those of HTTP/1.1 that say something of the connection (RFC 9113, section 8.2.2).
var connectionFields = head.SetOf(head.Connection, head.KeepAlive, head.ProxyConnection, head.TransferEncoding, head.Upgrade)

func (b *block) addField(name, value string) {
	b.regular = true
	id := head.IDOf(name)
	switch c, bad := head.BadValueByte(value); {
	case !isLowerToken(name):
		b.malformed("field name %s is no token in lower case", head.Quoted(name))
	case bad:
		b.malformed("byte 0x%02x in the value of field %s", c, head.Quoted(name))
	case len(head.Trim(value)) != len(value):
		b.malformed("blanks around the value of field %s", head.Quoted(name))
	case connectionFields.Has(id):
		b.malformed("field %s, which says something of a connection", name)
	case id == head.TE && value != "trailers":
		b.malformed("te %s is more than trailers", head.Quoted(value))
	default:
		if id == head.Cookie {
			b.crumbs++
		}
		b.fields = append(b.fields, head.Field{Name: canonicalName(name, id), Value: value, ID: id})
	}
}

func isLowerToken(name string) bool {
	for i := range len(name) {
		if c := name[i]; !head.IsTokenByte(c) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return name != ""
}

// joinCrumbs makes one cookie field of those that a client has split for the sake of compression (RFC 9113, section 8.2.3).
func (b *block) joinCrumbs() {
	crumbs := make([]string, 0, b.crumbs)
	kept, first := b.fields[:0], -1
	for _, f := range b.fields {
		if f.ID != head.Cookie {
			kept = append(kept, f)
			continue
		}
		if crumbs = append(crumbs, f.Value); first < 0 {
			first = len(kept)
			kept = append(kept, f)
		}
	}
	kept[first].Value = strings.Join(crumbs, "; ")
	b.fields = kept
}

// canonicalName spells a name as HTTP/1.1 does: hand-written servers compare names byte by byte.
func canonicalName(name string, id head.ID) string {
	if id != head.Other {
		return id.String()
	}
	if spelt, ok := usualNames[name]; ok {
		return spelt
	}
	return spell(name)
}

// spell puts the first letter, and each behind a hyphen, in upper case.
func spell(name string) string {
	spelt := []byte(name)
	for i, c := range spelt {
		if 'a' <= c && c <= 'z' && (i == 0 || spelt[i-1] == '-') {
			spelt[i] -= 'a' - 'A'
		}
	}
	return string(spelt)
}

// usualNames are the spellings of names that browsers send.
var usualNames = func() map[string]string {
	names := map[string]string{}
	for _, name := range []string{
		"accept", "accept-language", "access-control-request-headers", "access-control-request-method", "dnt", "downlink", "ect", "from", "pragma",
		"priority", "purpose", "referer", "rtt", "save-data", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform", "sec-fetch-dest",
		"sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-gpc", "sec-purpose", "upgrade-insecure-requests", "user-agent", "via",
		"x-csrf-token", "x-requested-with",
	} {
		names[name] = spell(name)
	}
	return names
}()

// tooLarge refuses a request whose fields are too many or too long.
var tooLarge = &head.Error{
	Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "request head of more than 1000 fields, or of more than 65536 bytes with 32 added for each",
}
