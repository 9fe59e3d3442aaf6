package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// nginxVars are variables of nginx that are ours by the same name.
var nginxVars = []string{
	"host", "http_host", "scheme", "remote_addr", "remote_user", "request_uri", "uri", "args", "query_string", "is_args", "request_id",
	"request_method", "server_port", "server_name", "ssl_protocol", "ssl_client_s_dn",
}

// nginxSynonyms are those that have another name here.
var nginxSynonyms = map[string]string{
	"document_uri": "uri", "binary_remote_addr": "remote_addr", "realip_remote_addr": "remote_addr",
	"content_type": "http_content_type", "content_length": "http_content_length", "hostname": "",
}

var nginxVar = regexp.MustCompile(`\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))`)

// names are the variables that a level has set, by their names without $.
type variables map[string]string

// expand replaces variables that were set to something by that. It gives up on those that name one another in a circle.
func (v variables) expand(s string) string {
	for range 10 {
		if !strings.Contains(s, "$") || len(s) > maxText {
			return s
		}
		expanded := nginxVar.ReplaceAllStringFunc(s, func(ref string) string {
			if text, known := v[varName(ref)]; known {
				return text
			}
			return ref
		})
		if expanded == s {
			return s
		}
		s = expanded
	}
	return s
}

// varName is the name in $name or ${name}.
func varName(ref string) string { return strings.Trim(ref, "${}") }

// template makes one of our templates of a text of nginx's. It tells the first variable that there is none for.
func (v variables) template(s string, groups []string) (string, error) {
	s = v.expand(s)
	var b strings.Builder
	for {
		at := nginxVar.FindStringIndex(s)
		if at == nil {
			b.WriteString(strings.ReplaceAll(s, "$", "$$"))
			return b.String(), nil
		}
		b.WriteString(strings.ReplaceAll(s[:at[0]], "$", "$$"))
		name := varName(s[at[0]:at[1]])
		ours, ok := ourVar(name, groups)
		if !ok {
			return "", fmt.Errorf("the variable $%s has no counterpart", name)
		}
		b.WriteString("$" + ours)
		s = s[at[1]:]
		if s != "" && isWord(s[0]) {
			return "", fmt.Errorf("the variable $%s ends where a letter follows, which cannot be written here", name)
		}
	}
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// ourVar returns our name of one of nginx's variables; groups are the named captures at the place.
func ourVar(name string, groups []string) (string, bool) {
	if synonym, ok := nginxSynonyms[name]; ok {
		name = synonym
	}
	switch {
	case name == "":
		return "", false
	case slices.Contains(nginxVars, name) || slices.Contains(groups, name):
		return name, true
	case len(name) == 1 && '1' <= name[0] && name[0] <= '9':
		return name, true
	}
	for _, prefix := range []string{"http_", "cookie_", "arg_"} {
		if strings.HasPrefix(name, prefix) && name != prefix {
			return name, true
		}
	}
	return "", false
}

// literalTemplate makes a template of a text without variables.
func literalTemplate(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// groupNames returns the named captures of a pattern.
func groupNames(pattern string) (names []string) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	for _, name := range re.SubexpNames() {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}
