package logs

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// Request is what is told of a request. Empty strings are left out.
type Request struct {
	Message  string // what happened; "request" as a rule
	At       time.Time
	Client   netip.Addr
	Method   string
	Host     string
	Path     string // decoded
	Proto    string
	TLS      bool
	Status   int
	Bytes    int64 // of the answer's body
	BrokeOff bool  // the answer is not whole, through no fault of the client's
	Duration time.Duration
	Site     string
	Location string // as its path is written in the configuration
	Backend  string
	ID       string // that a page or a header has told, so that it can be looked for; empty where none has
	Error    string

	// For the format Combined only.
	Target    string // the path as it came, without the query: tokens and passwords travel there
	Referer   string // without its query
	UserAgent string
}

func (r *Request) level() slog.Level {
	own := r.Backend == "" && (r.Status == http.StatusNotImplemented || r.Status == http.StatusHTTPVersionNotSupported) // what a client asked for
	if r.Status >= 500 && !own || r.BrokeOff {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (r *Request) client() string {
	if !r.Client.IsValid() {
		return ""
	}
	return r.Client.String()
}

func (r *Request) appendJSON(p []byte) []byte {
	p = append(p, `{"time":"`...)
	p = r.At.AppendFormat(p, time.RFC3339Nano)
	p = append(p, `","level":"`...)
	p = append(p, r.level().String()...)
	p = append(p, `","msg":`...)
	p = appendQuoted(p, r.Message)
	p = r.appendPairs(p, func(p []byte, key string) []byte {
		p = append(p, ',', '"')
		p = append(p, key...)
		return append(p, '"', ':')
	}, appendQuoted)
	return append(p, '}', '\n')
}

func (r *Request) appendText(p []byte) []byte {
	p = append(p, "time="...)
	p = r.At.AppendFormat(p, "2006-01-02T15:04:05.000Z07:00")
	p = append(p, " level="...)
	p = append(p, r.level().String()...)
	p = append(p, " msg="...)
	p = appendWord(p, r.Message)
	p = r.appendPairs(p, func(p []byte, key string) []byte {
		p = append(p, ' ')
		p = append(p, key...)
		return append(p, '=')
	}, appendWord)
	return append(p, '\n')
}

// appendPairs writes what both formats tell, in the same order.
func (r *Request) appendPairs(p []byte, key func([]byte, string) []byte, text func([]byte, string) []byte) []byte {
	pair := func(name, value string) {
		if value != "" {
			p = text(key(p, name), clip(value, maxLength))
		}
	}
	pair("client", r.client())
	pair("method", r.Method)
	pair("host", r.Host)
	pair("path", r.Path)
	pair("proto", r.Proto)
	p = strconv.AppendBool(key(p, "tls"), r.TLS)
	p = strconv.AppendInt(key(p, "status"), int64(r.Status), 10)
	p = strconv.AppendInt(key(p, "bytes"), r.Bytes, 10)
	p = appendMilliseconds(key(p, "duration_ms"), r.Duration)
	pair("site", r.Site)
	pair("location", r.Location)
	pair("backend", r.Backend)
	pair("id", r.ID)
	pair("error", r.Error)
	return p
}

// appendMilliseconds writes a duration as a number that needs no unit to be parsed, with three places.
func appendMilliseconds(p []byte, d time.Duration) []byte {
	us := max(0, d.Microseconds())
	p = strconv.AppendInt(p, us/1000, 10)
	return append(p, '.', byte('0'+us/100%10), byte('0'+us/10%10), byte('0'+us%10))
}

// appendQuoted writes s as JSON.
func appendQuoted(p []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // of a string it can't fail
			return append(p, quoted...)
		}
	}
	p = append(p, '"')
	p = append(p, s...)
	return append(p, '"')
}

// appendWord writes s, in quotes if it could not be told from what stands around it.
func appendWord(p []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c >= 0x7f {
			return strconv.AppendQuote(p, s)
		}
	}
	return append(p, s...)
}

// appendCombined writes the line that Apache's `combined` has.
func (r *Request) appendCombined(p []byte) []byte {
	p = append(p, orDash(r.client())...)
	p = append(p, " - - ["...)
	p = r.At.AppendFormat(p, "02/Jan/2006:15:04:05 -0700")
	p = append(p, `] "`...)
	if r.Method == "" {
		p = append(p, '-')
	} else {
		p = appendEscaped(p, r.Method)
		p = append(p, ' ')
		p = appendEscaped(p, r.Target)
		p = append(p, ' ')
		p = append(p, r.Proto...)
	}
	p = append(p, `" `...)
	p = strconv.AppendInt(p, int64(r.Status), 10)
	p = append(p, ' ')
	if r.Bytes == 0 {
		p = append(p, '-')
	} else {
		p = strconv.AppendInt(p, r.Bytes, 10)
	}
	p = append(p, ` "`...)
	p = appendEscaped(p, orDash(r.Referer))
	p = append(p, `" "`...)
	p = appendEscaped(p, orDash(r.UserAgent))
	return append(p, '"', '\n')
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// appendEscaped writes s as Apache does between quotes.
func appendEscaped(p []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for _, c := range []byte(clip(s, maxLength)) {
		switch {
		case c == '"' || c == '\\':
			p = append(p, '\\', c)
		case c < ' ' || c >= 0x7f:
			p = append(p, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			p = append(p, c)
		}
	}
	return p
}
