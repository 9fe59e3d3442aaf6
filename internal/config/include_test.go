package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// including is a configuration with one site of its own beside what the given lines say.
func including(lines ...string) string {
	return `listen: [{address: ":80"}]
` + strings.Join(lines, "\n") + `
sites:
  - hosts: [own.example]
    include: [locations/*.yaml]
    locations:
      - {path: /, http: "http://chat"}
upstreams: {chat: {servers: ["127.0.0.1:9000"]}}
`
}

func TestIncludedFilesBringSitesLocationsAndUpstreams(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sites.d", "b.yaml"), []byte("- hosts: [b.example]\n  static: www\n"))
	write(t, filepath.Join(dir, "sites.d", "a.yaml"), []byte("sites:\n- hosts: [a.example]\n  proxy: more\nupstreams: {more: {servers: ['127.0.0.1:9001']}}\n"))
	write(t, filepath.Join(dir, "sites.d", "empty.yaml"), []byte("\n"))
	write(t, filepath.Join(dir, "sites.d", "www", "x"), nil)
	write(t, filepath.Join(dir, "locations", "ws.yaml"), []byte("- path: /ws\n  websocket: ws://chat\n"))
	cfg := mustParse(t, filepath.Join(dir, "main.yaml"), including("include: sites.d/*.yaml"))
	var hosts []string
	for _, s := range cfg.Sites {
		hosts = append(hosts, s.Hosts[0])
	}
	if got := strings.Join(hosts, " "); got != "own.example a.example b.example" {
		t.Errorf("hosts %s", got)
	}
	if l := cfg.Sites[0].Locations; len(l) != 2 || l[1].Match.Path != "/ws" || l[1].WebSocket.Upstream != "chat" {
		t.Errorf("locations %+v", l)
	}
	if got, want := cfg.Sites[2].Locations[0].Static, filepath.Join(dir, "sites.d", "www"); got != want {
		t.Errorf("a relative name starts at %s, want %s", got, want)
	}
	if got, want := cfg.Place(cfg.Sites[2].Pos), filepath.Join(dir, "sites.d", "b.yaml")+":1:3"; got != want {
		t.Errorf("the place is %s, want %s", got, want)
	}
}

func TestMistakesOfIncludedFilesNameTheirFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sites.d", "a.yaml"), []byte("- hosts: [own.example]\n  proxy: nothing:x\n"))
	write(t, filepath.Join(dir, "sites.d", "b.yaml"), []byte("- hosts: [\n"))
	write(t, filepath.Join(dir, "sites.d", "c.yaml"), []byte("hosts: [c.example]\n"))
	write(t, filepath.Join(dir, "locations", "l.yaml"), []byte("- {path: /, respond: 404}\n- {path: /x, respond: 700}\n"))
	got := mistakes(t, filepath.Join(dir, "main.yaml"), including(`include: [sites.d/*.yaml, none.yaml, "sites.d/a.*"]`), noEnv)
	want := `main.yaml:2:27: cannot read file "none.yaml": no such file or directory; an existing file, or a pattern
main.yaml:2:38: file "DIR/sites.d/a.yaml" is included twice; each file once
sites.d/a.yaml:1:11: host "own.example" is already on line 4 of main.yaml; each host once in the file
sites.d/a.yaml:2:10: "nothing:x" has a bad port; a port from 1 to 65535
sites.d/b.yaml:1:1: bad YAML: did not find expected node content; check indentation, quotes and brackets of this line and the one before
sites.d/c.yaml:1:1: unknown key "hosts"; it stands in a site
locations/l.yaml:1:10: path "/" can never match: the location on line 7 of main.yaml has the same path; locations that requests can reach
locations/l.yaml:2:23: bad status "700"; a status code from 200 to 599`
	if got = strings.ReplaceAll(strings.ReplaceAll(got, `"`+dir, `"DIR`), dir+"/", ""); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestSnippetIsForSeveralSites: a file of locations may be included by each of them.
func TestSnippetIsForSeveralSites(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "snippet.yaml"), []byte("- {path: /acme, respond: 404}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `
listen: [{address: ":80"}]
sites:
  - {hosts: [a.example], include: snippet.yaml}
  - {hosts: [b.example], include: snippet.yaml}
`
	cfg := mustParse(t, filepath.Join(dir, "main.yaml"), text)
	for _, site := range cfg.Sites {
		if len(site.Locations) != 1 || site.Locations[0].Match.Path != "/acme" {
			t.Errorf("%v has %+v", site.Hosts, site.Locations)
		}
	}
}
