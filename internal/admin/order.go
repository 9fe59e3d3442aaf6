package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// verb is what a line orders.
type verb string

const (
	listTunnels verb = "LIST WEBSOCKETS"
	countThem   verb = "COUNT"
	sendMessage verb = "SEND MESSAGE"
	sendUser    verb = "SEND USER"
	sendGroup   verb = "SEND GROUP"
	joinGroup   verb = "JOIN"
	leaveGroup  verb = "LEAVE"
	kickTunnel  verb = "KICK"
	drainAll    verb = "DRAIN"
	watchEvents verb = "WATCH"
)

// lineOrder is an order of the protocol of lines.
type lineOrder struct {
	verb
	name  string // of a tunnel, a user, a group or a site
	text  string
	group string
	code  uint16
}

// maxLine is how many bytes a line may have: a message, and whom it is for.
const maxLine = MaxMessage + 1<<10

// parseOrder reads a line without its end. It fails with a [*StatusError].
func parseOrder(line string) (o lineOrder, err error) {
	bad := func(status int, format string, args ...any) (lineOrder, error) {
		return lineOrder{}, &StatusError{status, fmt.Errorf(format, args...)}
	}
	first, rest, _ := strings.Cut(line, " ")
	o.verb = verb(first)
	switch o.verb {
	case "LIST", "SEND":
		var second string
		second, rest, _ = strings.Cut(rest, " ")
		o.verb += verb(" " + second)
	}
	switch o.verb {
	case listTunnels, countThem, drainAll:
		if rest != "" {
			return bad(http.StatusBadRequest, "nothing follows %s", o.verb)
		}
	case watchEvents:
		if o.name = rest; strings.Contains(rest, " ") {
			return bad(http.StatusBadRequest, "WATCH takes one site at most")
		}
	case sendMessage, sendUser, sendGroup:
		var has bool
		if o.name, o.text, has = strings.Cut(rest, " "); o.name == "" || !has {
			return bad(http.StatusBadRequest, "%s takes a name and a text", o.verb)
		}
		m := Message{Data: []byte(o.text)}
		err = m.check()
	case joinGroup, leaveGroup:
		if o.name, o.group, _ = strings.Cut(rest, " "); o.name == "" || o.group == "" {
			return bad(http.StatusBadRequest, "%s takes an id and a group", o.verb)
		}
	case kickTunnel:
		err = o.parseKick(rest)
	default:
		return bad(http.StatusBadRequest, "unknown order %s; there are LIST WEBSOCKETS, COUNT, SEND MESSAGE, SEND USER, SEND GROUP, JOIN, LEAVE, KICK, WATCH and DRAIN", quoted(line))
	}
	if err != nil {
		return lineOrder{}, err
	}
	return o, nil
}

// parseKick reads ID [CODE] [REASON].
func (o *lineOrder) parseKick(rest string) error {
	o.code, o.text = kickCode, kickReason
	name, rest, more := strings.Cut(rest, " ")
	if o.name = name; name == "" {
		return &StatusError{http.StatusBadRequest, errors.New("KICK takes an id, and perhaps a code and a reason")}
	}
	if !more {
		return nil
	}
	code, reason, more := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(code, 10, 16)
	if err != nil {
		return &StatusError{http.StatusUnprocessableEntity, fmt.Errorf("%s is no close code", quoted(code))}
	}
	if o.code = uint16(n); more {
		o.text = reason
	}
	return CheckReason(o.text)
}

// quoted shows the beginning of a peer's text on one line.
func quoted(s string) string {
	const shown = 40
	if len(s) > shown {
		s = strings.ToValidUTF8(s[:shown], string(utf8.RuneError)) + "..."
	}
	return strconv.Quote(s)
}
