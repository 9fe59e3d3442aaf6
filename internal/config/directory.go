package config

import (
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/template"
)

// Files says how a location's directory is served.
type Files struct {
	// Static is the directory below which the rest of the path, behind the matched prefix, names a file; empty for none.
	Static string
	// Root is one below which the whole path does; empty for none. Not both.
	Root string
	// Index are the files that stand for a directory, in order; nil for index.html.
	Index []string
	// Listing has a directory without one of Index listed. Default false.
	Listing bool
	// TryFiles are paths to look for in turn; the last one is a path to be routed anew unless TryStatus is set. None: the request's own.
	TryFiles []template.Template
	// TryStatus is the status that is answered where none of TryFiles is there; zero for none.
	TryStatus int
	// ServeSources lets files be served that look like source, dumps, editors' leftovers or secrets, and dot-files. Default false.
	ServeSources bool
	// Precompressed lets FILE.br, FILE.zst and FILE.gz be served for FILE, to clients that accept such a coding. Default false.
	Precompressed bool
}

// Directory returns the directory, or nothing.
func (f *Files) Directory() string {
	if f.Root != "" {
		return f.Root
	}
	return f.Static
}

// Expires says how long files that are served may be kept without asking again.
type Expires struct {
	Set bool
	// For is how long; negative for not at all.
	For time.Duration
}

// maxExpires is what `max` means: ten years, as nginx has it.
const maxExpires = 3650 * 24 * time.Hour

// expires reads a duration, off or max; 0 is for answers that are not to be used again.
func (d *decoder) expires(n *yaml.Node, e *Expires) {
	n = deref(n)
	*e = Expires{Set: true}
	switch {
	case isOff(n):
		e.Set = false
	case n.Kind == yaml.ScalarNode && n.Value == "max":
		e.For = maxExpires
	case n.Kind == yaml.ScalarNode && (n.Value == "0" || n.Value == "epoch"):
		e.For = -1
	default:
		d.duration(n, &e.For)
	}
}

// servedFiles reads the keys of a location's directory.
func (d *decoder) servedFiles(o object, f *Files) {
	static, root := o.get("static"), o.get("root")
	if static != nil {
		f.Static = d.directory(static)
	}
	if root != nil {
		f.Root = d.directory(root)
		if static != nil {
			d.add(o.keyPos("root"), "both static and root on one location", "static, which cuts the matched prefix off, or root, which does not")
		}
	}
	if n := d.besideFiles(o, "index"); n != nil {
		f.Index = nil
		for _, s := range d.scalars(n, "a file's name, or a list of them, such as [index.html]") {
			if strings.Contains(s.text, "/") || s.text == "" || s.text == "." || s.text == ".." {
				d.add(s.pos, "bad file name "+s.shown(), "a name without slashes, such as index.html")
				continue
			}
			f.Index = append(f.Index, s.text)
		}
	}
	for key, on := range map[string]*bool{"listing": &f.Listing, "serve_sources": &f.ServeSources, "precompressed": &f.Precompressed} {
		if n := d.besideFiles(o, key); n != nil {
			d.boolean(n, on)
		}
	}
	if n := d.besideFiles(o, "try_files"); n != nil {
		d.tryFiles(n, f)
	}
}

// besideFiles returns the value of a key that says something of a directory, or nil.
func (d *decoder) besideFiles(o object, key string) *yaml.Node {
	n := o.get(key)
	if n != nil && o.get("static") == nil && o.get("root") == nil && o.get("php") == nil {
		d.add(o.keyPos(key), key+" on a location without static", key+" only beside static or root")
	}
	return n
}

func (d *decoder) tryFiles(n *yaml.Node, f *Files) {
	const allowed = "a list of paths such as [$uri, $uri/, /index.html], the last of which is routed anew, or =404"
	items := d.nonEmptyList(n, allowed)
	f.TryFiles, f.TryStatus = nil, 0
	for i, item := range items {
		t, ok := d.template(item, scope{captures: d.captures}, allowed)
		if !ok {
			continue
		}
		text := t.String()
		status, isStatus := strings.CutPrefix(text, "=")
		switch {
		case isStatus && i == len(items)-1:
			code, err := strconv.Atoi(status)
			if err != nil || code < 400 || code > 599 {
				d.add(posOf(deref(item)), "bad status "+quote(text), "= and a status from 400 to 599, such as =404")
			}
			f.TryStatus = code
		case strings.HasPrefix(text, "@"):
			d.add(posOf(deref(item)), "a named location "+quote(text), "the backend in the same location: files are looked for first, and it is asked where there is none")
		case !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "$") || strings.ContainsRune(text, 0):
			d.add(posOf(deref(item)), "bad path "+quote(text), allowed)
		default:
			f.TryFiles = append(f.TryFiles, t)
		}
	}
}
