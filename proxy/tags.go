package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"wstunnel/internal/head"
)

// Bounds of what a backend says of a tunnel.
const (
	maxTag    = 128 // bytes of a user's name, and of a group's
	maxGroups = 32  // of one tunnel
)

// idField tells the backend which tunnel a handshake is for.
const idField = "X-Wstunnel-Id"

const (
	ownPrefix   = "x-wstunnel-"
	gripChannel = "grip-channel"
)

// isPrivate reports a field that is between backends and this front end: no client has a say in it, and none sees it.
func isPrivate(f *head.Field) bool {
	if f.ID != head.Other {
		return false
	}
	name := f.Name
	return len(name) > len(ownPrefix) && strings.EqualFold(name[:len(ownPrefix)], ownPrefix) ||
		len(name) == len(gripChannel) && strings.EqualFold(name, gripChannel)
}

// tags are what a backend, or the server of auth_request, says of a tunnel in the head of its answer.
type tags struct {
	user   string
	groups []string
	noPush bool
}

// tagsOf reads X-Wstunnel-User, X-Wstunnel-Groups, X-Wstunnel-Push and Grip-Channel. Others of their kind mean nothing. It keeps nothing of the head itself.
func tagsOf(fields head.Fields) (t tags, err error) {
	for i := range fields {
		if f := &fields[i]; isPrivate(f) {
			if err := t.take(f); err != nil {
				return tags{}, fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	}
	return t, nil
}

func (t *tags) take(f *head.Field) error {
	switch name := strings.ToLower(f.Name); name {
	case "x-wstunnel-user":
		if t.user != "" && t.user != f.Value {
			return fmt.Errorf("two users, %s and %s", head.Quoted(t.user), head.Quoted(f.Value))
		}
		if err := checkTag(f.Value); err != nil {
			return err
		}
		t.user = strings.Clone(f.Value)
	case "x-wstunnel-groups", gripChannel:
		for element := range strings.SplitSeq(f.Value, ",") {
			if name == gripChannel { // parameters are for Pushpin's own streams
				element, _, _ = strings.Cut(element, ";")
			}
			if element = head.Trim(element); element == "" || slices.Contains(t.groups, element) {
				continue
			}
			if err := checkTag(element); err != nil {
				return err
			}
			if len(t.groups) == maxGroups {
				return fmt.Errorf("more than %d groups", maxGroups)
			}
			t.groups = append(t.groups, strings.Clone(element))
		}
	case "x-wstunnel-push":
		switch strings.ToLower(f.Value) {
		case "off":
			t.noPush = true
		case "on":
		default:
			return fmt.Errorf("%s is neither on nor off", head.Quoted(f.Value))
		}
	}
	return nil
}

// with adds what an earlier answer has said: its user where this one names none, and its groups.
func (t tags) with(earlier *tags) (tags, error) {
	if earlier == nil {
		return t, nil
	}
	if t.user == "" {
		t.user = earlier.user
	}
	t.noPush = t.noPush || earlier.noPush
	for _, g := range earlier.groups {
		if !slices.Contains(t.groups, g) {
			t.groups = append(t.groups, g)
		}
	}
	if len(t.groups) > maxGroups {
		return tags{}, fmt.Errorf("more than %d groups, with those of auth_request", maxGroups)
	}
	return t, nil
}

// checkTag checks the name of a user or of a group.
func checkTag(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxTag:
		return fmt.Errorf("the name %s has %d bytes; %d are allowed", head.Quoted(name), len(name), maxTag)
	case !utf8.ValidString(name):
		return fmt.Errorf("the name %s is not UTF-8", head.Quoted(name))
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) || strings.Contains(name, ","):
		return fmt.Errorf("the name %s has a blank, a comma or a control character", head.Quoted(name))
	}
	return nil
}
