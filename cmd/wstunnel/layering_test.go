package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed says which packages of ours each package may import besides the standard library and modules, and why.
var allowed = map[string]map[string]string{
	"wstunnel/internal/ws":   {},
	"wstunnel/internal/host": {},
	"wstunnel/internal/head": {},
	"wstunnel/internal/roff": {},
	"wstunnel/internal/http1": {
		"wstunnel/internal/head": "what it takes apart becomes heads",
		"wstunnel/internal/host": "a Host is checked",
	},
	"wstunnel/internal/http2": {
		"wstunnel/internal/head": "what it takes apart becomes heads",
		"wstunnel/internal/host": "an :authority is checked",
	},
	"wstunnel/internal/fastcgi": {
		"wstunnel/internal/head":  "what it takes apart becomes heads",
		"wstunnel/internal/http1": "the fields of an answer are those of HTTP/1.1",
	},
	"wstunnel/internal/route": {
		"wstunnel/internal/config": "patterns are its",
	},
	"wstunnel/internal/tags": {
		"wstunnel/internal/head": "they come in heads",
	},
	"wstunnel/internal/rewrite": {
		"wstunnel/internal/config":   "rules, conditions and targets are its",
		"wstunnel/internal/head":     "which become others",
		"wstunnel/internal/host":     "URLs and headers name hosts",
		"wstunnel/internal/route":    "paths become others",
		"wstunnel/internal/tags":     "private fields go nowhere",
		"wstunnel/internal/template": "values have variables",
	},
	"wstunnel/internal/session": {
		"wstunnel/internal/fastcgi": "of backends the other one",
		"wstunnel/internal/head":    "it hands on heads",
		"wstunnel/internal/http1":   "the protocols of its connections",
		"wstunnel/internal/http2":   "of clients the other one",
		"wstunnel/internal/reactor": "its connections",
	},
	"wstunnel/internal/spool": {
		"wstunnel/internal/reactor": "files are written and read beside the loops",
		"wstunnel/internal/session": "what it holds in memory is slow clients'",
	},
	"wstunnel/internal/health": {
		"wstunnel/internal/config":  "how servers are checked is configured",
		"wstunnel/internal/head":    "checks have heads",
		"wstunnel/internal/http1":   "which are written, and answered",
		"wstunnel/internal/reactor": "its clock",
		"wstunnel/internal/ws":      "WebSockets of checks open and close",
	},
	"wstunnel/internal/upstream": {
		"wstunnel/internal/config":  "a target names its servers",
		"wstunnel/internal/head":    "an answer says how long its connection may be kept",
		"wstunnel/internal/health":  "which servers can be used",
		"wstunnel/internal/host":    "server names of TLS are canonical",
		"wstunnel/internal/reactor": "its connections",
		"wstunnel/internal/session": "and what speaks on them",
	},
	"wstunnel/internal/static": {
		"wstunnel/internal/head":    "requests for files have conditions and ranges",
		"wstunnel/internal/reactor": "files are read without waiting for disks",
	},
	"wstunnel/internal/logs":      {},
	"wstunnel/internal/history":   {},
	"wstunnel/internal/dashboard": {},
	"wstunnel/internal/admin": {
		"wstunnel/internal/history": "an overview has the last hour",
	},
	"wstunnel/internal/processes": {
		"wstunnel/internal/admin":   "what it makes of the tunnels of all processes is asked for there",
		"wstunnel/internal/history": "what was counted in them is noted there",
	},
	"wstunnel/internal/metrics":    {},
	"wstunnel/internal/proxyproto": {},
	"wstunnel/internal/template":   {},
	"wstunnel/internal/compress": {
		"wstunnel/internal/head": "Accept-Encoding is a list with weights",
	},
	"wstunnel/internal/access": {
		"wstunnel/internal/host": "origins are compared in one form",
	},
	"wstunnel/internal/config": {
		"wstunnel/internal/access":   "users and origins are checked",
		"wstunnel/internal/head":     "rules name header fields",
		"wstunnel/internal/template": "values have variables",
	},
	"wstunnel/internal/reactor": {},
	"wstunnel/internal/pebble":  {},
	"wstunnel/internal/leaks":   {},
	"wstunnel/internal/tunnel": {
		"wstunnel/internal/ws":      "a tunnel follows frames",
		"wstunnel/internal/reactor": "it runs on an event loop",
	},
	"wstunnel/internal/relay": {
		"wstunnel/internal/head":   "what the client's 101 holds comes from the backend's",
		"wstunnel/internal/http1":  "and is written",
		"wstunnel/internal/ws":     "handshakes are checked and frames followed",
		"wstunnel/internal/tunnel": "it ends as tunnels do",
	},
	"wstunnel/internal/handover": {
		"wstunnel/internal/tunnel":  "tunnels are handed over",
		"wstunnel/internal/ws":      "and where their frames stand",
		"wstunnel/internal/reactor": "what it waits for goes by its clock",
	},
	"wstunnel/internal/probe": {
		"wstunnel/internal/head":     "handshakes and answers have heads",
		"wstunnel/internal/host":     "URLs and headers name hosts",
		"wstunnel/internal/http1":    "what answers is taken apart as answers of backends are",
		"wstunnel/internal/upstream": "a server that speaks no HTTP is found out as backends are",
		"wstunnel/internal/ws":       "101s and frames are checked",
	},
	"wstunnel/internal/migrate": {},
	"wstunnel/internal/demo": {
		"wstunnel/internal/config": "the demo is a configuration",
	},
	"wstunnel/tls": {
		"wstunnel/internal/config": "sites say where their certificates come from",
		"wstunnel/internal/host":   "server names and sites' hosts are compared in one form",
	},
	"wstunnel/proxy": {
		"wstunnel/internal/config":     "routes are compiled from it",
		"wstunnel/internal/proxyproto": "connections may begin with its headers",
		"wstunnel/internal/logs":       "requests and tunnels have their lines",
		"wstunnel/internal/metrics":    "and are counted",
		"wstunnel/internal/health":     "what is told of servers says how they do",
		"wstunnel/internal/host":       "Host headers and sites' hosts are compared in one form",
		"wstunnel/internal/head":       "heads are rewritten",
		"wstunnel/internal/fastcgi":    "targets that do not speak it are told of",
		"wstunnel/internal/http1":      "and written to backends",
		"wstunnel/internal/http2":      "windows grow out of its budget",
		"wstunnel/internal/rewrite":    "what becomes of them",
		"wstunnel/internal/tags":       "backends say whose tunnels are",
		"wstunnel/internal/route":      "paths lead to locations",
		"wstunnel/internal/session":    "requests and answers on event loops",
		"wstunnel/internal/spool":      "bodies of slow clients wait in files",
		"wstunnel/internal/static":     "files are answers",
		"wstunnel/internal/access":     "who may ask",
		"wstunnel/internal/compress":   "answers are compressed",
		"wstunnel/internal/template":   "values have variables",
		"wstunnel/internal/upstream":   "requests go to its servers",
		"wstunnel/internal/ws":         "handshakes are checked",
		"wstunnel/internal/tunnel":     "an upgraded connection becomes one",
		"wstunnel/internal/relay":      "or is relayed message by message",
		"wstunnel/internal/handover":   "tunnels go to another process, and come from one",
		"wstunnel/internal/reactor":    "clients are let in on event loops",
	},
	"wstunnel/bench": {}, // it measures the binary from outside
	"wstunnel/soak": {
		"wstunnel/internal/ws": "frames",
	},
	"wstunnel/cmd/wstunnel": {
		"wstunnel/internal/admin":     "how a running server is spoken to",
		"wstunnel/internal/config":    "commands load it",
		"wstunnel/internal/demo":      "the demo command",
		"wstunnel/internal/handover":  "a new binary takes over from the one that runs",
		"wstunnel/internal/probe":     "the probe command; headers of a command line",
		"wstunnel/internal/processes": "tunnels of older processes are asked for, and spoken into, too",
		"wstunnel/internal/history":   "what was counted is written down for an hour",
		"wstunnel/internal/logs":      "where the server's own log goes",
		"wstunnel/internal/migrate":   "the import command",
		"wstunnel/internal/roff":      "manual pages",
		"wstunnel/proxy":              "the server",
		"wstunnel/tls":                "its certificates",
		"wstunnel/internal/metrics":   "numbers for monitoring",
		"wstunnel/internal/dashboard": "the page over TCP",
		"wstunnel/internal/upstream":  "what a server of one tells is told on",
	},
}

// forbidden are imports that a package must do without.
var forbidden = map[string][]string{
	// It joins our package tls with others; importing crypto/tls too would need an alias for one of them.
	"wstunnel/cmd/wstunnel": {"crypto/tls"},
	// It knows bytes and does no I/O.
	"wstunnel/internal/ws":         {"net", "os", "syscall"},
	"wstunnel/internal/host":       {"net", "os", "syscall"},
	"wstunnel/internal/head":       {"net", "os", "syscall"},
	"wstunnel/internal/route":      {"net", "os", "syscall"},
	"wstunnel/internal/rewrite":    {"net", "os", "syscall"},
	"wstunnel/internal/tags":       {"net", "os", "syscall"},
	"wstunnel/internal/http1":      {"net", "os", "syscall"},
	"wstunnel/internal/http2":      {"net", "os", "syscall"},
	"wstunnel/internal/fastcgi":    {"net", "os", "syscall"},
	"wstunnel/internal/proxyproto": {"net", "os", "syscall"},
	"wstunnel/internal/migrate":    {"net", "os", "syscall"},
	"wstunnel/internal/roff":       {"net", "os", "syscall"},
}

func TestPackagesImportOnlyWhatTheirRoomAllows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "wstunnel/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&pkg); err != nil {
			t.Fatal(err)
		}
		if len(pkg.Imports) == 0 {
			continue // tests only
		}
		rules, known := allowed[pkg.ImportPath]
		if !known {
			t.Errorf("%s has no line in the table of rooms", pkg.ImportPath)
		}
		for _, imported := range pkg.Imports {
			if slices.Contains(forbidden[pkg.ImportPath], imported) {
				t.Errorf("%s imports %s", pkg.ImportPath, imported)
			}
			if _, ok := rules[imported]; strings.HasPrefix(imported, "wstunnel/") && !ok {
				t.Errorf("%s imports %s", pkg.ImportPath, imported)
			}
		}
	}
}
