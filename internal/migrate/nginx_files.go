package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// nginxRoot is where nginx looks for files if nobody says where.
const nginxRoot = "/usr/share/nginx/html"

// root returns the directory of a location's files.
func (l *nginxLocation) root() string {
	d := l.scope.find("root")
	if d == nil {
		return nginxRoot
	}
	l.server.ledger.took(d)
	return joinName("/usr/share/nginx", l.vars.expand(d.arg(0)))
}

// files translates a location that serves files.
func (l *nginxLocation) files() {
	s := l.server
	if alias := l.scope.here("alias"); len(alias) > 0 {
		l.alias(alias[0])
	} else {
		root := l.root()
		if strings.Contains(root, "$") {
			l.note(s.ledger.refuse(l.scope.find("root"), "names a directory that depends on the request", "write a site for each; this location answers 404"))
			l.closed("404")
			return
		}
		l.opts.set("root", text(root))
	}
	if l.opts.has("respond") {
		return
	}
	l.index()
	if d := l.scope.find("autoindex"); d != nil && d.arg(0) == "on" {
		s.ledger.took(d)
		l.opts.set("listing", word("true"))
	}
	l.tryFiles()
	if l.opts.has("static") || l.opts.has("root") {
		l.usePHP()
	}
}

// alias translates a directory that takes the place of the location's path.
func (l *nginxLocation) alias(d *directive) {
	s := l.server
	to := l.vars.expand(d.arg(0))
	dir := joinName(s.dir, to)
	s.ledger.took(d)
	switch {
	case l.isRegex() && l.kind != "":
		l.regexAlias(d, to)
	case strings.Contains(to, "$"):
		l.note(s.ledger.refuse(d, "names a directory that depends on the request", "this location answers 404"))
		l.closed("404")
	case l.kind == "=":
		if path.Base(l.pattern) == path.Base(to) && !strings.HasSuffix(to, "/") {
			l.opts.set("root", text(strings.TrimSuffix(dir, strings.TrimSuffix(l.pattern, "/"))))
			if !strings.HasSuffix(dir, l.pattern) {
				l.opts.set("root", text(path.Dir(dir)))
				l.stay("^.*$", "/"+path.Base(dir))
			}
			return
		}
		l.opts.set("root", text(path.Dir(dir)))
		l.stay("^.*$", "/"+path.Base(dir))
	case strings.HasSuffix(l.pattern, "/") != strings.HasSuffix(to, "/") && l.pattern != "/":
		if strings.HasSuffix(l.pattern, "/") {
			l.note(s.ledger.advise(d, "lets what follows "+l.pattern+" follow "+to+" without a slash; here one stands between", ""))
			s.ledger.took(d)
		}
		l.opts.set("static", text(dir))
	default:
		l.opts.set("static", text(dir))
	}
}

// stay has a location serve another path than was asked for.
func (l *nginxLocation) stay(pattern, to string) {
	m := &mapping{}
	m.set("path", text(pattern))
	m.set("to", text(literalTemplate(to)))
	m.set("stay", word("true"))
	addRewrite(l.opts, m)
}

// regexAlias translates an alias with captures: the rest of a path below a directory.
func (l *nginxLocation) regexAlias(d *directive, to string) {
	s := l.server
	dir, rest, has := strings.Cut(to, "$")
	base := strings.TrimSuffix(dir, "/")
	if !has || strings.ContainsAny(base, "$") || !strings.HasSuffix(dir, "/") && !strings.HasPrefix(rest, "/") || base == "" {
		l.note(s.ledger.refuse(d, "names files by a pattern", "write a rewrite with stay: true and a root; this location answers 404"))
		l.closed("404")
		return
	}
	v, err := l.vars.template("/$"+rest, l.groups)
	if err != nil {
		l.note(s.ledger.refuse(d, "names files by a pattern: "+err.Error(), "this location answers 404"))
		l.closed("404")
		return
	}
	l.opts.set("root", text(joinName(s.dir, base)))
	m := &mapping{}
	m.set("path", text(l.pattern))
	if l.kind == "~*" {
		m.set("path", text("(?i)"+l.pattern))
	}
	m.set("to", text(v))
	m.set("stay", word("true"))
	addRewrite(l.opts, m)
}

// extension ends a pattern of files.
var extension = regexp.MustCompile(`\\\.[(?:a-z0-9|)]+\$$`)

// index says which files stand for a directory, where it is not index.html.
func (l *nginxLocation) index() {
	d := l.scope.find("index")
	if d == nil {
		return
	}
	l.server.ledger.took(d)
	if l.kind == "=" && !strings.HasSuffix(l.pattern, "/") || l.isRegex() && extension.MatchString(l.pattern) {
		return // no directory is meant
	}
	var names list
	for _, name := range d.args {
		if strings.ContainsAny(name, "$/") || name == "" {
			l.note(l.server.ledger.note(d, "names a file of another directory", "name files of the directory itself"))
			continue
		}
		names = append(names, text(name))
	}
	if len(names) > 0 && !slices.Equal(names, list{text("index.html")}) {
		l.opts.set("index", names)
	}
}

// tryFiles translates try_files.
func (l *nginxLocation) tryFiles() {
	s := l.server
	d := l.scope.find("try_files")
	if here := l.scope.here("try_files"); len(here) == 0 && l.block != s.block {
		d = nil // it is not taken over from above
	}
	if d == nil {
		if l.fallback != "" {
			l.fallBack(nil, l.fallback)
		}
		return
	}
	if len(d.args) < 2 {
		return
	}
	last := d.args[len(d.args)-1]
	tried := d.args[:len(d.args)-1]
	s.ledger.took(d)
	switch {
	case last == "=404":
		if plainlyTried(tried) {
			return
		}
		l.tried(d, tried, "=404")
	case strings.HasPrefix(last, "="):
		l.note(s.ledger.note(d, "answers "+last[1:]+" for what is no file", "it is 404 here"))
		l.tried(d, tried, "=404")
	case strings.HasPrefix(last, "@"):
		l.tryNamed(d, tried, last)
	default:
		l.fallBack(tried, last)
	}
}

// plainlyTried reports what is tried for every path that is served from files.
func plainlyTried(tried []string) bool {
	for _, t := range tried {
		if t != "$uri" && t != "$uri/" {
			return false
		}
	}
	return true
}

// tried writes what is tried, and what then.
func (l *nginxLocation) tried(d *directive, tried []string, last string) {
	var all list
	for _, t := range append(slices.Clone(tried), last) {
		v, err := l.vars.template(t, l.groups)
		if err != nil {
			l.note(l.server.ledger.note(d, "tries a file that cannot be said: "+err.Error(), "write try_files by hand"))
			continue
		}
		all = append(all, text(v))
	}
	l.opts.set("try_files", all)
}

// fallBack says where what is no file leads to.
func (l *nginxLocation) fallBack(tried []string, last string) {
	last = l.vars.expand(last)
	script, _, _ := strings.Cut(last, "?")
	script = strings.TrimSuffix(strings.TrimSuffix(script, "$is_args$args"), "$uri")
	if php := l.server.php; php != nil && plainlyTried(tried) && strings.HasSuffix(script, ".php") && !strings.Contains(script, "$") && path.Dir(script) == "/" && l.opts.has("root") {
		l.opts.set("front_controller", text(strings.TrimPrefix(script, "/")))
		return
	}
	if len(tried) == 0 {
		tried = []string{"$uri", "$uri/"}
	}
	d := l.scope.find("try_files")
	if d == nil {
		d = l.block
	}
	l.tried(d, tried, last)
}

// tryNamed translates a try_files whose last is a location with a name: files stand before a backend.
func (l *nginxLocation) tryNamed(d *directive, tried []string, name string) {
	s := l.server
	named := s.named[name]
	if named == nil {
		l.note(s.ledger.note(d, "leads to "+name+", which is not there", "it is 404 here"))
		return
	}
	s.use(named)
	inner := s.newLocation(named, s.scope.within(named.block), l.kind, l.pattern)
	inner.path, inner.vars = l.path, l.vars
	switch pass, rewrites := inner.scope.here("proxy_pass"), inner.scope.here("rewrite"); {
	case len(pass) > 0:
		files := l.opts
		inner.proxy(pass[0])
		inner.settings()
		l.takeNamed(inner, files)
		if !plainlyTried(tried) {
			l.note(s.ledger.note(d, "tries other files than the one that the path names", "that one is served, and all else passed on"))
		}
	case len(inner.scope.here("fastcgi_pass")) > 0 && s.php != nil:
		l.opts.set("front_controller", text(s.php.controller(inner)))
	case len(rewrites) > 0:
		r, ok := readRewrite(rewrites[0])
		if script, _, _ := strings.Cut(r.to, "?"); ok && r.status == 0 && strings.HasSuffix(strings.TrimSuffix(script, "/$1"), ".php") {
			s.ledger.took(rewrites[0])
			l.fallBack(tried, strings.TrimSuffix(script, "/$1"))
			return
		}
		l.note(s.ledger.note(d, "leads to a rewrite", "write try_files by hand"))
	default:
		inner.rewritePhase()
		if inner.opts.has("respond") || inner.opts.has("redirect") {
			l.note(s.ledger.note(d, "answers with "+name+" for what is no file", "it is 404 here"))
			return
		}
		l.note(s.ledger.note(d, "leads to "+name, "write try_files by hand"))
	}
}

// takeNamed takes over what a named location does, beside files.
func (l *nginxLocation) takeNamed(inner *nginxLocation, files *mapping) {
	for _, e := range inner.opts.entries {
		if files.has(e.key) && e.key != "headers" {
			continue
		}
		files.set(e.key, e.value)
		files.find(e.key).comment = e.comment
	}
	for _, n := range inner.notes {
		if !slices.Contains(l.notes, n) {
			l.note(n)
		}
	}
	if inner.opts.has("respond") { // it was closed
		l.opts = &mapping{}
		l.opts.set("respond", inner.opts.get("respond"))
	}
}
