package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// files translates a location that serves files.
func (h *apacheHost) files(l *location, c apacheContent, at string, levels apacheLevels) {
	switch {
	case c.alias != nil && strings.HasPrefix(c.alias.name, "scriptalias"):
		l.note(h.ledger.refuse(c.alias, "runs CGI programs", "this location answers 501: have a server run them, and name it with proxy"))
		l.closed("501")
		return
	case c.alias != nil && l.isRegex():
		h.ledger.took(c.alias)
		l.opts.set("root", text(joinName(h.reader.root, c.alias.arg(1))))
		h.stay(l, "^"+regexp.QuoteMeta(strings.TrimSuffix(c.base, "/"))+"/?(.*)$", "/$1")
	case c.alias != nil:
		h.ledger.took(c.alias)
		l.opts.set("static", text(c.dir))
		if isFile(h.in.Files, c.dir) || path.Ext(c.dir) != "" && path.Ext(c.dir) == path.Ext(at) {
			l.opts.remove("static")
			l.opts.set("root", text(path.Dir(c.dir)))
			h.stay(l, "^.*$", literalTemplate("/"+path.Base(c.dir)))
		}
	default:
		h.ledger.took(h.rootLine)
		l.opts.set("root", text(h.docroot))
	}
	h.handler(l, levels)
	h.index(l, levels)
	if listsDirectories(levels) {
		l.opts.set("listing", word("true"))
	}
	h.fallBack(l, at, levels)
}

// listsDirectories reports that Options has Indexes.
func listsDirectories(levels apacheLevels) (lists bool) {
	for _, d := range levels.every("options") {
		relative := false
		for _, arg := range d.args {
			relative = relative || strings.HasPrefix(arg, "+") || strings.HasPrefix(arg, "-")
		}
		if !relative {
			lists = false
		}
		for _, arg := range d.args {
			switch strings.ToLower(arg) {
			case "indexes", "+indexes", "all":
				lists = true
			case "-indexes", "none":
				lists = false
			}
		}
	}
	return lists
}

// index says which files stand for a directory, where that is not what they are anyway.
func (h *apacheHost) index(l *location, levels apacheLevels) {
	d := levels.last("directoryindex")
	if d == nil || l.isRegex() {
		return
	}
	h.ledger.took(d)
	var names list
	for _, name := range d.args {
		switch ext := path.Ext(name); {
		case ext == ".cgi" || ext == ".pl" || ext == ".xhtml" || ext == ".htm" && len(d.args) > 3 || strings.Contains(name, "/") || name == "":
		case ext == ".php" && !l.opts.has("php"):
		default:
			names = append(names, text(name))
		}
	}
	usual := list{text("index.html")}
	if l.opts.has("php") {
		usual = list{text("index.php"), text("index.html")}
	}
	if len(names) > 0 && !slices.Equal(names, usual) {
		l.opts.set("index", names)
	}
}

// phpHandler finds who runs the scripts of a place: the target, or "" if they are not run.
func (h *apacheHost) phpHandler(levels apacheLevels) (to string, from *directive) {
	all := levels.every("sethandler", "addhandler", "addtype")
	for _, level := range levels {
		all = append(all, handlersIn(level)...)
	}
	for _, s := range h.sections {
		if s.name == "files" || s.name == "filesmatch" {
			all = append(all, handlersIn([]*directive{s})...)
		}
	}
	for _, d := range all {
		v := strings.ToLower(d.arg(0))
		switch {
		case strings.HasPrefix(v, "proxy:") && strings.Contains(v, "fcgi://"):
			if u, problem := readApacheURL(strings.TrimPrefix(d.arg(0), "proxy:")); problem == "" && u.fcgi {
				h.ledger.took(d)
				return u.authority, d
			}
		case strings.HasPrefix(v, "application/x-httpd-php") && !strings.Contains(v, "source"), strings.HasPrefix(v, "php") && strings.HasSuffix(v, "-script"):
			h.ledger.took(d)
			return h.fpm(), d
		}
	}
	return "", nil
}

// handlersIn returns what sections for names of scripts say about who runs them.
func handlersIn(level []*directive) (found []*directive) {
	for _, s := range level {
		if !s.section || s.name != "files" && s.name != "filesmatch" && s.name != "if" {
			continue
		}
		for _, d := range s.block {
			if d.name == "sethandler" || d.name == "addhandler" {
				found = append(found, d)
			}
		}
		found = append(found, handlersIn(s.block)...)
	}
	return found
}

var phpVersion = regexp.MustCompile(`libphp(\d+\.\d+)`)

// fpm finds the socket of the machine's PHP-FPM, which runs scripts where no module does.
func (h *apacheHost) fpm() string {
	if sockets := glob(h.in.Files, "/run/php/php[0-9]*-fpm.sock"); len(sockets) > 0 {
		return "unix:" + sockets[len(sockets)-1]
	}
	if pools := glob(h.in.Files, "/etc/php/*/fpm/pool.d/www.conf"); len(pools) > 0 {
		return "unix:/run/php/php" + strings.Split(pools[len(pools)-1], "/")[3] + "-fpm.sock"
	}
	for _, d := range h.global {
		if d.name == "loadmodule" {
			if m := phpVersion.FindStringSubmatch(d.arg(1)); m != nil {
				return "unix:/run/php/php" + m[1] + "-fpm.sock"
			}
		}
	}
	return "unix:/run/php/php-fpm.sock"
}

// handler has the scripts of a location run.
func (h *apacheHost) handler(l *location, levels apacheLevels) {
	to, d := h.phpHandler(levels)
	if to == "" || l.isRegex() {
		return
	}
	l.opts.set("php", text(to))
	l.opts.set("front_controller", word("off"))
	if !strings.HasPrefix(strings.ToLower(d.arg(0)), "proxy:") {
		n := h.ledger.adviseTaken(d, "runs scripts within Apache; here PHP-FPM does, at "+to, "install php-fpm and have it run")
		if !slices.Contains(h.notes, n) {
			h.note(n)
		}
	}
	h.phpSettings(l, levels)
}

// phpSettings tells scripts the settings that stand in the configuration.
func (h *apacheHost) phpSettings(l *location, levels apacheLevels) {
	params := &mapping{}
	for _, d := range levels.every("php_value", "php_flag", "php_admin_value", "php_admin_flag", "setenv") {
		name := "PHP_VALUE"
		if strings.Contains(d.name, "admin") {
			name = "PHP_ADMIN_VALUE"
		}
		if d.name == "setenv" {
			if !strings.HasPrefix(d.arg(0), "proxy-") && isFieldName(d.arg(0)) {
				h.ledger.took(d)
				params.set(d.arg(0), text(literalTemplate(d.arg(1))))
			}
			continue
		}
		h.ledger.took(d)
		v := d.arg(0) + "=" + literalTemplate(d.arg(1))
		if old, ok := params.get(name).(text); ok {
			v = string(old) + "\n" + v
		}
		params.set(name, text(v))
	}
	if !params.empty() {
		l.opts.set("params", params)
	}
}

// fcgi translates a ProxyPass to a program that speaks FastCGI.
func (h *apacheHost) fcgi(l *location, p *apachePass, u apacheURL) {
	root, script, _ := strings.Cut(u.path, "$")
	if root = strings.TrimSuffix(root, "/"); root == "" {
		root = h.docroot
	}
	if root == "" || script != "" && script != "1" && script != "0" {
		l.note(h.ledger.refuse(p.directive, "has scripts run whose files are not known", "this location answers 502 until you write php and root"))
		l.closed("502")
		return
	}
	l.opts.set("php", text(u.authority))
	l.opts.set("root", text(root))
	l.opts.set("front_controller", word("off"))
}

// fallBack says where what is no file leads to: by FallbackResource, or by rewrites as WordPress has them.
func (h *apacheHost) fallBack(l *location, at string, levels apacheLevels) {
	to := h.controller
	if d := levels.last("fallbackresource"); d != nil {
		h.ledger.took(d)
		if to = d.arg(0); to == "disabled" {
			to = ""
		}
	}
	for _, level := range levels[2:] {
		if found := h.dirRewrites(l, at, level); found != "" {
			to = found
		}
	}
	if to == "" {
		return
	}
	if !strings.HasPrefix(to, "/") {
		to = path.Join(at, to)
	}
	if l.opts.has("php") && strings.HasSuffix(to, ".php") && !strings.ContainsAny(to, "?$") && path.Dir(to) == "/" && l.opts.has("root") {
		l.opts.set("front_controller", text(strings.TrimPrefix(to, "/")))
		return
	}
	l.opts.set("try_files", texts("$uri", "$uri/", to))
}
