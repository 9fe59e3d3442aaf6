package config

import (
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	env := envOf("A", "1", "EMPTY", "", "_x9", "y", "REF", "${A}")
	tests := []struct{ in, out, found string }{
		{"", "", ""},
		{"plain $A $ {A} }", "plain $A $ {A} }", ""},
		{"${A}", "1", ""},
		{"-${A}${_x9}${EMPTY}-", "-1y-", ""},
		{"${REF}", "${A}", ""},
		{"$${A}", "${A}", ""},
		{"a$${b${A}", "a${b1", ""},
		{"$$${A}", "$${A}", ""},
		{"${B}", "", `environment variable "B" is not set`},
		{"${B} ${C}", " ", `"B" is not set|"C" is not set`},
		{"${}", "", `malformed variable "${}"`},
		{"${A", "", `malformed variable "${A"`},
		{"${A:-x}y", "y", `malformed variable "${A:-x}"`},
		{"${9}", "", `malformed variable "${9}"`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			out, _, problems := expand(tt.in, env)
			var found []string
			for _, p := range problems {
				found = append(found, p.found)
			}
			want := strings.Split(tt.found, "|")
			if out != tt.out || (tt.found == "") != (len(found) == 0) {
				t.Fatalf("got %q and %q, want %q and %q", out, found, tt.out, want)
			}
			for i := range found {
				if len(found) != len(want) || !strings.Contains(found[i], want[i]) {
					t.Errorf("got %q, want %q", found, want)
				}
			}
		})
	}
}

func TestVariablesAreReplacedBeforeValuesAreRead(t *testing.T) {
	const text = `
listen: [{address: ":${PORT}", tls: "${NO}"}]
tls: {acme: {ca: "${EMPTY}"}}
shutdown_timeout: ${WAIT}
sites:
  - hosts: ["${HOST}.example"]
    locations: [{path: "~ ^/${HOST}", http: "http://${HOST}.example:${PORT}"}]
`
	cfg, err := Parse("f.yaml", []byte(text), envOf("PORT", "81", "NO", "false", "EMPTY", "", "WAIT", "5s", "HOST", "a"))
	if err != nil {
		t.Fatal(err)
	}
	loc := cfg.Sites[0].Locations[0]
	if cfg.Listen[0].Address != ":81" || cfg.ShutdownTimeout.Seconds() != 5 || cfg.Sites[0].Hosts[0] != "a.example" ||
		loc.Match.Regexp.String() != "^/a" || loc.HTTP.Servers[0].Address != "a.example:81" || loc.HTTP.URL != "http://${HOST}.example:${PORT}" {
		t.Errorf("got %+v, %+v", cfg, loc.HTTP)
	}
}

func TestMistakesNeverShowTheValueOfAVariable(t *testing.T) {
	const secret = "s3cr3t"
	values := []string{
		secret, secret + "(", "~ (" + secret, "http://" + secret, "ws://u:" + secret + "@h/", "https://h.example/?" + secret,
		"/" + secret + "//x", "/%41" + secret, "10.0.0.1/8" + secret, "unix:" + secret, secret + ":99999", "1" + secret,
	}
	for _, value := range values {
		text := `
listen: [{address: "${V}", tls: "${V}"}]
tls: {storage: "${V}\0", acme: {email: "${V}", directory: "${V}", ca: "/${V}"}}
trusted_proxies: ["${V}"]
shutdown_timeout: ${V}
timeouts: {connect: "${V}"}
upstreams: {u: {servers: ["${V}", "${V}x", "${V}x"]}}
sites:
  - hosts: ["${V}:1", "${V}"]
    tls: ${V}
    locations:
      - {path: "${V}", websocket: "${V}", http: "${V}", mode: "${V}", host: "${V}", forwarded: "${V}", tls_ca: "${V}"}
      - {path: "${V}", static: "/${V}"}
  - hosts: [b.example]
    tls: {cert: "/${V}", key: "/${V}"}
    locations: [{path: "~ ${V}", http: {url: "http://${V}", tls_ca: "${V}"}}]
`
		got := mistakes(t, "f.yaml", text, envOf("V", value))
		if strings.Contains(got, secret) || !strings.Contains(got, "${V}") {
			t.Errorf("with %q:\n%s", value, got)
		}
	}
}
