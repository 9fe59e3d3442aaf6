// Package template is text with variables, written as nginx writes them: $host, $http_NAME, $1. It is pure, and knows no variable itself.
package template

import (
	"fmt"
	"iter"
	"strings"
)

// Template is a text with variables. The zero Template is the empty text.
type Template struct {
	text  string
	parts []Part
}

// Part is a piece of a template: either a literal or a variable.
type Part struct {
	Literal string
	Name    string // of a variable, without its dollar; empty for a literal
}

// Literal returns the template of a text that holds no variable, whatever dollars it has.
func Literal(text string) Template {
	return Template{text: strings.ReplaceAll(text, "$", "$$"), parts: []Part{{Literal: text}}}
}

// Parse takes a text apart. `$$` is a dollar, and `${` stands for itself, since the environment's variables have been replaced before. A name that known
// does not know is an error, and so is a dollar with no name behind it.
func Parse(text string, known func(name string) bool) (Template, error) {
	t := Template{text: text}
	var literal strings.Builder
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "$")
		literal.WriteString(before)
		if !found {
			break
		}
		name := nameAt(after)
		switch {
		case strings.HasPrefix(after, "$"), strings.HasPrefix(after, "{"):
			literal.WriteByte('$')
			rest = strings.TrimPrefix(after, "$")
			continue
		case name == "":
			return Template{}, fmt.Errorf("a $ with no variable's name behind it")
		case !known(name):
			return Template{}, UnknownError(name)
		}
		if literal.Len() > 0 {
			t.parts = append(t.parts, Part{Literal: literal.String()})
			literal.Reset()
		}
		t.parts = append(t.parts, Part{Name: name})
		rest = after[len(name):]
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, Part{Literal: literal.String()})
	}
	return t, nil
}

// UnknownError is a variable that nobody knows.
type UnknownError string

func (e UnknownError) Error() string { return "unknown variable $" + string(e) }

// nameAt returns the name at the front of s: one digit, or a word.
func nameAt(s string) string {
	for i := range len(s) {
		c := s[i]
		digit := '0' <= c && c <= '9'
		switch {
		case digit && i == 0:
			return s[:1]
		case digit, c == '_', 'a' <= c|0x20 && c|0x20 <= 'z':
		default:
			return s[:i]
		}
	}
	return s
}

// String returns the text as it was written.
func (t Template) String() string { return t.text }

// Empty reports whether the text is empty.
func (t Template) Empty() bool { return len(t.parts) == 0 }

// Constant returns the text, if it has no variables.
func (t Template) Constant() (text string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].Name == "":
		return t.parts[0].Literal, true
	}
	return "", false
}

// Parts are the pieces, in order.
func (t Template) Parts() iter.Seq[Part] {
	return func(yield func(Part) bool) {
		for _, p := range t.parts {
			if !yield(p) {
				return
			}
		}
	}
}

// Prefix returns what the text begins with before its first variable.
func (t Template) Prefix() string {
	if len(t.parts) == 0 {
		return ""
	}
	return t.parts[0].Literal
}

// Expand returns the text with the values of its variables.
func (t Template) Expand(value func(name string) string) string {
	if text, ok := t.Constant(); ok {
		return text
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.Name == "" {
			b.WriteString(p.Literal)
		} else {
			b.WriteString(value(p.Name))
		}
	}
	return b.String()
}
