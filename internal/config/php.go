package config

import (
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/template"
)

// PHP is how a location runs PHP: in an application, such as php-fpm, that FastCGI is spoken to. Beside it is [Files.Static] or [Files.Root].
type PHP struct {
	// Target is the application. Its connections are not kept, unless the configuration says so: a kept one holds a worker of php-fpm's.
	Target *Target
	// FrontController is the script, by its name below the directory, that is run for a path that leads to none and to no file; empty for none. Default index.php, and
	// none beside [Files.TryFiles].
	FrontController string
	// Params are parameters of each request beside those that every one has; they go before those.
	Params []Param
	// DenyScriptsIn are directories, by the paths that clients ask for, below which no script is run. They have no slash at their ends.
	DenyScriptsIn []string
}

// Param is a parameter of a request over FastCGI.
type Param struct {
	Name  string
	Value template.Template
}

// FastCGI is the Scheme of a target that FastCGI is spoken to.
const FastCGI = "fastcgi"

// phpKeys are those that stand beside php only.
var phpKeys = []string{"front_controller", "params", "deny_scripts_in"}

// takeOverPHP returns a location that runs PHP with what its site says of that, where it says nothing itself: a site's directory is a root, since its prefix is `/`.
func takeOverPHP(location, site object) object {
	if location.get("php") == nil {
		return location
	}
	entries := slices.Clone(location.entries)
	for _, key := range append([]string{"root", "static", "index"}, phpKeys...) {
		i := indexKey(site.entries, key)
		isDirectory := key == "root" || key == "static"
		if i < 0 || location.get(key) != nil || isDirectory && (location.get("root") != nil || location.get("static") != nil) {
			continue
		}
		e := site.entries[i]
		if isDirectory {
			e.key = "root"
		}
		entries = append(entries, e)
	}
	location.entries = entries
	return location
}

// locationPHP reads what a location says of PHP.
func (d *decoder) locationPHP(o object, loc *Location) {
	n := o.get("php")
	if n == nil {
		for _, key := range phpKeys {
			if o.get(key) != nil {
				d.add(o.keyPos(key), key+" on a location without php", key+" only beside php")
			}
		}
		return
	}
	for _, key := range []string{"http", "proxy"} {
		if o.get(key) != nil {
			d.add(o.keyPos("php"), "both "+key+" and php on one location", "one of them")
		}
	}
	if o.get("root") == nil && o.get("static") == nil {
		d.add(o.keyPos("php"), "php without a directory of scripts", "root: DIR beside it, or static: DIR, which the location's path is not part of")
	}
	if loc.Index == nil {
		loc.Index = []string{"index.php", "index.html"}
	}
	p := &PHP{Target: d.phpTarget(n), FrontController: "index.php"}
	if len(loc.TryFiles) > 0 || loc.TryStatus > 0 {
		p.FrontController = ""
	}
	if n := o.get("front_controller"); n != nil {
		d.frontController(n, &p.FrontController)
	}
	if n := o.get("params"); n != nil {
		p.Params = d.params(n)
	}
	if n := o.get("deny_scripts_in"); n != nil {
		p.DenyScriptsIn = d.deniedPaths(n)
	}
	if p.Target != nil {
		loc.PHP = p
	}
}

const phpAllowed = "unix:/PATH, HOST:PORT or an upstream's name, or {url: one of these, keepalive: N}"

// phpTarget reads where PHP is run. It returns nil after a mistake in the address.
func (d *decoder) phpTarget(n *yaml.Node) *Target {
	var o object
	if deref(n).Kind == yaml.MappingNode {
		var ok bool
		if o, ok = d.object(n, inPHP); !ok {
			return nil
		}
		if n = o.get("url"); n == nil {
			d.add(o.pos, `no "url"`, "url: and unix:/PATH, HOST:PORT or an upstream's name")
			return nil
		}
	}
	s, ok := d.scalar(n, phpAllowed)
	if !ok {
		return nil
	}
	t, p := d.parsePHPTarget(s)
	if p != nil {
		d.addProblem(s.pos, *p)
		return nil
	}
	t.KeepAlive = 0 // an upstream's is for HTTP
	if v := o.get("keepalive"); v != nil {
		d.keepAlive(v, &t.KeepAlive)
	}
	return t
}

func (d *decoder) parsePHPTarget(s scalar) (*Target, *problem) {
	t := &Target{Pos: s.pos, URL: s.written, Scheme: FastCGI, Host: "localhost", TLSVerify: true}
	switch {
	case strings.HasPrefix(s.text, "unix:"):
		server, p := parseUnix(s)
		t.Servers = []Server{server}
		return t, p
	case strings.HasPrefix(s.text, "/"):
		return nil, &problem{"php target " + s.shown() + " is a path", "unix: before the path of a socket"}
	case strings.Contains(s.text, "://"):
		return nil, &problem{"php target " + s.shown() + " has a scheme", "the address alone, since FastCGI is spoken; a server that speaks HTTP stands at http:"}
	}
	if p := d.resolveAuthority(s, s.text, t); p != nil {
		return t, p
	}
	if t.Check != nil && t.Check.Kind != CheckTCP {
		return t, &problem{"upstream " + s.shown() + " of php has health with kind: " + t.Check.Kind.String(), "kind: tcp; its servers speak FastCGI"}
	}
	return t, nil
}

// frontController reads the name of a script, or off, which is none.
func (d *decoder) frontController(n *yaml.Node, name *string) {
	const allowed = "the name of a script below the directory, such as index.php, or off"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	if s.text == "off" {
		*name = ""
		return
	}
	text := strings.TrimPrefix(s.text, "/")
	if !strings.HasSuffix(text, ".php") || path.Clean("/"+text) != "/"+text || strings.IndexByte(text, 0) >= 0 {
		d.add(s.pos, "bad front_controller "+s.shown(), allowed)
		return
	}
	*name = text
}

// params reads parameters of FastCGI.
func (d *decoder) params(n *yaml.Node) (params []Param) {
	entries, _ := d.mapping(n, "a mapping of names to values, such as {APP_ENV: production}")
	for _, e := range entries {
		if e.key == "" || strings.ContainsFunc(e.key, func(r rune) bool { return r > 0x7f || !isWordByte(byte(r)) }) {
			d.add(posOf(e.keyNode), "bad name of a parameter "+quote(e.key), "letters, digits and underscores")
			continue
		}
		if value, ok := d.template(e.value, scope{captures: d.captures}, "a text"); ok {
			params = append(params, Param{e.key, value})
		}
	}
	return params
}

// deniedPaths reads directories by the paths that clients ask for.
func (d *decoder) deniedPaths(n *yaml.Node) (paths []string) {
	const allowed = "paths of directories, such as [/wp-content/uploads]"
	for _, item := range d.list(n, "a list of "+allowed) {
		s, ok := d.scalar(item, allowed)
		if !ok {
			continue
		}
		if found, better := checkLiteral(MatchPrefix, s.text, s.env); found != "" {
			d.add(s.pos, "path "+s.shown()+" "+found, better)
			continue
		}
		paths = append(paths, strings.TrimSuffix(s.text, "/"))
	}
	return paths
}

// checkDeniedPaths reports paths in a location's deny_scripts_in that are none of its own.
func (d *decoder) checkDeniedPaths(o object, loc *Location) {
	if o.get("deny_scripts_in") == nil || loc.PHP == nil {
		return
	}
	prefix := strings.TrimSuffix(loc.Match.Path, "/")
	for _, denied := range loc.PHP.DenyScriptsIn {
		if denied != prefix && !strings.HasPrefix(denied, prefix+"/") {
			d.add(o.keyPos("deny_scripts_in"), "path "+quote(denied)+" in deny_scripts_in is not below the location's path "+quote(loc.Match.Path),
				"paths as clients ask for them, such as "+quote(prefix+denied))
		}
	}
}
