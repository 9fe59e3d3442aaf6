package migrate

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// nginxPHP is how a server has its scripts run.
type nginxPHP struct {
	block    *directive // of the location for .php
	location *nginxLocation
	target   string
}

// findPHP finds the location for scripts.
func (s *nginxServer) findPHP() {
	for _, d := range s.scope.here("location") {
		kind, pattern := nginxPattern(d)
		pass := (&scope{own: d.block}).here("fastcgi_pass")
		re, ok := toRE2(pattern)
		if !strings.HasPrefix(kind, "~") || len(pass) == 0 || !ok || !regexp.MustCompile(re).MatchString("/index.php") {
			continue
		}
		l := s.newLocation(d, s.scope.within(d.block), kind, re)
		if target, ok := l.fastcgiTarget(pass[0]); ok {
			s.php = &nginxPHP{block: d, location: l, target: target}
			return
		}
	}
}

// fastcgiTarget reads a fastcgi_pass.
func (l *nginxLocation) fastcgiTarget(d *directive) (string, bool) {
	to := l.vars.expand(d.arg(0))
	if u := l.server.upstreams[to]; u != nil {
		if u.single != "" {
			return u.single, true
		}
		u.used = true
		return u.name, true
	}
	if strings.Contains(to, "$") {
		return "", false
	}
	return serverAddress(to, "9000")
}

// fastcgi translates a location whose scripts run elsewhere.
func (l *nginxLocation) fastcgi(d *directive) {
	s := l.server
	to, ok := l.fastcgiTarget(d)
	root := l.root()
	if alias := l.scope.here("alias"); len(alias) > 0 {
		ok = false
	}
	if !ok || strings.Contains(root, "$") {
		l.note(s.ledger.refuse(d, "has scripts run where cannot be said", "this location answers 502 until you write php and root"))
		l.closed("502")
		return
	}
	s.ledger.took(d)
	l.opts.set("php", text(to))
	l.opts.set("root", text(root))
	if controller := s.fixedScript(l, root); controller != "" {
		l.opts.set("front_controller", text(controller))
	} else {
		l.opts.set("front_controller", word("off"))
	}
	for _, t := range l.scope.here("try_files") {
		s.ledger.needless(t) // the script must be there in any case
	}
	l.fastcgiParams()
	l.timeouts("fastcgi_")
	if l.scope.on("fastcgi_intercept_errors") {
		s.ledger.took(l.scope.find("fastcgi_intercept_errors"))
		l.opts.set("intercept_errors", word("true"))
	}
}

// fixedScript is the script that a location runs whatever is asked for, below its root; empty where it is the one asked for.
func (s *nginxServer) fixedScript(l *nginxLocation, root string) string {
	for _, d := range l.scope.all("fastcgi_param") {
		if d.arg(0) != "SCRIPT_FILENAME" {
			continue
		}
		v := strings.NewReplacer("$document_root", root, "$realpath_root", root).Replace(l.vars.expand(d.arg(1)))
		if rest, ok := strings.CutPrefix(v, strings.TrimSuffix(root, "/")+"/"); ok && !strings.Contains(rest, "$") && rest != "" {
			return rest
		}
	}
	return ""
}

// controller is the script that a named location runs.
func (p *nginxPHP) controller(l *nginxLocation) string {
	if script := l.server.fixedScript(l, l.root()); script != "" {
		return script
	}
	return "index.php"
}

// usualParams are told to every script, or belong to how nginx finds it.
var usualParams = []string{
	"QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "SCRIPT_NAME", "REQUEST_URI", "DOCUMENT_URI", "DOCUMENT_ROOT", "SERVER_PROTOCOL",
	"REQUEST_SCHEME", "GATEWAY_INTERFACE", "SERVER_SOFTWARE", "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_USER", "SERVER_ADDR", "SERVER_PORT", "SERVER_NAME",
	"REDIRECT_STATUS", "SCRIPT_FILENAME", "PATH_INFO", "PATH_TRANSLATED", "HTTP_PROXY",
}

// fastcgiParams translates what scripts are told besides the usual.
func (l *nginxLocation) fastcgiParams() {
	s := l.server
	params := &mapping{}
	if old, ok := l.opts.get("params").(*mapping); ok {
		params = old
	}
	for _, d := range l.scope.all("fastcgi_param") {
		name, v := d.arg(0), l.vars.expand(d.arg(1))
		if slices.Contains(usualParams, name) || name == "HTTPS" && (strings.HasPrefix(v, "$") || v == "on" && s.secure()) || v == "" ||
			name == "HTTP_HOST" && (v == "$host" || v == "$http_host") || name == "HTTP_AUTHORIZATION" {
			s.ledger.needless(d)
			continue
		}
		value, err := l.vars.template(v, l.groups)
		if err == nil && !isFieldName(name) {
			err = errors.New("it has no name")
		}
		if err != nil {
			l.note(s.ledger.note(d, "tells scripts what cannot be said: "+err.Error(), "write params by hand"))
			continue
		}
		s.ledger.took(d)
		params.set(name, text(value))
	}
	if !params.empty() {
		l.opts.set("params", params)
	}
}

// usePHP has scripts run in a location of files: nginx leads them to the location for .php, which goes before any prefix.
func (l *nginxLocation) usePHP() {
	s := l.server
	if s.php == nil || l.isRegex() || l.kind == "^~" {
		return
	}
	if l.kind == "=" && !strings.HasSuffix(l.pattern, "/") && !strings.HasSuffix(l.pattern, ".php") {
		return
	}
	l.opts.set("php", text(s.php.target))
	if index, ok := l.opts.get("index").(list); ok && slices.Equal(index, list{text("index.php"), text("index.html")}) {
		l.opts.remove("index")
	}
	if !l.opts.has("front_controller") {
		l.opts.set("front_controller", word("off"))
	}
	s.php.location.fastcgiParams()
	s.php.location.timeouts("fastcgi_")
	for _, key := range []string{"params", "timeouts"} {
		if v := s.php.location.opts.get(key); v != nil && !l.opts.has(key) {
			l.opts.set(key, v)
		}
	}
}

// placePHP drops the location for scripts where all locations that it goes before run scripts themselves.
func (s *nginxServer) placePHP() {
	if s.php == nil || len((&scope{own: s.php.block.block}).here("allow", "deny", "auth_basic", "if")) > 0 {
		return
	}
	covers, behind := false, false
	for _, l := range s.locations {
		if behind && l.isRegex() && !l.opts.has("respond") && !extension.MatchString(l.path) {
			return // it would win over scripts
		}
		behind = behind || l.Place == s.php.block.Place && l.isRegex()
		if l.isPrefix() && !l.opts.has("php") {
			return // scripts below it run nevertheless
		}
		covers = covers || l.path == "/"
	}
	if covers {
		s.locations = slices.DeleteFunc(s.locations, func(l *location) bool {
			return l.Place == s.php.block.Place && l.isRegex() && l.opts.has("php")
		})
	}
}
