package config

import "strings"

// expand replaces each ${NAME} of s by the variable's value, and each $${ by ${. It tells
// whether a variable was used, and reports what is wrong with the references.
func expand(s string, lookup func(string) (string, bool)) (out string, used bool, problems []problem) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), used, problems
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1])
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		name, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed || !isVariableName(name) {
			ref := s[i:]
			if closed {
				ref = s[i : len(s)-len(rest)]
			}
			problems = append(problems, problem{
				"malformed variable " + quote(ref),
				"write ${NAME} with letters, digits and _, or $${ for a literal ${",
			})
		} else if value, ok := lookup(name); ok {
			used = true
			b.WriteString(value)
		} else {
			problems = append(problems, problem{
				"environment variable " + quote(name) + " is not set",
				"set it in wstunnel's environment, or write $${ for a literal ${",
			})
		}
		if !closed {
			return b.String(), used, problems
		}
		s = rest
	}
}

func isVariableName(s string) bool {
	for i, c := range s {
		switch {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return s != ""
}
