package migrate

import (
	"bytes"
	"fmt"
	"strings"
)

// apacheLine is a line of a file as it is written, or a section with the lines in it. What it means depends on what stands before it.
type apacheLine struct {
	Place
	name    string // as written
	rest    string // what stands behind the name
	section bool
	block   []*apacheLine
}

// parseApache takes a file apart.
func parseApache(name string, text []byte) ([]*apacheLine, error) {
	if len(text) > maxText || bytes.IndexByte(text, 0) >= 0 {
		return nil, fmt.Errorf("%s: no configuration of Apache", name)
	}
	text = bytes.ToValidUTF8(text, []byte("?")) // comments may be in Latin-1
	root := &apacheLine{}
	open := []*apacheLine{root}
	number := 0
	lines := strings.Split(string(text), "\n")
	for number < len(lines) {
		first := number + 1
		line := lines[number]
		number++
		for strings.HasSuffix(line, `\`) && number < len(lines) {
			line = strings.TrimSuffix(line, `\`) + lines[number]
			number++
		}
		line = strings.TrimSpace(line)
		place := Place{name, first}
		inner := open[len(open)-1]
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "</"):
			end := strings.TrimSpace(strings.TrimSuffix(line[2:], ">"))
			if len(open) == 1 || !strings.EqualFold(end, inner.name) {
				return nil, fmt.Errorf("%s: </%s> closes nothing", place, end)
			}
			open = open[:len(open)-1]
		case line[0] == '<':
			section := &apacheLine{Place: place, section: true}
			body, closed := strings.CutSuffix(line[1:], ">")
			if !closed {
				return nil, fmt.Errorf("%s: %s has no > at its end", place, line)
			}
			section.name, section.rest = splitName(body)
			inner.block = append(inner.block, section)
			if open = append(open, section); len(open) > maxNesting {
				return nil, fmt.Errorf("%s: sections are nested deeper than %d", place, maxNesting)
			}
		default:
			d := &apacheLine{Place: place}
			d.name, d.rest = splitName(line)
			inner.block = append(inner.block, d)
		}
	}
	if len(open) > 1 {
		last := open[len(open)-1]
		return nil, fmt.Errorf("%s: <%s> is not closed", last.Place, last.name)
	}
	return root.block, nil
}

// splitName splits a line into its first word and the rest.
func splitName(line string) (name, rest string) {
	line = strings.TrimSpace(line)
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], strings.TrimSpace(line[i:])
	}
	return line, ""
}

// apacheArgs splits arguments, in quotes or not. Within quotes a backslash stands before a quote or another backslash; before a blank it keeps a
// word together, as patterns of rewrites have it.
func apacheArgs(s string) (args []string) {
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return args
		}
		var b strings.Builder
		i := 0
		if quote := s[0]; quote == '"' || quote == '\'' {
			for i = 1; i < len(s) && s[i] != quote; i++ {
				if s[i] == '\\' && i+1 < len(s) && (s[i+1] == quote || s[i+1] == '\\' && quote == '"' && i+2 < len(s) && s[i+2] == quote) {
					i++
				}
				b.WriteByte(s[i])
			}
			i = min(i+1, len(s))
		} else {
			for ; i < len(s) && s[i] != ' ' && s[i] != '\t'; i++ {
				if s[i] == '\\' && i+1 < len(s) && (s[i+1] == ' ' || s[i+1] == '\t') {
					b.WriteByte(s[i])
					i++
				}
				b.WriteByte(s[i])
			}
		}
		args = append(args, b.String())
		s = s[i:]
	}
}
