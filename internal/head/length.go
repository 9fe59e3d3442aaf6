package head

import (
	"net/http"
	"strconv"
	"strings"
)

// BodyLength returns what Content-Length says; known is false where there is none.
func (f Fields) BodyLength() (n int64, known bool, err *Error) {
	switch lengths := f.Count(ContentLength); lengths {
	case 0:
		return 0, false, nil
	case 1:
		n, ok := ParseLength(f.Get(ContentLength))
		if !ok {
			return 0, false, Bad("Content-Length %s is no number", Quoted(f.Get(ContentLength)))
		}
		return n, true, nil
	default:
		return 0, false, Bad("%d Content-Length fields", lengths)
	}
}

// ExpectsContinue reports whether a request waits to be asked for its body. Any other expectation cannot be met (RFC 9110, section 10.1.1).
func (f Fields) ExpectsContinue() (bool, *Error) {
	if !f.Has(Expect) {
		return false, nil
	}
	if f.Count(Expect) > 1 || !strings.EqualFold(f.Get(Expect), "100-continue") {
		return false, &Error{Status: http.StatusExpectationFailed, Reason: "expectation " + Quoted(f.Get(Expect)) + " cannot be met"}
	}
	return true, nil
}

// ParseLength reads a Content-Length: digits only, and no more than fit an int64.
func ParseLength(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}
