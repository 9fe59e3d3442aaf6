//go:build linux

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"wstunnel/internal/pebble"
)

// program is a process that a test has started.
type program struct {
	cmd  *exec.Cmd
	out  *output // stdout and stderr
	done chan struct{}
}

// start runs a command. When the test ends it is killed, with all that it has started.
func start(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{cmd: cmd, out: &output{}, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.out
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // should the tests themselves be killed
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s printed:\n%s", strings.Join(cmd.Args, " "), p.out)
		}
	})
	return p
}

func (p *program) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *program) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait returns the exit code.
func (p *program) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s does not end:\n%s", p.cmd.Args[0], p.out)
	}
	return p.cmd.ProcessState.ExitCode()
}

// awaitLine waits for a line that the pattern matches, from line since on, and returns its first group.
func (p *program) awaitLine(t *testing.T, since int, pattern string) string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	var found []string
	ok := p.out.await(func(lines []string) bool {
		for _, line := range lines[min(since, len(lines)):] {
			if found = want.FindStringSubmatch(line); found != nil {
				return true
			}
		}
		return false
	})
	if !ok {
		t.Fatalf("%s did not print %q:\n%s", strings.Join(p.cmd.Args, " "), pattern, p.out)
	}
	return found[len(found)-1]
}

// backend is a program that listens.
type backend struct {
	*program
	address string
}

const listeningLine = `^listening on (\S+)`

// startPages runs PHP's web server over testdata/e2e/www.
func startPages(t *testing.T) backend {
	t.Helper()
	cmd := exec.Command(installed(t, "php", "php-cli"),
		"-d", "upload_max_filesize=64M", "-d", "post_max_size=64M", "-d", "session.save_path="+t.TempDir(),
		"-S", "127.0.0.1:0", "-t", testdata(t, "www"))
	cmd.Env = append(os.Environ(), "PHP_CLI_SERVER_WORKERS=4")
	p := start(t, cmd)
	return backend{p, p.awaitLine(t, 0, `Development Server \(http://(\S+)\) started`)}
}

// startSocketPHP runs the WebSocket server written in PHP, on a TCP port unless address says otherwise.
func startSocketPHP(t *testing.T, address string) backend {
	t.Helper()
	if address == "" {
		address = "tcp://127.0.0.1:0"
	}
	p := start(t, exec.Command(installed(t, "php", "php-cli"), testdata(t, "ws.php"), address))
	return backend{p, p.awaitLine(t, 0, listeningLine)}
}

// startSocketPython runs the WebSocket server on python3-websockets.
func startSocketPython(t *testing.T, args ...string) backend {
	t.Helper()
	p := start(t, python(t, "server.py", args...))
	return backend{p, p.awaitLine(t, 0, listeningLine)}
}

// conversation is what client.py reports.
type conversation struct {
	Subprotocol, Extensions, Cookie string
	Text, Binary, Empty             bool
	FragmentsSent                   bool   `json:"fragments_sent"`
	FragmentsReceived               string `json:"fragments_received"`
	PingSent                        bool   `json:"ping_sent"`
	PingReceived                    string `json:"ping_received"`
	Request                         handshake
	Close                           string
}

// handshake is what a backend reports of the request that it was sent.
type handshake struct {
	Path    string
	Headers map[string]string
}

// converse runs client.py to its end.
func converse(t *testing.T, args ...string) conversation {
	t.Helper()
	p := start(t, python(t, "client.py", args...))
	if code := p.wait(t); code != 0 {
		t.Fatalf("client.py: exit code %d\n%s", code, p.out)
	}
	var c conversation
	if err := json.Unmarshal([]byte(p.awaitLine(t, 0, `^\{.*\}$`)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// check requires that all went as it does without anything in between.
func (c conversation) check(t *testing.T) {
	t.Helper()
	if !c.Text || !c.Binary || !c.Empty || !c.FragmentsSent || c.FragmentsReceived != "one two three" {
		t.Errorf("messages were changed: %+v", c)
	}
	if !c.PingSent || c.PingReceived != "pong hello" {
		t.Errorf("pings were not answered: %+v", c)
	}
	if c.Subprotocol != "chat.v2" {
		t.Errorf("subprotocol %q, want the backend's choice", c.Subprotocol)
	}
	if c.Cookie != "socket=seen; Path=/" {
		t.Errorf("Set-Cookie %q, want the backend's", c.Cookie)
	}
	for name, want := range map[string]string{
		"Origin":                 "https://chat.example",
		"Cookie":                 "session=abc; theme=dark",
		"Sec-WebSocket-Version":  "13",
		"Sec-WebSocket-Protocol": "chat.v1, chat.v2",
	} {
		if got := c.Request.Headers[name]; strings.ReplaceAll(got, ", ", ",") != strings.ReplaceAll(want, ", ", ",") {
			t.Errorf("the backend got %s %q, want %q", name, got, want)
		}
	}
}

// python is a command that runs one of the programs under testdata. Debian's module belongs to Debian's interpreter, whatever
// other one may be in the path.
func python(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	interpreter := installed(t, "/usr/bin/python3", "python3-websockets")
	if err := exec.Command(interpreter, "-c", "import websockets").Run(); err != nil {
		t.Fatal("the Python module websockets is missing: install the package python3-websockets")
	}
	return exec.Command(interpreter, append([]string{testdata(t, script)}, args...)...)
}

// installed finds a program. Its absence fails the test: what does not run proves nothing.
func installed(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install the package %s (%v)", name, pkg, err)
	}
	return path
}

// testdata returns the absolute path of a file under testdata/e2e.
func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "e2e", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freePort returns an address on which nothing listens, nor will before the program does that can't be asked for its own.
func freePort(t *testing.T) string {
	t.Helper()
	l := pebble.Listen(t)
	defer l.Close()
	return l.Addr().String()
}

// certificate writes a self-signed certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, certErr := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	secret, keyErr := x509.MarshalPKCS8PrivateKey(key)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(err, certErr, keyErr, writePEM(certFile, "CERTIFICATE", der), writePEM(keyFile, "PRIVATE KEY", secret))
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func writePEM(file, kind string, der []byte) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", kind, err)
	}
	return nil
}

// must runs a command to its end.
func must(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// awaitDial waits until something listens at an address.
func awaitDial(t *testing.T, address string) {
	t.Helper()
	eventually(t, "a listener at "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// startMariaDB runs a database server with an empty database for WordPress, and returns its address.
func startMariaDB(t *testing.T, dir string) (address string) {
	t.Helper()
	data, socket := filepath.Join(dir, "mysql"), filepath.Join(dir, "mysql.sock")
	var user []string
	if os.Getuid() == 0 {
		user = []string{"--user=mysql"}
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, exec.Command("chown", "mysql", data, dir))
	}
	must(t, exec.Command(installed(t, "mariadb-install-db", "mariadb-server"), append([]string{
		"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db",
	}, user...)...))
	address = freePort(t)
	_, port, _ := net.SplitHostPort(address)
	init := filepath.Join(dir, "init.sql")
	const statements = "CREATE DATABASE wordpress; CREATE USER wordpress@'%' IDENTIFIED BY 'secret'; GRANT ALL ON wordpress.* TO wordpress@'%';"
	if err := os.WriteFile(init, []byte(strings.ReplaceAll(statements, "; ", ";\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "mariadbd", "mariadb-server"), append([]string{
		"--no-defaults", "--datadir=" + data, "--socket=" + socket, "--pid-file=" + data + "/pid", "--bind-address=127.0.0.1", "--port=" + port,
		"--init-file=" + init, "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--performance-schema=OFF",
	}, user...)...))
	awaitDial(t, address)
	return address
}
