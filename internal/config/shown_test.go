package config

import (
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestNoSecretIsShown: what stands in any place of those below is not seen, and all else is.
func TestNoSecretIsShown(t *testing.T) {
	dir := workDir(t)
	const hash = "sha256:5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"
	write(t, filepath.Join(dir, "included.yaml"), []byte(`# s3cr3t
- hosts: [b.example]
  headers: {request: {set: {X-Key: s3cr3t}}}
  auth_request: http://127.0.0.1:9091/check
  locations: [{path: /, http: "http://127.0.0.1:3"}]
`))
	text := `listen: [{address: ":80"}, {address: ":443", tls: true}] # s3cr3t
include: included.yaml
tls: {acme: {email: me@example.com, eab: {kid: s3cr3t, hmac_key: s3cr3tAA}}}
admin:
  address: 127.0.0.1:9181
  tokens: [{name: ops, hash: "` + hash + `", verbs: [list]}]
sites:
  - hosts: [a.example]
    tls: {auto: on-demand, ask: "http://127.0.0.1:5555/check?s3cr3t"}
    headers: {request: {set: &same {Authorization: Bearer s3cr3t}, add: {X-A: "s3cr3t"}}, response: {set: {X-Seen: yes}}}
    locations:
      - {path: /a, when: {header: {X-Pass: s3cr3t}, cookie: {c: s3cr3t}, query: {q: s3cr3t}}, http: "http://127.0.0.1:1"}
      - {path: /b, http: "http://127.0.0.1:2", headers: {request: {set: *same}}}
      - {path: /c, http: "http://pool"}
      - {path: /d, php: "127.0.0.1:9000", root: ` + dir + `, params: {DB_PASSWORD: s3cr3t, X: "${SET}"}}
upstreams:
  pool: {servers: [127.0.0.1:4], balance: {hash: header X-Sticky}, sticky: {cookie: route, secret: s3cr3ts3cr3ts3cr3ts3cr3ts3cr3ts3cr3t}}
`
	cfg, err := Parse(filepath.Join(dir, "f.yaml"), []byte(text), envOf("SET", "s3cr3t"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := cfg.Shown()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cr3t", "5ec2e7", "AA"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("%s is in\n%s", secret, out)
		}
	}
	for _, seen := range []string{"a.example", "b.example", "me@example.com", "Authorization", "DB_PASSWORD", "X-Seen: yes", "header X-Sticky", "cookie: route", "name: ops", "http://127.0.0.1:5555/check?"} {
		if !strings.Contains(string(out), seen) {
			t.Errorf("%s is not in\n%s", seen, out)
		}
	}
	decoder, n := yaml.NewDecoder(strings.NewReader(string(out))), 0
	for ; ; n++ {
		var doc any
		if decoder.Decode(&doc) != nil {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d documents in\n%s", n, out)
	}
}

// FuzzShown finds configurations that are right and can't be shown, or that show a secret.
func FuzzShown(f *testing.F) {
	f.Add("s3cr3t", `X-A`)
	f.Add("a: b # c", `"`)
	f.Fuzz(func(t *testing.T, secret, name string) {
		value, err := yaml.Marshal(map[string]any{"listen": []any{map[string]any{"address": ":80"}}, "sites": []any{map[string]any{
			"hosts": "a.example", "respond": 200, "headers": map[string]any{"request": map[string]any{"set": map[string]any{name: "<<" + secret + ">>"}}},
		}}})
		if err != nil {
			t.Skip()
		}
		cfg, err := Parse("f.yaml", value, nil)
		if err != nil {
			t.Skip()
		}
		out, err := cfg.Shown()
		if err != nil || strings.Contains(string(out), "<<"+secret+">>") {
			t.Fatalf("%v\n%s", err, out)
		}
		var doc any
		if err := yaml.Unmarshal(out, &doc); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}
