//go:build linux

package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startMute runs wstunnel with its output somewhere else than in the test's hands, so that its address has to be
// chosen beforehand.
func startMute(t *testing.T, mute func(*exec.Cmd) *exec.Cmd) *front {
	t.Helper()
	php, pages, address := startSocketPHP(t, ""), startPages(t), freePort(t)
	f := &front{config: filepath.Join(t.TempDir(), "config.yaml"), http: address}
	f.write(t, strings.Replace(settings(
		`{path: /ws, websocket: "ws://`+php.address+`"}`, `{path: /, http: "http://`+pages.address+`"}`), "127.0.0.1:0", address, 1))
	f.program = start(t, mute(wstunnel(t, "run", "--config", f.config)))
	eventually(t, address+" answers", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return f
}

// logTo sends a command's output to a file.
func logTo(w *os.File) func(*exec.Cmd) *exec.Cmd {
	return func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Stdout, cmd.Stderr = w, w
		return cmd
	}
}

// checkServes uses the server, more than a pipe or a buffer could hold the log of.
func (f *front) checkServes(t *testing.T) {
	t.Helper()
	live := f.dialSocket(t, "ws", "/ws")
	for range 300 {
		live.echo("hello")
		if resp, err := newClient(nil).Get("http://" + f.http + "/.well-known/wstunnel/ca.pem"); err != nil {
			t.Fatal(err)
		} else {
			readAll(t, resp)
		}
	}
	f.get(t, "/echo.php")
	f.hangUp(t)
	f.dialSocket(t, "ws", "/ws").echo("after a reload")
	live.echo("still here")
	f.stop(t)
}

func TestServesThoughTheDiskUnderTheLogIsFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	startMute(t, logTo(full)).checkServes(t)
}

func TestServesThoughTheReaderOfTheLogIsGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f := startMute(t, logTo(w))
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil { // it did log
		t.Fatal(err)
	}
	r.Close()
	f.checkServes(t)
}

func TestServesThoughThereIsNoStandardError(t *testing.T) {
	f := startMute(t, func(cmd *exec.Cmd) *exec.Cmd {
		// Whatever the server opens first must not end up with the log in it.
		return exec.Command("/bin/sh", append([]string{"-c", `exec "$0" "$@" <&- >&- 2>&-`, cmd.Path}, cmd.Args[1:]...)...)
	})
	f.checkServes(t)
}

// runs executes wstunnel to its end.
func runs(t *testing.T, cmd *exec.Cmd) (code int, printed string) {
	t.Helper()
	p := start(t, cmd)
	code = p.wait(t)
	return code, p.out.String()
}

func TestPortInUseIsNamed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := filepath.Join(t.TempDir(), "config.yaml")
	yaml := strings.Replace(settings(`{path: /, http: "http://127.0.0.1:1"}`), "localhost:0", taken.Addr().String(), 1)
	if err := os.WriteFile(config, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	code, printed := runs(t, wstunnel(t, "run", "--config", config))
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{config + ":3:", taken.Addr().String(), "address already in use"} {
		if !strings.Contains(printed, want) {
			t.Errorf("%q is not named: %s", want, printed)
		}
	}
}

func TestUnreadableKeyFileIsNamed(t *testing.T) {
	certFile, secret := certificate(t)
	otherCert, otherKey := certificate(t)
	dir := publicDir(t, filepath.Dir(certFile), filepath.Dir(otherCert))
	for file, mode := range map[string]os.FileMode{certFile: 0o644, secret: 0, otherCert: 0o644, otherKey: 0o644} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config.yaml")
	for _, test := range []struct{ name, key, says string }{
		{"no permission", secret, "permission denied"},
		{"missing", secret + ".old", "no such file"},
		{"of another certificate", otherKey, "does not match"},
		{"not a key", otherCert, "PEM"},
		{"a directory", filepath.Dir(secret), "file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			yaml := strings.Replace(settings(`{path: /, http: "http://127.0.0.1:1"}`), "tls: self-signed", "tls: {cert: "+certFile+", key: "+test.key+"}", 1)
			if err := os.WriteFile(config, []byte(yaml), 0o644); err != nil {
				t.Fatal(err)
			}
			code, printed := runs(t, unprivileged(t, dir, "run", "--config", config))
			if code == 0 {
				t.Error("exit code 0")
			}
			for _, want := range []string{config + ":10:", test.key, test.says} {
				if !strings.Contains(printed, want) {
					t.Errorf("%q is not in %q", want, printed)
				}
			}
		})
	}
}

// publicDir makes a directory that every user can enter, and opens others up.
func publicDir(t *testing.T, others ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range append(others, dir) {
		for ; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// unprivileged is the command run by a user whom file modes hold back: they do not hold back root.
func unprivileged(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := wstunnel(t, args...)
	if os.Geteuid() != 0 {
		return cmd
	}
	// The open file belongs to root's process; nobody needs one in the file system.
	copied := filepath.Join(dir, "wstunnel")
	if _, err := os.Stat(copied); err != nil {
		content, err := os.ReadFile(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	cmd.Path = copied
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}
