//go:build linux

package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/migrate"
)

// TestImportedConfigurationsDoTheSame runs each testdata/KIND/NAME.conf of internal/migrate, for which there is a NAME.requests, in the real Apache or
// nginx, and what it is translated to in the real wstunnel, before one set of backends that record what they see. What backends saw and what clients
// got is the same, but for the wanted differences: those in every answer (alwaysDifferent), and those that a request names, which must then show.
func TestImportedConfigurationsDoTheSame(t *testing.T) {
	for _, kind := range []string{"nginx", "apache"} {
		scripts, err := filepath.Glob("../../internal/migrate/testdata/" + kind + "/*.requests")
		if err != nil || len(scripts) == 0 {
			t.Fatal("no requests", err)
		}
		for _, name := range scripts {
			t.Run(kind+"/"+strings.TrimSuffix(filepath.Base(name), ".requests"), func(t *testing.T) {
				t.Parallel()
				compare(t, kind, name)
			})
		}
	}
}

// compare puts both into a world and asks them.
func compare(t *testing.T, kind, name string) {
	w := newWorld(t)
	s := readScript(t, name)
	text, err := os.ReadFile(strings.TrimSuffix(name, ".requests") + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.files {
		w.write(t, f[0], f[1])
	}
	conf := filepath.Join(w.dir, "etc", kind, filepath.Base(strings.TrimSuffix(name, ".requests"))+".conf")
	if err := os.CopyFS(filepath.Join(w.dir, "etc", kind), os.DirFS(filepath.Join(filepath.Dir(name), "etc"))); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	adapted := w.adapt(t, string(text))
	w.write(t, conf, adapted)
	yaml := imported(t, kind, conf)
	w.write(t, conf, w.listening(t, adapted))
	if kind == "nginx" {
		w.nginxOf(t, conf)
	} else {
		w.apacheOf(t, conf)
	}
	ports := w.oursOf(t, yaml)
	for _, q := range s.asked {
		theirs := w.observe(t, q, w.ports)
		ours := w.observe(t, q, ports)
		diffs := theirs.differences(ours)
		switch {
		case len(q.differs) == 0 && len(diffs) > 0:
			t.Errorf("%s %s %v\n%s", q.method, q.url, q.header, strings.Join(diffs, "\n"))
		case len(q.differs) > 0 && len(diffs) == 0:
			t.Errorf("%s %s: no difference any more, but %v is wanted", q.method, q.url, q.differs)
		}
		for _, key := range q.differs {
			if !slices.ContainsFunc(migrate.Differences, func(d migrate.Difference) bool { return d.Key == key }) {
				t.Errorf("%s %s: no wanted difference is called %s", q.method, q.url, key)
			}
		}
	}
	if t.Failed() {
		t.Log(yaml)
	}
}

// observation is what came of a request, in lines that can be compared.
type observation struct {
	backend, client map[string]string
}

// observe asks, and normalises what every answer of the two has of its own.
func (w *world) observe(t *testing.T, q asked, ports map[string]string) observation {
	t.Helper()
	w.take()
	a := q.ask(t, ports)
	o := observation{backend: map[string]string{}, client: map[string]string{"status": fmt.Sprint(a.status)}}
	seen := w.take()
	for _, s := range seen {
		o.backend["backend"] += s.backend + " " + s.method + " " + s.target
		o.backend["host"] = w.standardPort(w.named(s.host), ports)
		o.backend["body"] = s.body
		for name, values := range s.header {
			o.backend[name] = w.standardPort(strings.Join(values, ", "), ports)
		}
	}
	for name, values := range a.header {
		o.client[name] = w.public(strings.Join(values, ", "), q, ports)
	}
	switch {
	case a.status >= 301 && a.status <= 308 && strings.HasPrefix(q.url, "http:") && strings.HasPrefix(o.client["Location"], "https://"): // redirect-308
		o.client["status"] = "to https"
		delete(o.client, "Content-Type")
	case a.status >= 300 && !strings.HasPrefix(a.body, "backend "): // own-pages
		delete(o.client, "Content-Type")
	default:
		o.client["body"] = w.public(a.body, q, ports)
	}
	for _, name := range alwaysDifferent {
		delete(o.client, name)
	}
	switch o.client["Content-Type"] { // types
	case "application/javascript":
		o.client["Content-Type"] = "text/javascript"
	case "application/octet-stream":
		delete(o.client, "Content-Type")
	}
	if v := o.client["Content-Type"]; v != "" {
		o.client["Content-Type"] = strings.TrimSuffix(v, "; charset=utf-8") // text-charset
	}
	o.client["Www-Authenticate"] = strings.TrimSuffix(o.client["Www-Authenticate"], `, charset="UTF-8"`) // basic-charset
	if a.status == http.StatusMethodNotAllowed {
		delete(o.client, "Allow") // allow-405
	}
	return o
}

// named puts the names that a file has in place of the addresses of backends.
func (w *world) named(s string) string {
	for name, r := range w.backends {
		if r.address != "" && !strings.HasPrefix(name, "/") && name != "certificate" {
			s = strings.ReplaceAll(s, r.address, "127.0.0.1:"+name)
			s = strings.ReplaceAll(s, strings.Replace(r.address, "127.0.0.1", "localhost", 1), "localhost:"+name)
		}
	}
	return s
}

// standardPort puts the port that a file listens on in place of the one that is listened on.
func (w *world) standardPort(s string, ports map[string]string) string {
	for number, address := range ports {
		_, port, _ := strings.Cut(address, ":")
		s = regexp.MustCompile(`\b`+port+`\b`).ReplaceAllString(s, number)
	}
	return s
}

// public brings URLs of an answer into a form that does not depend on ports, and makes those of the site itself relative.
func (w *world) public(s string, q asked, ports map[string]string) string {
	s = strings.ReplaceAll(w.named(s), w.dir, "")
	for _, address := range ports {
		_, port, _ := strings.Cut(address, ":")
		s = regexp.MustCompile(`(https?://[A-Za-z0-9.-]+):`+port+`\b`).ReplaceAllString(s, "$1")
	}
	scheme, rest, _ := strings.Cut(q.url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return strings.TrimPrefix(s, strings.Replace(scheme, "ws", "http", 1)+"://"+host)
}

// alwaysDifferent are the fields of answers that are each server's own.
var alwaysDifferent = []string{
	"Date", "Server", "Connection", "Keep-Alive", "Content-Length", "Etag", "Accept-Ranges", "Transfer-Encoding", "Vary", "Upgrade", "X-Request-Id", "Last-Modified", "X-Content-Type-Options",
	"Alt-Svc", "Retry-After", "Expires", "Content-Security-Policy", "Referrer-Policy",
}

// toldAnyway are what backends are told by us in any case (told-anyway).
var toldAnyway = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-Ip", "Cdn-Loop", "X-Wstunnel-Id"}

// differences compares theirs with ours.
func (o observation) differences(ours observation) (diffs []string) {
	for _, side := range []struct {
		name         string
		theirs, ours map[string]string
	}{{"the backend", o.backend, ours.backend}, {"the client", o.client, ours.client}} {
		names := map[string]bool{}
		for name := range side.theirs {
			names[name] = true
		}
		for name := range side.ours {
			names[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			theirs, ours := side.theirs[name], side.ours[name]
			if theirs == ours || side.name == "the backend" && (theirs == "" && slices.Contains(toldAnyway, name) || hopField(name, theirs, ours)) {
				continue
			}
			diffs = append(diffs, fmt.Sprintf("  %s: %s: theirs %q, ours %q", side.name, name, theirs, ours))
		}
	}
	return diffs
}

// hopField reports fields that are about the connection to a backend only, of which Upgrade says what it is for.
func hopField(name, theirs, ours string) bool {
	switch name {
	case "Connection", "Keep-Alive":
		return true
	case "X-Forwarded-Server":
		return ours == ""
	case "Content-Length": // no-length
		return theirs == "" && ours == "0"
	}
	return false
}
