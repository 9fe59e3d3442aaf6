package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/template"
)

// variables are those that every template may hold; nginx has the same.
var variables = []string{
	"host", "http_host", "scheme", "remote_addr", "remote_user", "request_uri", "uri", "args", "query_string", "is_args", "request_id",
	"request_method", "server_port", "server_name", "ssl_protocol", "ssl_client_s_dn",
}

// variablePrefixes are those of variables whose names a request makes.
var variablePrefixes = []string{"http_", "cookie_", "arg_"}

// answerPrefix is that of the variables for fields of a backend's answer, which rules for answers may use.
const answerPrefix = "upstream_http_"

// scope says which variables a template may hold.
type scope struct {
	captures *regexp.Regexp // of which the groups may be used; nil for none
	answer   bool           // it is made when a backend has answered
}

// known reports whether a variable may stand in a template.
func (s scope) known(name string) bool {
	if slices.Contains(variables, name) {
		return true
	}
	for _, prefix := range variablePrefixes {
		if strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			return true
		}
	}
	if s.answer && strings.HasPrefix(name, answerPrefix) && len(name) > len(answerPrefix) {
		return true
	}
	if s.captures == nil {
		return false
	}
	if group, err := strconv.Atoi(name); err == nil {
		return group >= 1 && group <= s.captures.NumSubexp()
	}
	return s.captures.SubexpIndex(name) >= 0
}

// template reads a text with variables, and tells whether it could.
func (d *decoder) template(n *yaml.Node, s scope, allowed string) (template.Template, bool) {
	n = deref(n)
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.add(posOf(n), describe(n), allowed)
		return template.Template{}, false
	}
	text, env, problems := expand(n.Value, func(name string) (string, bool) {
		value, ok := d.lookupEnv(name)
		return strings.ReplaceAll(value, "$", "$$"), ok
	})
	for _, p := range problems {
		d.addProblem(posOf(n), p)
	}
	if len(problems) > 0 {
		return template.Template{}, false
	}
	t, err := template.Parse(text, s.known)
	if err != nil {
		d.addProblem(posOf(n), s.unknown(n.Value, env, err))
		return template.Template{}, false
	}
	return t, true
}

// unknown words the mistake of a template with a variable that it may not hold.
func (s scope) unknown(written string, env bool, err error) problem {
	const dollar = "; $$ is a dollar, ${NAME} the environment's"
	name, isName := err.(template.UnknownError)
	if !isName || env {
		return problem{"bad value " + quote(written) + ": a $ with no variable of ours behind it", "one of $" + strings.Join(variables, " $") + dollar}
	}
	found := "unknown variable $" + string(name)
	if _, err := strconv.Atoi(string(name)); err == nil {
		return problem{found, "$1 to $9 only for as many groups as the location's regex, or the rewrite's, has" + dollar}
	}
	if strings.HasPrefix(string(name), answerPrefix) {
		return problem{found + " here", "$" + answerPrefix + "NAME only in headers.response, when a backend has answered"}
	}
	if near := nearest(string(name), variables); near != "" {
		return problem{found, "did you mean $" + near + "?"}
	}
	return problem{found, "one of $" + strings.Join(variables, " $") + " $http_NAME $cookie_NAME $arg_NAME" + dollar}
}
