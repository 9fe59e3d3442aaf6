package migrate

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// toRE2 returns a regular expression of PCRE as RE2 understands it. What RE2 has no word for is a mistake, but for a negative lookahead of a plain
// text with nothing behind it but "anything", which is spelt out.
func toRE2(pattern string) (string, bool) {
	pattern = withoutPossessive(pattern)
	if compiles(pattern) {
		return pattern, true
	}
	if spelt, ok := spellLookahead(pattern); ok && compiles(spelt) {
		return spelt, true
	}
	return "", false
}

func compiles(pattern string) bool {
	_, err := regexp.Compile(pattern)
	return err == nil
}

// possessive finds a quantifier that gives nothing back. That changes how long a search takes, and hardly ever what it finds.
var possessive = regexp.MustCompile(`([^\\][*+?}])\+`)

func withoutPossessive(pattern string) string {
	if compiles(pattern) {
		return pattern
	}
	return possessive.ReplaceAllString(pattern, "$1")
}

// lookahead finds a negative lookahead of words separated by |, and what stands behind it.
var lookahead = regexp.MustCompile(`^((?:[^\\]|\\.)*?)\(\?!((?:[A-Za-z0-9/_|-]|\\[^A-Za-z0-9])+)\)(\.\*)?(\$)?$`)

// spellLookahead replaces a negative lookahead at the end of a pattern by all that it lets pass.
func spellLookahead(pattern string) (string, bool) {
	m := lookahead.FindStringSubmatch(pattern)
	if m == nil || m[3] == "" && m[4] != "" {
		return "", false
	}
	var words []string
	for word := range strings.SplitSeq(m[2], "|") {
		word = strings.ReplaceAll(word, `\`, "")
		if word == "" {
			return "", false
		}
		words = append(words, word)
	}
	return m[1] + "(?:" + notBeginning(words) + ")", true
}

// notBeginning matches what begins with none of the words: at its end, or up to the first byte that differs from all.
func notBeginning(words []string) string {
	next := map[byte][]string{}
	var order []byte
	for _, w := range words {
		if w == "" {
			return `[^\x{0}-\x{10FFFF}]` // it did begin so
		}
		if _, known := next[w[0]]; !known {
			order = append(order, w[0])
		}
		next[w[0]] = append(next[w[0]], w[1:])
	}
	class := ""
	for _, c := range order {
		if c == '-' || c == '^' || c == ']' || c == '\\' {
			class += `\`
		}
		class += string(c)
	}
	out := "$|[^" + class + "]"
	for _, c := range order {
		rests := next[c]
		done := false
		for _, r := range rests {
			done = done || r == ""
		}
		if !done {
			out += "|" + regexp.QuoteMeta(string(c)) + "(?:" + notBeginning(rests) + ")"
		}
	}
	return out
}

// captures counts the groups of a pattern of RE2.
func captures(pattern string) int {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return 0
	}
	return re.NumSubexp()
}

// literalText returns the text that a pattern matches where it matches one only, such as www\.example\.com; anchors may stand around it.
func literalText(pattern string) (s string, begins, ends, ok bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", false, false, false
	}
	parts := []*syntax.Regexp{re.Simplify()}
	if parts[0].Op == syntax.OpConcat {
		parts = parts[0].Sub
	}
	for i, p := range parts {
		switch {
		case p.Op == syntax.OpBeginText && i == 0:
			begins = true
		case p.Op == syntax.OpEndText && i == len(parts)-1:
			ends = true
		case p.Op == syntax.OpLiteral && p.Flags&syntax.FoldCase == 0:
			s += string(p.Rune)
		case p.Op == syntax.OpEmptyMatch:
		default:
			return "", false, false, false
		}
	}
	return s, begins, ends, true
}

// hostsOf returns the hosts that a regex for hosts matches where they can be listed, such as ^(www\.)?example\.com$.
func hostsOf(pattern string) ([]string, bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, false
	}
	const most = 16
	all, ok := alternatives(re.Simplify(), most)
	if !ok {
		return nil, false
	}
	var hosts []string
	for _, h := range all {
		h, begins := strings.CutPrefix(h, "^")
		h, ends := strings.CutSuffix(h, "$")
		if !begins || !ends || strings.ContainsAny(h, "^$") || !isHost(strings.ToLower(h)) {
			return nil, false
		}
		hosts = append(hosts, strings.ToLower(h))
	}
	return hosts, len(hosts) > 0
}

// alternatives returns all texts that a regex without loops matches, with ^ and $ where they are anchored.
func alternatives(re *syntax.Regexp, most int) ([]string, bool) {
	switch re.Op {
	case syntax.OpBeginText, syntax.OpBeginLine:
		return []string{"^"}, true
	case syntax.OpEndText, syntax.OpEndLine:
		return []string{"$"}, true
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, true
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpCapture:
		return alternatives(re.Sub[0], most)
	case syntax.OpQuest:
		some, ok := alternatives(re.Sub[0], most)
		return append([]string{""}, some...), ok
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			some, ok := alternatives(sub, most)
			if all = append(all, some...); !ok || len(all) > most {
				return nil, false
			}
		}
		return all, true
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			some, ok := alternatives(sub, most)
			if !ok || len(all)*len(some) > most {
				return nil, false
			}
			var longer []string
			for _, a := range all {
				for _, s := range some {
					longer = append(longer, a+s)
				}
			}
			all = longer
		}
		return all, true
	}
	return nil, false
}
