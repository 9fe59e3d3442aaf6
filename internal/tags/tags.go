// Package tags is what backends say of whose a tunnel is, in fields that are between them and this front end alone. It is pure.
package tags

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"wstunnel/internal/head"
)

const (
	// MaxGroups is how many groups a tunnel may be in.
	MaxGroups = 32
	maxName   = 128 // bytes of a user's, and of a group's
)

// IDField tells the backend which tunnel a handshake is for.
const IDField = "X-Wstunnel-Id"

const (
	ownPrefix   = "x-wstunnel-"
	gripChannel = "grip-channel"
)

// IsPrivate reports a field that is between backends and this front end: no client has a say in it, and none sees it.
func IsPrivate(f *head.Field) bool {
	if f.ID != head.Other {
		return false
	}
	name := f.Name
	return len(name) > len(ownPrefix) && strings.EqualFold(name[:len(ownPrefix)], ownPrefix) ||
		len(name) == len(gripChannel) && strings.EqualFold(name, gripChannel)
}

// Tags are what a backend, or the server of auth_request, says of a tunnel in the head of its answer.
type Tags struct {
	User   string
	Groups []string
	NoPush bool
}

// Of reads X-Wstunnel-User, X-Wstunnel-Groups, X-Wstunnel-Push and Grip-Channel. Others of their kind mean nothing. It keeps nothing of the head itself.
func Of(fields head.Fields) (t Tags, err error) {
	for i := range fields {
		if f := &fields[i]; IsPrivate(f) {
			if err := t.take(f); err != nil {
				return Tags{}, fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	}
	return t, nil
}

func (t *Tags) take(f *head.Field) error {
	switch name := strings.ToLower(f.Name); name {
	case "x-wstunnel-user":
		if t.User != "" && t.User != f.Value {
			return fmt.Errorf("two users, %s and %s", head.Quoted(t.User), head.Quoted(f.Value))
		}
		if err := Check(f.Value); err != nil {
			return err
		}
		t.User = strings.Clone(f.Value)
	case "x-wstunnel-groups", gripChannel:
		for element := range strings.SplitSeq(f.Value, ",") {
			if name == gripChannel { // parameters are for Pushpin's own streams
				element, _, _ = strings.Cut(element, ";")
			}
			if element = head.Trim(element); element == "" || slices.Contains(t.Groups, element) {
				continue
			}
			if err := Check(element); err != nil {
				return err
			}
			if len(t.Groups) == MaxGroups {
				return fmt.Errorf("more than %d groups", MaxGroups)
			}
			t.Groups = append(t.Groups, strings.Clone(element))
		}
	case "x-wstunnel-push":
		switch strings.ToLower(f.Value) {
		case "off":
			t.NoPush = true
		case "on":
		default:
			return fmt.Errorf("%s is neither on nor off", head.Quoted(f.Value))
		}
	}
	return nil
}

// With adds what an earlier answer has said: its user where this one names none, and its groups.
func (t Tags) With(earlier *Tags) (Tags, error) {
	if earlier == nil {
		return t, nil
	}
	if t.User == "" {
		t.User = earlier.User
	}
	t.NoPush = t.NoPush || earlier.NoPush
	for _, g := range earlier.Groups {
		if !slices.Contains(t.Groups, g) {
			t.Groups = append(t.Groups, g)
		}
	}
	if len(t.Groups) > MaxGroups {
		return Tags{}, fmt.Errorf("more than %d groups, with those of auth_request", MaxGroups)
	}
	return t, nil
}

// Check checks the name of a user or of a group.
func Check(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name %s has %d bytes; %d are allowed", head.Quoted(name), len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("the name %s is not UTF-8", head.Quoted(name))
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) || strings.Contains(name, ","):
		return fmt.Errorf("the name %s has a blank, a comma or a control character", head.Quoted(name))
	}
	return nil
}
