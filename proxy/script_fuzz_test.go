package proxy

import (
	"io/fs"
	"strings"
	"testing"

	"wstunnel/internal/config"
	"wstunnel/internal/reactor"
	"wstunnel/internal/route"
)

// FuzzScriptPath: whatever is asked for, a script that is run exists, its name and PATH_INFO make up the path, and it lies in no directory of deny_scripts_in.
func FuzzScriptPath(f *testing.F) {
	for _, seed := range []string{"/a.php/x", "/blog/dir.php/b.php/c.php", "/up/a.php", "/a.jpg/x.php", "/blog/..php", "/a.ｐhp", "/.x/a.php", "/blog", "/a.php%2fb", "/dir/"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	files := map[string]reactor.FileInfo{}
	for _, name := range []string{"a.php", "index.php", "dir.php/b.php", "up/a.php", "a.jpg", "..php", ".x/a.php", "dir/index.php", "up/index.php", "dir/up/a.php"} {
		files[name] = reactor.FileInfo{Regular: true}
	}
	for _, name := range []string{"dir.php", "up", ".x", "dir", "dir/up"} {
		files[name] = reactor.FileInfo{Dir: true}
	}
	stat := func(_, name string) (reactor.FileInfo, error) {
		if info, ok := files[strings.TrimSuffix(name, "/")]; ok {
			return info, nil
		}
		return reactor.FileInfo{}, fs.ErrNotExist
	}
	f.Fuzz(func(t *testing.T, raw string, isAlias bool) {
		path, err := route.Normalise(raw)
		if err != nil {
			return
		}
		l := &location{Location: &config.Location{Files: config.Files{Root: "/root", Index: []string{"index.php"}}, PHP: &config.PHP{FrontController: "index.php", DenyScriptsIn: []string{"/up"}}}}
		if isAlias {
			l.Root, l.Static, l.Match.Path, l.PHP.DenyScriptsIn = "", "/root", "/blog/", []string{"/blog/up"}
			if !strings.HasPrefix(path, "/blog/") {
				return
			}
		}
		m, err := disk{l, stat, func(path string) (string, error) { return path, nil }}.meaning([]try{{path: path}}, path)
		switch {
		case err != nil:
			t.Fatalf("%q: %v", path, err)
		case m.kind != meansScript && m.info != "":
			t.Fatalf("%q: %+v", path, m)
		case m.kind == meansFile && (!files[m.name].Regular || strings.Contains(m.name, ".php")):
			t.Fatalf("%q: %+v", path, m)
		case m.kind == meansScript && (!files[m.name].Regular || !strings.HasSuffix(m.name, ".php") || strings.HasPrefix(m.name, "up/") || strings.HasPrefix(m.name, ".x")):
			t.Fatalf("%q: %+v", path, m)
		case m.kind == meansScript && m.info != "" && l.url(m.name)+m.info != path:
			t.Fatalf("%q: %+v", path, m)
		}
	})
}
