package config

import (
	"errors"
	"net/url"
	"path"
	"regexp"
	"regexp/syntax"
	"strings"

	"gopkg.in/yaml.v3"
)

const allowedPaths = "/prefix, = /exact, ^~ /prefix, ~ regex or ~* regex"

// match reads a location's path; it returns it as written, too.
func (d *decoder) match(n *yaml.Node) (Match, scalar, bool) {
	s, ok := d.scalar(n, allowedPaths)
	if !ok {
		return Match{}, s, false
	}
	m, p := parseMatch(s)
	if p != nil {
		d.addProblem(s.pos, *p)
	}
	return m, s, p == nil
}

// parseMatch reads a path as nginx writes them.
func parseMatch(s scalar) (Match, *problem) {
	kinds := []struct {
		modifier string
		kind     MatchKind
	}{ // longer ones first
		{"~*", MatchRegexFold},
		{"^~", MatchPrefixStop},
		{"~", MatchRegex},
		{"=", MatchExact},
	}
	for _, k := range kinds {
		rest, ok := strings.CutPrefix(s.text, k.modifier)
		if !ok {
			continue
		}
		pattern := strings.TrimLeft(rest, " \t")
		if pattern == rest || pattern == "" {
			return Match{}, &problem{"bad path " + s.shown(), "a space and a pattern after " + k.modifier + "; " + allowedPaths}
		}
		if k.kind == MatchRegex || k.kind == MatchRegexFold {
			return parseRegex(s, k.kind, pattern)
		}
		return parseLiteral(s, k.kind, pattern)
	}
	return parseLiteral(s, MatchPrefix, s.text)
}

func parseRegex(s scalar, kind MatchKind, pattern string) (Match, *problem) {
	if kind == MatchRegexFold {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err == nil {
		return Match{Kind: kind, Regexp: re}, nil
	}
	reason := "does not compile"
	var syntaxErr *syntax.Error
	if errors.As(err, &syntaxErr) {
		reason = syntaxErr.Code.String()
		if !s.env && syntaxErr.Expr != "" {
			reason += " " + quote(syntaxErr.Expr)
		}
	}
	return Match{}, &problem{
		"bad regex in path " + s.shown() + ": " + reason,
		"a regular expression in RE2 syntax (no lookaround, no backreferences)",
	}
}

func parseLiteral(s scalar, kind MatchKind, p string) (Match, *problem) {
	if found, allowed := checkLiteral(kind, p, s.env); found != "" {
		return Match{}, &problem{"path " + s.shown() + " " + found, allowed}
	}
	return Match{Kind: kind, Path: p}, nil
}

// checkLiteral says what is wrong with a literal path, which is compared with the decoded,
// normalised path of requests.
func checkLiteral(kind MatchKind, p string, secret bool) (found, allowed string) {
	write := func(better, general string) string {
		if secret {
			return general
		}
		return "write " + quote(better)
	}
	switch {
	case strings.Contains(p, "*"):
		return "holds a *, which would stand for itself", withoutStar(kind, p, secret)
	case !strings.HasPrefix(p, "/"):
		return "does not start with /", allowedPaths
	case strings.ContainsRune(p, 0):
		return "holds a NUL byte", "a path without it; requests with one are refused"
	case strings.ContainsAny(p, "?#"):
		return "holds a ? or #", "a path without query and fragment; they play no part in matching"
	case hasEscape(p):
		decoded, err := url.PathUnescape(p)
		if err != nil {
			return "holds a percent escape", "the decoded path"
		}
		return "holds a percent escape, but is compared with the decoded path", write(decoded, "the decoded path")
	case !isNormalised(p):
		return "is not normalised", write(normalise(p), "a path without //, /./ and /../")
	}
	return "", ""
}

// withoutStar says what to write instead of a path with a * in it.
func withoutStar(kind MatchKind, p string, secret bool) string {
	prefix, rest, _ := strings.Cut(p, "*")
	switch {
	case secret:
		return "a prefix, which covers all below it, or a regex such as ~ ^/[^/]*/ws$"
	case rest == "" && (prefix == "" || strings.HasPrefix(prefix, "/") && strings.HasSuffix(prefix, "/")):
		if kind == MatchExact {
			kind = MatchPrefix
		}
		return "write " + quote(kind.String()+max(prefix, "/")) + ": a prefix covers all below it"
	}
	begin, end := "", "$"
	if strings.HasPrefix(p, "/") {
		begin = "^"
	}
	if strings.HasSuffix(p, "*") {
		end = ""
	}
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Trim(p, "*")), `\*`, "[^/]*")
	return "write " + quote("~ "+begin+pattern+end) + ", a regex"
}

// hasEscape tells whether p holds % and two hex digits.
func hasEscape(p string) bool {
	isHex := func(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }
	for i := 0; i+2 < len(p); i++ {
		if p[i] == '%' && isHex(p[i+1]) && isHex(p[i+2]) {
			return true
		}
	}
	return false
}

// isNormalised tells whether a path that starts with / has no empty, "." or ".." segments.
func isNormalised(p string) bool {
	return p == normalise(p)
}

// normalise resolves such segments, and keeps a trailing slash.
func normalise(p string) string {
	clean := path.Clean(p)
	if last := p[strings.LastIndexByte(p, '/')+1:]; clean != "/" && (last == "" || last == "." || last == "..") {
		clean += "/"
	}
	return clean
}
