//go:build linux

package main_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gorilla/websocket"
)

// other is who is not root: www-data on Debian.
const other = 33

// twoSites is a configuration with a control socket that others find, and two sites whose backend says whose tunnels are.
func twoSites(t *testing.T, admin, ofA string) string {
	t.Helper()
	yaml := withSocket(t, "")
	if err := os.Chmod(filepath.Dir(socketOf(yaml)), 0o755); err != nil {
		t.Fatal(err)
	}
	backend := startTagging(t)
	return strings.Replace(yaml, "}\n", admin+"}\n", 1) + `listen: [{address: "127.0.0.1:0"}]
sites:
  - hosts: [a.example, www.a.example]
    locations: [{path: /, websocket: "ws://` + backend + `"}]
    ` + ofA + `
  - {hosts: [b.example], locations: [{path: /, websocket: "ws://` + backend + `"}]}
`
}

// openAt opens a WebSocket of a host.
func (f *front) openAt(t *testing.T, host, path string) socket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+f.http+path, http.Header{"Host": {host}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return socket{conn, t}
}

// asOther runs a program as another user and returns what it prints.
func asOther(t *testing.T, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// otherSays has a PHP page of another user send lines, and requires how their answers begin.
func otherSays(t *testing.T, yaml string, pairs ...string) {
	t.Helper()
	args := []string{"php", "-r", `
$w = stream_socket_client('unix://' . $argv[1], $no, $error, 20) or exit($error);
foreach (array_slice($argv, 2) as $line) { fwrite($w, "$line\n"); echo fgets($w); }`, socketOf(yaml)}
	for i := 0; i < len(pairs); i += 2 {
		args = append(args, pairs[i])
	}
	answers := strings.Split(asOther(t, args...), "\n")
	for i := 0; i < len(pairs); i += 2 {
		if n := i / 2; n >= len(answers) || !strings.HasPrefix(answers[n], pairs[i+1]) {
			t.Errorf("%q is answered with %q, want %q", pairs[i], answers, pairs[i+1])
		}
	}
}

// otherAsks has curl of another user ask, and returns status and body.
func otherAsks(t *testing.T, yaml, method, target string, more ...string) (status, body string) {
	t.Helper()
	args := append([]string{"curl", "-s", "-m", "20", "-X", method, "-w", "\n%{http_code}", "--unix-socket", socketOf(yaml), "http://wstunnel" + target}, more...)
	out := asOther(t, args...)
	end := strings.LastIndexByte(out, '\n')
	return out[end+1:], out[:end]
}

func TestUserOfASiteReachesItsTunnelsOnly(t *testing.T) {
	yaml := twoSites(t, "", "admin: {allow: [33]}")
	f := startFront(t, yaml)
	a := f.openAt(t, "www.a.example", "/?user=anna&groups=lobby")
	b := f.openAt(t, "b.example", "/?user=anna&groups=lobby")
	c := controlOf(t, yaml)
	all := c.awaitTunnels(2)
	idA, idB := all.Tunnels[0].ID, all.Tunnels[1].ID
	otherSays(t, yaml,
		"COUNT", "OK 1",
		"SEND USER anna hello", "OK 1",
		"SEND GROUP lobby you all", "OK 1",
		"SEND MESSAGE "+idA+" one", "OK 1",
		"SEND MESSAGE "+idB+" one", "ERR 404 no such tunnel",
		"JOIN "+idB+" x", "ERR 404 ",
		"LEAVE "+idB+" lobby", "ERR 404 ",
		"KICK "+idB, "ERR 404 ",
		"JOIN "+idA+" x", "OK 1",
		"DRAIN", "ERR 403 user 33 may not manage: what is granted is group, kick, list, send",
	)
	for _, want := range []string{"hello", "you all", "one"} {
		a.says(t, want)
	}
	for _, r := range []struct{ status, method, target string }{
		{"200", "GET", "/v1/tunnels/" + idA},
		{"404", "GET", "/v1/tunnels/" + idB},
		{"404", "DELETE", "/v1/tunnels/" + idB},
		{"404", "PUT", "/v1/tunnels/" + idB + "/groups/x"},
		{"404", "POST", "/v1/tunnels/" + idB + "/messages"},
		{"403", "GET", "/v1/status"},
		{"403", "POST", "/v1/reload"},
		{"403", "POST", "/v1/drain"},
		{"403", "POST", "/v1/upgrade"},
	} {
		body := []string{}
		if strings.HasSuffix(r.target, "drain") {
			body = []string{"-d", `{"site":"a.example"}`}
		}
		if status, text := otherAsks(t, yaml, r.method, r.target, body...); status != r.status {
			t.Errorf("%s %s: %s %s, want %s", r.method, r.target, status, text, r.status)
		}
	}
	for _, site := range []string{"b.example", "nobody"} { // the same, be it there or not
		status, text := otherAsks(t, yaml, "GET", "/v1/tunnels?site="+site)
		if want := `{"errors":["there is no site \"` + site + `\" among those of user 33"]}`; status != "404" || strings.TrimSpace(text) != want {
			t.Errorf("%s: %s %s", site, status, text)
		}
	}
	if status, text := otherAsks(t, yaml, "GET", "/v1/certificates"); status != "200" || strings.Contains(text, f.config) || strings.Contains(text, "b.example") {
		t.Errorf("of certificates it is told %s %s", status, text)
	}
	for query, n := range map[string]int{"": 1, "?site=www.a.example": 1, "?user=anna": 1} {
		if _, text := otherAsks(t, yaml, "GET", "/v1/tunnels"+query); len(decode[listed](t, text).Tunnels) != n {
			t.Errorf("%s: %s", query, text)
		}
	}
	if status, text := otherAsks(t, yaml, "POST", "/v1/push", "-d", `{"to":{"ids":["`+idB+`"],"users":["anna"],"groups":["lobby"]},"text":"pushed"}`); status != "200" ||
		!strings.Contains(text, `"matched":1,`) {
		t.Errorf("a push: %s %s", status, text)
	}
	a.says(t, "pushed")
	f.awaitLog(t, 0, "ordered from outside", "who", "user 33", "order", "push", "n", 1)
	f.awaitLog(t, 0, "ordered from outside", "who", "user 33", "order", "send user", "n", 1, "to", "anna")
	if strings.Contains(f.out.String(), "you all") {
		t.Error("the log has what was said")
	}
	// Nothing of all this reached the other site, whose tunnel reads what is for it.
	dialLines(t, yaml).says("SEND USER anna for both", "OK 2")
	b.says(t, "for both")
	f.reload(t, strings.Replace(yaml, "admin: {allow: [33]}", "access_log: off", 1), reloaded)
	if info, err := os.Stat(socketOf(yaml)); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("after a reload: %v, %v", info.Mode(), err)
	}
	if out := asOther(t, "php", "-r", `echo @stream_socket_client('unix://' . $argv[1]) ? "in" : "out";`, socketOf(yaml)); out != "out" {
		t.Errorf("who is named no more is %s", out)
	}
}

func TestReloadChangesWhoMay(t *testing.T) {
	yaml := twoSites(t, ", mode: \"0666\"", "access_log: off")
	f := startFront(t, yaml)
	otherSays(t, yaml, "COUNT", "ERR 403 user 33 may not; root may, and whom admin.allow names")
	if status, body := otherAsks(t, yaml, "GET", "/v1/status"); status != "403" || !strings.Contains(body, "user 33 may not") {
		t.Errorf("%s %s", status, body)
	}
	allowed := strings.Replace(yaml, `mode: "0666"`, `allow: [33]`, 1)
	f.reload(t, allowed, reloaded)
	otherSays(t, yaml, "COUNT", "OK 0")
	if status, body := otherAsks(t, yaml, "GET", "/v1/status"); status != "200" {
		t.Errorf("%s %s", status, body)
	}
	if status, body := otherAsks(t, yaml, "GET", "/v1/status", "-H", "Origin: http://wstunnel"); status != "403" || !strings.Contains(body, "Origin") {
		t.Errorf("with an Origin: %s %s", status, body)
	}
	if status, body := otherAsks(t, yaml, "POST", "/v1/drain", "-d", "{}"); status != "200" {
		t.Errorf("a drain: %s %s", status, body)
	}
	f.awaitLog(t, 0, "ordered from outside", "who", "user 33", "order", "drain")
	f.reload(t, strings.Replace(yaml, `mode: "0666"`, `group: 33`, 1), reloaded)
	info, err := os.Stat(socketOf(yaml))
	if err != nil || info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != other {
		t.Errorf("with a group: %v, %v", info, err)
	}
	otherSays(t, yaml, "COUNT", "ERR 403 user 33 may not")
}

// TestGroupOfTheSocketIsTheServersToGive: a start fails with what is to be done.
func TestGroupOfTheSocketIsTheServersToGive(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	yaml := twoSites(t, ", group: 33", "access_log: off")
	dir := filepath.Dir(socketOf(yaml))
	file := filepath.Join(dir, "config.yaml")
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(file, []byte(yaml), 0o644)); err != nil {
		t.Fatal(err)
	}
	p := start(t, unprivileged(t, dir, "run", file))
	if code := p.wait(t); code != 1 || !strings.Contains(p.out.String(), "operation not permitted: the server has to be a member of group 33") {
		t.Errorf("exit code %d, %s", code, p.out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "control.sock*")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// hashOf is a token as the configuration knows it.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// askWeb asks at admin.address.
func askWeb(t *testing.T, method, address, target string, fields map[string]string, body string) (status int, text string, header http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+address+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		r.Header.Set(name, value)
	}
	if host := fields["Host"]; host != "" {
		r.Host = host
	}
	resp, err := newClient(nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all), resp.Header
}

func TestTokensOverTCP(t *testing.T) {
	made := map[string]string{} // tokens by their names
	var tokens []string
	for _, rest := range []string{"name: all, verbs: [list, send, group, kick, manage]", "name: look", "name: of-a, sites: [www.a.example], verbs: [list, send, manage]"} {
		out, err := wstunnel(t, "token").Output()
		token, hash, ok := strings.Cut(strings.TrimPrefix(string(out), "token: "), "\nhash: ")
		if err != nil || !ok || len(token) != 43 {
			t.Fatalf("%q, %v", out, err)
		}
		if hash = strings.TrimSpace(hash); hash != hashOf(token) {
			t.Fatalf("the hash of %s is %s", token, hash)
		}
		name := strings.TrimPrefix(strings.Split(rest, ",")[0], "name: ")
		made[name] = token
		tokens = append(tokens, "{hash: "+hash+", "+rest+"}")
	}
	first, second := freePort(t), freePort(t)
	yaml := twoSites(t, ", address: \""+first+"\", tokens: ["+strings.Join(tokens, ", ")+"]", "access_log: off")
	f := startFront(t, yaml)
	a := f.openAt(t, "a.example", "/?user=anna")
	f.openAt(t, "b.example", "/?user=anna")
	idB := controlOf(t, yaml).awaitTunnels(2).Tunnels[1].ID
	with := func(name string, more ...string) map[string]string {
		fields := map[string]string{"Authorization": "Bearer " + made[name], "Content-Type": "text/plain"}
		for i := 0; i < len(more); i += 2 {
			fields[more[i]] = more[i+1]
		}
		return fields
	}
	wrong := []byte(made["all"])
	wrong[len(wrong)-1] ^= 1
	_, port, _ := net.SplitHostPort(first)
	for _, r := range []struct {
		status         int
		method, target string
		fields         map[string]string
		body           string
	}{
		{200, "GET", "/v1/tunnels", with("all"), ""},
		{401, "GET", "/v1/tunnels", nil, ""},
		{401, "GET", "/v1/tunnels", map[string]string{"Authorization": "Bearer " + string(wrong)}, ""},
		{401, "GET", "/v1/tunnels", map[string]string{"Authorization": "Bearer " + made["all"][:42]}, ""},
		{401, "GET", "/v1/tunnels", map[string]string{"Authorization": "Bearer"}, ""},
		{401, "GET", "/v1/tunnels", map[string]string{"Authorization": "Basic " + made["all"]}, ""},
		{401, "GET", "/v1/unknown", nil, ""},
		{404, "GET", "/v1/unknown", with("all"), ""},
		{200, "GET", "/v1/tunnels", with("all", "Host", "localhost:"+port), ""},
		{200, "GET", "/v1/tunnels", with("all", "Origin", "http://"+first), ""},
		{403, "GET", "/v1/tunnels", with("all", "Host", "rebound.example:"+port), ""},
		{403, "GET", "/v1/tunnels", with("all", "Origin", "http://evil.example"), ""},
		{403, "GET", "/v1/tunnels", with("all", "Origin", "https://"+first), ""},
		{403, "GET", "/v1/tunnels", with("all", "Origin", "null"), ""},
		{431, "GET", "/v1/tunnels", with("all", "X-Long", strings.Repeat("x", 32<<10)), ""},
		{413, "POST", "/v1/push", with("all"), strings.Repeat("x", 2<<20+1)},
		{200, "GET", "/v1/status", with("look"), ""},
		{403, "POST", "/v1/users/anna/messages", with("look"), "x"},
		{403, "POST", "/v1/reload", with("look"), ""},
		{403, "GET", "/v1/status", with("of-a"), ""},
		{404, "GET", "/v1/tunnels/" + idB, with("of-a"), ""},
		{403, "DELETE", "/v1/tunnels/" + idB, with("of-a"), ""},
		{403, "POST", "/v1/drain", with("of-a"), `{}`},
		{403, "POST", "/v1/drain", with("of-a"), `{"site":"b.example"}`},
		{200, "POST", "/v1/users/anna/messages", with("of-a"), "over TCP"},
		{200, "POST", "/v1/drain", with("of-a"), `{"site":"a.example"}`},
	} {
		status, text, header := askWeb(t, r.method, first, r.target, r.fields, r.body)
		if status != r.status || status == 401 && header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %s %v: %d %s, want %d", r.method, r.target, r.fields, status, text, r.status)
		}
	}
	a.says(t, "over TCP")
	f.awaitLog(t, 0, "ordered from outside", "who", "token of-a", "order", "send user", "n", 1)
	if strings.Contains(f.out.String(), made["of-a"]) {
		t.Error("a token is in the log")
	}
	// The address moves, and one token is no more.
	moved := strings.Replace(strings.Replace(yaml, first, second, 1), ", "+tokens[1], "", 1)
	f.reload(t, moved, reloaded)
	if status, _, _ := askWeb(t, "GET", second, "/v1/status", with("all"), ""); status != 200 {
		t.Errorf("at the new address: %d", status)
	}
	if status, _, _ := askWeb(t, "GET", second, "/v1/status", with("look"), ""); status != 401 {
		t.Errorf("a token that is no more: %d", status)
	}
	f.awaitRefusal(t, first)
	// An address that is taken changes nothing.
	f.reload(t, strings.Replace(moved, second, f.http, 1), refused)
	if status, _, _ := askWeb(t, "GET", second, "/v1/status", with("all"), ""); status != 200 {
		t.Errorf("after a reload that failed: %d", status)
	}
}
