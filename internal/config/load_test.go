package config

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// The contract: the keys and meanings that the documentation promises.
const contract = `
listen:
  - address: ":80"
  - address: ":443"
    tls: true
tls:
  storage: /var/lib/wstunnel/certs     # directory: certificates, account key
  acme:
    email: admin@example.com
    directory: https://acme-v02.api.letsencrypt.org/directory
    ca: ""                             # PEM file: extra root for a private ACME server
sites:
  - hosts: [example.com, www.example.com]   # "*.example.com"; "_" answers when nothing else does
    tls: auto                          # auto | self-signed | {cert: FILE, key: FILE} | off
                                       # self-signed: by a local CA, for each name asked (SNI), "_" included
    redirect_https: true
    locations:
      - path: /ws                      # a prefix, on a segment boundary: /ws, /ws/, /ws/x; not /wsx
        websocket: ws://127.0.0.1:9000 # upgrade requests
      - path: /socket.io/              # one path may have both: long-polling and the socket
        websocket: ws://127.0.0.1:3000
        http: http://127.0.0.1:3000
      - path: /assets/
        static: ASSETS
      - path: /
        http: http://127.0.0.1:8080
upstreams:
  chat:                                # then websocket: ws://chat
    servers: [127.0.0.1:9000, 127.0.0.1:9001]
`

func TestContract(t *testing.T) {
	dir := filepath.Join(workDir(t), "dir")
	got := mustParse(t, "wstunnel.yaml", strings.Replace(contract, "ASSETS", dir, 1))
	timeouts := Timeouts{10 * time.Second, 75 * time.Second, 5 * time.Second, time.Minute, time.Minute, 10 * time.Second, time.Hour}
	location := func(line int, path string) Location {
		return Location{
			Pos: Pos{line, 9}, Match: Match{Path: path}, RewriteResponses: true, Timeouts: timeouts,
			SlowClients: SlowClients{Buffer: Buffer{64 << 10, 1 << 20}, MinRate: 1 << 10, SpoolMax: 1 << 30},
		}
	}
	target := func(line, col int, scheme, address string) *Target {
		return &Target{
			Pos: Pos{line, col}, URL: scheme + "://" + address, Scheme: scheme, Host: address,
			Servers: []Server{{Network: "tcp", Address: address}}, TLSVerify: true, KeepAlive: 16,
		}
	}
	ws, io, assets, root := location(18, "/ws"), location(20, "/socket.io/"), location(23, "/assets/"), location(25, "/")
	ws.WebSocket = target(19, 20, "ws", "127.0.0.1:9000")
	io.WebSocket = target(21, 20, "ws", "127.0.0.1:3000")
	io.HTTP = target(22, 15, "http", "127.0.0.1:3000")
	assets.Static = dir
	root.HTTP = target(26, 15, "http", "127.0.0.1:8080")
	want := &Config{
		File:   "wstunnel.yaml",
		Files:  []string{"wstunnel.yaml"},
		texts:  [][]byte{[]byte(strings.Replace(contract, "ASSETS", dir, 1))},
		Listen: []Listener{{Pos: Pos{3, 5}, Address: ":80"}, {Pos: Pos{4, 5}, Address: ":443", TLS: true}},
		TLS: TLS{
			Storage: "/var/lib/wstunnel/certs",
			ACME:    ACME{Email: "admin@example.com", Directory: "https://acme-v02.api.letsencrypt.org/directory"},
		},
		ShutdownTimeout: 30 * time.Second, Drain: Drain{Code: 1001}, Admin: Admin{Mode: 0o660, Group: -1},
		Timeouts: timeouts,
		Limits:   Limits{RelayMemory: 256 << 20, BufferMemory: 256 << 20, SpoolSpace: 16 << 30},
		Sites: []Site{{
			Pos: Pos{13, 5}, Hosts: []string{"example.com", "www.example.com"}, RedirectHTTPS: true,
			TLS: SiteTLS{Pos: Pos{14, 10}, Mode: TLSAuto}, Locations: []Location{ws, io, assets, root},
		}},
		Upstreams: []Upstream{{
			Pos: Pos{28, 3}, Name: "chat", KeepAlive: 16, Balancing: Balancing{Resolve: DefaultResolve},
			Servers: []Server{{Network: "tcp", Address: "127.0.0.1:9000", Weight: 1}, {Network: "tcp", Address: "127.0.0.1:9001", Weight: 1}},
			Health:  Health{SlowStart: 30 * time.Second},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	got := mustParse(t, "f.yaml", siteWith("http: http://127.0.0.1:1"))
	site := got.Sites[0]
	if got.TLS != defaultTLS() || got.TLS.Storage == "" || got.TLS.ACME.Directory == "" || got.Timeouts != defaultTimeouts() ||
		got.ShutdownTimeout != 30*time.Second || len(got.TrustedProxies) != 0 || len(got.Upstreams) != 0 || got.Listen[0].TLS {
		t.Errorf("got %+v", got)
	}
	if site.TLS.Mode != TLSOff || site.TLS.Pos != site.Pos || site.RedirectHTTPS {
		t.Errorf("got %+v", site)
	}
	loc := site.Locations[0]
	if loc.Mode != ModeTunnel || loc.BackendHost || !loc.RewriteResponses || loc.Forwarded || loc.Timeouts != got.Timeouts ||
		loc.Static != "" || loc.WebSocket != nil {
		t.Errorf("got %+v", loc)
	}
}

// TestExample also keeps the example complete: a key that the parser knows and the example
// lacks is a key that nobody finds.
func TestExample(t *testing.T) {
	data, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := certificate(t)
	write(t, filepath.Join(dir, "etc/internal-ca.pem"), cert)
	write(t, filepath.Join(dir, "etc/clients-ca.pem"), cert)
	for _, name := range []string{"example.net", "example.net-rsa"} {
		write(t, filepath.Join(dir, "etc", name+".pem"), cert)
		write(t, filepath.Join(dir, "etc", name+".key"), key)
	}
	for _, name := range []string{"404.html", "sorry.html"} {
		write(t, filepath.Join(dir, "etc", name), []byte("x"))
	}
	write(t, filepath.Join(dir, "etc", "users"), []byte("alice:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n"))
	for _, name := range []string{"www/assets", "www/default", "www/html", "www/blog", "www/wordpress"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("/etc/wstunnel/", dir+"/etc/", "/var/www/", dir+"/www/", "/var/log/wstunnel/", dir+"/", "/run/wstunnel/", dir+"/").Replace(string(data))
	cfg := mustParse(t, "config.example.yaml", text)
	if cfg.Timeouts != defaultTimeouts() || cfg.ShutdownTimeout != 30*time.Second || cfg.TLS.Storage != defaultTLS().Storage ||
		cfg.TLS.ACME.Directory != defaultTLS().ACME.Directory {
		t.Error("the example calls something a default that is none")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	collectKeys(doc.Content[0], inFile, seen)
	for _, kind := range []string{
		inFile, inListener, inTLS, inACME, inEAB, inTimeouts, inSite, inSiteTLS, inLocation,
		inLocationTimeouts, inTarget, inUpstream, inAccessLog, inBuffer, inHeaders, inRequestRules, inResponseRules, inRedirect, inRespond,
		inRewrite, inWhen, inBasicAuth, inAuthRequest, inCompress, inDrain, inAdmin, inServer, inBalance, inSticky,
	} {
		for _, key := range keysOf(kind) {
			anywhere := slices.Contains(ruleKeys, key) || slices.Contains(shortKeys, key)
			if !seen[kind+" "+key] && !(anywhere && (seen[inFile+" "+key] || seen[inSite+" "+key] || seen[inLocation+" "+key])) {
				t.Errorf("the example has no %q in %s", key, kind)
			}
		}
	}
}

// collectKeys notes the keys of a mapping, each after the mapping's kind, and of those in it.
func collectKeys(n *yaml.Node, kind string, seen map[string]bool) {
	inside := map[string]string{
		inFile + " listen": inListener, inFile + " tls": inTLS, inTLS + " acme": inACME, inACME + " eab": inEAB,
		inFile + " timeouts": inTimeouts, inFile + " sites": inSite, inSite + " tls": inSiteTLS,
		inSite + " access_log": inAccessLog, inFile + " buffer": inBuffer,
		inSite + " locations": inLocation, inLocation + " timeouts": inLocationTimeouts,
		inLocation + " websocket": inTarget, inLocation + " http": inTarget,
		inFile + " upstreams": "names", "names chat": inUpstream, "names rooms": inUpstream,
		"names assets": inUpstream, inUpstream + " servers": inServer, inUpstream + " balance": inBalance, inUpstream + " sticky": inSticky, inFile + " headers": inHeaders, inHeaders + " request": inRequestRules,
		inHeaders + " response": inResponseRules, inFile + " compress": inCompress, inFile + " drain": inDrain, inFile + " admin": inAdmin, inLocation + " redirect": inRedirect,
		inLocation + " respond": inRespond, inLocation + " rewrite": inRewrite, inLocation + " when": inWhen,
		inLocation + " basic_auth": inBasicAuth, inLocation + " auth_request": inAuthRequest,
	}
	for _, item := range n.Content {
		if n.Kind == yaml.SequenceNode {
			collectKeys(item, kind, seen)
		}
	}
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		key := kind + " " + n.Content[i].Value
		seen[key] = true
		if inner := inside[key]; inner != "" {
			collectKeys(n.Content[i+1], inner, seen)
		}
	}
}

func TestLocationTimeoutsGoOverTheGlobalOnes(t *testing.T) {
	cfg := mustParse(t, "f.yaml", "timeouts: {connect: 1s, tunnel_idle: 2h}\n"+
		siteWith("http: http://127.0.0.1:1", "timeouts: {connect: 2s, handshake: 500ms}"))
	want := defaultTimeouts()
	want.Connect, want.TunnelIdle, want.Handshake = 2*time.Second, 2*time.Hour, 500*time.Millisecond
	if got := cfg.Sites[0].Locations[0].Timeouts; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if cfg.Timeouts.Connect != time.Second || cfg.Timeouts.Handshake != 10*time.Second {
		t.Errorf("global: %+v", cfg.Timeouts)
	}
}

func TestLocationOptions(t *testing.T) {
	cfg := mustParse(t, "f.yaml", siteWith("websocket: ws://127.0.0.1:1", "mode: relay", "host: backend", "rewrite_responses: false", "forwarded: true"))
	if loc := cfg.Sites[0].Locations[0]; loc.Mode != ModeRelay || !loc.BackendHost || loc.RewriteResponses || !loc.Forwarded {
		t.Errorf("got %+v", loc)
	}
}

func TestTrustedProxies(t *testing.T) {
	cfg := mustParse(t, "f.yaml", "trusted_proxies: [10.0.0.0/8, 192.0.2.1, '2001:db8::/32', '::1', '::ffff:192.0.2.2']\n"+siteWith("http: http://127.0.0.1:1"))
	var got []string
	for _, p := range cfg.TrustedProxies {
		got = append(got, p.String())
	}
	if want := []string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128", "192.0.2.2/32"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSiteTLSModes(t *testing.T) {
	dir := workDir(t)
	pair := func(col int, name string) CertPair {
		return CertPair{Pos{6, col}, filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
	}
	for written, want := range map[string]SiteTLS{
		"auto":                      {Mode: TLSAuto},
		"self-signed":               {Mode: TLSSelfSigned},
		"off":                       {Mode: TLSOff},
		`"off"`:                     {Mode: TLSOff},
		"!!str off":                 {Mode: TLSOff},
		"{cert: a.pem, key: a.key}": {Mode: TLSFiles, Pairs: []CertPair{pair(10, "a")}},
		"{cert: ./dir/../b.pem, key: " + dir + "/b.key}":         {Mode: TLSFiles, Pairs: []CertPair{pair(10, "b")}},
		"[{cert: a.pem, key: a.key}, {cert: b.pem, key: b.key}]": {Mode: TLSFiles, Pairs: []CertPair{pair(11, "a"), pair(38, "b")}},
		"{auto: on-demand, ask: 'http://127.0.0.1:5555/check'}":  {Mode: TLSAuto, OnDemand: true, Ask: "http://127.0.0.1:5555/check"},
	} {
		cfg := mustParse(t, filepath.Join(dir, "f.yaml"), `
listen: [{address: ":80"}, {address: ":443", tls: true}]
sites:
  - hosts: a.example
    locations: [{path: /, http: "http://127.0.0.1:1"}]
    tls: `+written+`
  - {hosts: b.example, tls: self-signed, locations: [{path: /, http: "http://127.0.0.1:1"}]}
`)
		want.Pos = Pos{6, 10}
		if got := cfg.Sites[0].TLS; !reflect.DeepEqual(got, want) {
			t.Errorf("tls: %s: got %+v, want %+v", written, got, want)
		}
	}
}

func TestSecurityOfASite(t *testing.T) {
	dir := workDir(t)
	cfg := mustParse(t, filepath.Join(dir, "f.yaml"), `
listen: [{address: ":80"}, {address: ":443", tls: true}]
tls: {acme: {eab: {kid: key-1, hmac_key: aGVsbG8_aGVsbG8=}}}
sites:
  - {hosts: a.example, tls: auto, hsts: 180d, min_version: 1.3, client_ca: a.pem, locations: [{path: /, http: "http://127.0.0.1:1"}]}
  - {hosts: "*.b.example", tls: {auto: on-demand, ask: "http://127.0.0.1:1/"}, hsts: 36h, locations: [{path: /, http: "http://127.0.0.1:1"}]}
`)
	site := cfg.Sites[0]
	if site.HSTS != 180*24*time.Hour || site.MinVersion != tls.VersionTLS13 || site.ClientCAs == nil || site.ClientCA != filepath.Join(dir, "a.pem") {
		t.Errorf("got %+v", site)
	}
	if got := cfg.Sites[1].HSTS; got != 36*time.Hour {
		t.Errorf("hsts: 36h became %v", got)
	}
	if want := (EAB{KID: "key-1", HMACKey: "hello?hello"}); cfg.TLS.ACME.EAB != want {
		t.Errorf("got %+v", cfg.TLS.ACME.EAB)
	}
}

func TestPortZeroMayRepeat(t *testing.T) {
	cfg := mustParse(t, "f.yaml", `
listen: [{address: "127.0.0.1:0"}, {address: "127.0.0.1:0"}]
sites: [{hosts: a.example, locations: [{path: /, http: "http://127.0.0.1:1"}]}]
`)
	if len(cfg.Listen) != 2 {
		t.Errorf("got %+v", cfg.Listen)
	}
}

func TestAliasesAndMergeKeys(t *testing.T) {
	cfg := mustParse(t, "f.yaml", `
listen: [{address: &addr ":80"}, {address: ":81"}]
sites:
  - hosts: [a.example]
    locations: &locations
      - &base
        path: /a
        http: &backend http://127.0.0.1:1
        forwarded: true
        timeouts: &slow {connect: 9s, handshake: 8s}
      - {path: /b, <<: *base, host: backend}
      - path: /c
        <<: [{http: *backend, forwarded: false}, *base]
        timeouts: {<<: *slow, handshake: 7s}
  - {hosts: [b.example], locations: *locations}
`)
	a, b := cfg.Sites[0].Locations, cfg.Sites[1].Locations
	if !reflect.DeepEqual(a, b) || len(a) != 3 {
		t.Fatalf("got %+v and %+v", a, b)
	}
	if a[1].Match.Path != "/b" || a[1].HTTP.Host != "127.0.0.1:1" || !a[1].Forwarded || !a[1].BackendHost || a[1].Timeouts.Connect != 9*time.Second {
		t.Errorf("one merged: %+v", a[1])
	}
	if a[2].Forwarded || a[2].HTTP == nil || a[2].Timeouts.Connect != 9*time.Second || a[2].Timeouts.Handshake != 7*time.Second {
		t.Errorf("two merged: %+v", a[2])
	}
}

func TestErrorsAreInFileOrderAndOnce(t *testing.T) {
	errs := Errors{{Line: 3, Col: 1, Found: "c"}, {Line: 1, Col: 9, Found: "b"}, {Line: 3, Col: 1, Found: "c"}, {Line: 1, Col: 2, Found: "a"}}
	var got []string
	for _, err := range errs.inFileOrder() {
		got = append(got, err.Found)
	}
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %v", got)
	}
}

func TestLoad(t *testing.T) {
	dir := workDir(t)
	file := filepath.Join(dir, "wstunnel.yaml")
	t.Setenv("WSTUNNEL_TEST_HOST", "a.example")
	write(t, file, []byte("listen: [{address: ':80'}]\nsites: [{hosts: '${WSTUNNEL_TEST_HOST}', locations: [{path: /, static: dir}]}]\n"))
	cfg, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.File != file || cfg.Sites[0].Hosts[0] != "a.example" || cfg.Sites[0].Locations[0].Static != filepath.Join(dir, "dir") {
		t.Errorf("got %+v", cfg)
	}

	write(t, file, []byte("listen: 1\n"))
	var errs Errors
	if _, err := Load(file); !errors.As(err, &errs) || errs[0].File != file {
		t.Errorf("bad file: got %v", err)
	}
	_, err = Load(filepath.Join(dir, "none.yaml"))
	if !errors.Is(err, fs.ErrNotExist) || errors.As(err, &errs) {
		t.Errorf("no file: got %v", err)
	}
}

func TestRelativeFilesStartAtTheFilesDirectory(t *testing.T) {
	dir := workDir(t)
	t.Chdir(dir)
	cfg := mustParse(t, "dir/f.yaml", "tls: {storage: certs, acme: {ca: ../a.pem}}\n"+siteWith("http: {url: https://a.example, tls_ca: ../b.pem}"))
	got := []string{cfg.TLS.Storage, cfg.TLS.ACME.CA, cfg.Sites[0].Locations[0].HTTP.CAFile}
	for i, want := range []string{"dir/certs", "a.pem", "b.pem"} {
		if got[i] != filepath.Join(dir, want) {
			t.Errorf("got %s, want %s in %s", got[i], want, dir)
		}
	}
}

func TestNearest(t *testing.T) {
	words := map[string]string{
		"websockt": "websocket", "webscoket": "websocket", "Host": "host", "rewrite-responses": "rewrite_responses",
		"tls_cert": "", "x": "", "": "", "proxy_pass": "", "statics": "static", "pth": "path",
	}
	for _, word := range slices.Sorted(maps.Keys(words)) {
		if got := nearest(word, keysOf(inLocation)); got != words[word] {
			t.Errorf("%q: got %q, want %q", word, got, words[word])
		}
	}
}

func TestKeyFileThatOthersMayWriteIsAMistake(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t)
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "listen: [{address: ':443', tls: true}]\nsites: [{hosts: [a.example], tls: {cert: cert.pem, key: key.pem}, locations: [{path: /, http: 'http://127.0.0.1:1'}]}]\n"
	name := filepath.Join(dir, "wstunnel.yaml")
	if got := mistakes(t, name, text, noEnv); got != "" {
		t.Fatal(got)
	}
	if err := os.Chmod(filepath.Join(dir, "key.pem"), 0o602); err != nil {
		t.Fatal(err)
	}
	want := name + `:2:57: every user of this machine may write the key file "key.pem"; a key file that only its owner writes: chmod o-w`
	if got := mistakes(t, name, text, noEnv); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestConnectionsToServers(t *testing.T) {
	cfg := mustParse(t, "f.yaml", `listen: [{address: ":80"}]
sites:
  - hosts: [a.example]
    locations:
      - {path: /plain, http: "http://127.0.0.1:1"}
      - {path: /off, http: {url: "http://127.0.0.1:1", keepalive: off}}
      - {path: /upstream, http: "http://few"}
      - {path: /both, http: {url: "http://few", keepalive: 9}}
      - {path: /slow, http: "http://slow"}
upstreams:
  few: {servers: ["127.0.0.1:2"], keepalive: 3, max_connections: 25}
  slow: {servers: ["127.0.0.1:2"], max_connections: 2, queue: 1m}
`)
	for i, want := range []Target{
		{KeepAlive: 16},
		{KeepAlive: 0},
		{KeepAlive: 3, MaxConnections: 25, Queue: 30 * time.Second},
		{KeepAlive: 9, MaxConnections: 25, Queue: 30 * time.Second},
		{KeepAlive: 16, MaxConnections: 2, Queue: time.Minute},
	} {
		got := cfg.Sites[0].Locations[i].HTTP
		if got.KeepAlive != want.KeepAlive || got.MaxConnections != want.MaxConnections || got.Queue != want.Queue {
			t.Errorf("%s: got %+v", got.URL, got)
		}
	}
}

// TestControlSocketLetsThoseInWhoAreNamed: its mode, where none is said.
func TestControlSocketLetsThoseInWhoAreNamed(t *testing.T) {
	const site, named = "sites: [{hosts: [a.example], respond: 200}]\n", "sites: [{hosts: [a.example], admin: {allow: root}, respond: 200}]\n"
	for _, c := range []struct {
		admin, sites string
		mode         os.FileMode
		group        int
	}{
		{"", site, 0o660, -1},
		{"admin: {}\n", site, 0o660, -1},
		{"admin: {allow: [1001, root]}\n", site, 0o666, -1},
		{"", named, 0o666, -1},
		{"admin: {group: 33}\n", named, 0o660, 33},
		{"admin: {mode: 0600, allow: [1001]}\n", named, 0o600, -1},
		{"admin: {mode: \"0620\", group: root}\n", site, 0o620, 0},
	} {
		cfg := mustParse(t, "f.yaml", "listen: [{address: \":80\"}]\n"+c.admin+c.sites)
		if cfg.Admin.Mode != c.mode || cfg.Admin.Group != c.group {
			t.Errorf("%s%s: mode %o, group %d", c.admin, c.sites, cfg.Admin.Mode, cfg.Admin.Group)
		}
	}
}
