package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is one mistake in a configuration file.
type Error struct {
	File string
	// Line and Col count from 1.
	Line, Col int
	// Found says what stands in the file; a value that holds ${NAME} is shown as written.
	Found string
	// Allowed says what may stand there instead.
	Allowed string
	// NoFile says that all that is wrong is a file or directory that cannot be opened: on another machine it might be.
	NoFile bool
	// Unreachable says that the mistake is a location that no request can reach.
	Unreachable bool
}

// Error returns "file:line:col: found; allowed".
func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", e.File, e.Line, e.Col, e.Found, e.Allowed)
}

// Errors are all mistakes of one configuration file, in file order.
type Errors []Error

// Error returns one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// inFileOrder returns the errors sorted by position, each once: a mapping that is used
// through several aliases is read, and found wrong, several times.
func (e Errors) inFileOrder() Errors {
	seen := make(map[Error]bool, len(e))
	once := slices.DeleteFunc(slices.Clone(e), func(err Error) bool {
		dup := seen[err]
		seen[err] = true
		return dup
	})
	slices.SortStableFunc(once, func(a, b Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	return once
}

// problem is a mistake whose place its finder does not know.
type problem struct {
	found, allowed string
}

// quote shows a value in an error text: on one line, and not endless.
func quote(s string) string {
	const limit = 100
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "..."
	}
	return strconv.Quote(s)
}

// quoteList shows several values in an error text.
func quoteList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return strings.Join(quoted, ", ")
}
