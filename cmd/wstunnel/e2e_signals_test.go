//go:build linux

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manySites is a configuration whose reload takes a while.
func manySites(n int) string {
	var b strings.Builder
	b.WriteString("listen: [{address: '127.0.0.1:0'}]\nsites:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - hosts: [site%d.example, www.site%d.example]\n    locations:\n      - {path: /ws, websocket: 'ws://127.0.0.1:1'}\n"+
			"      - {path: '~ \\.(php|cgi)$', http: 'http://127.0.0.1:1'}\n      - {path: /, http: 'http://127.0.0.1:1'}\n", i, i)
	}
	return b.String()
}

// TestSIGTERMIsNeitherLostNorLateAmongHangups sends 50 SIGHUPs a second, before the SIGTERM and after it.
func TestSIGTERMIsNeitherLostNorLateAmongHangups(t *testing.T) {
	for range 3 {
		f := startFront(t, "shutdown_timeout: 60s\n"+manySites(2000))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(20 * time.Millisecond); !f.exited(); <-tick.C {
				f.cmd.Process.Signal(syscall.SIGHUP)
			}
		}()
		f.awaitLogs(t, 0, 3, reloaded)
		if took := f.stop(t); took > 5*time.Second {
			t.Errorf("the stop took %v", took)
		}
		<-ended
		f.awaitLog(t, 0, "stopping", "timeout_ms", 60000)
		f.awaitLog(t, 0, "stopped")
	}
}

// pipe puts a named pipe where the configuration is. The open that is returned waits for its reader, and never for another one.
func pipe(t *testing.T, file string) (open func() *os.File) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, file); err != nil {
		t.Fatal(err)
	}
	return func() (w *os.File) {
		t.Helper()
		eventually(t, "the configuration being read", func() bool {
			var err error
			w, err = os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			return err == nil
		})
		t.Cleanup(func() { w.Close() })
		return w
	}
}

func TestSIGTERMDoesNotWaitForAReloadThatHangs(t *testing.T) {
	for _, hung := range []struct {
		name  string
		signs int // of the hangups that precede the stop
	}{{"once", 1}, {"again and again", 20}} {
		t.Run(hung.name, func(t *testing.T) {
			f := startFront(t, manySites(1))
			open := pipe(t, f.config)
			for range hung.signs {
				f.hangUp(t)
			}
			open() // and nothing is ever written
			if took := f.stop(t); took > 5*time.Second {
				t.Errorf("the stop took %v", took)
			}
			f.awaitLog(t, 0, "stopped")
		})
	}
}

func TestSIGTERMEndsAStartThatHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	open := pipe(t, file)
	p := start(t, wstunnel(t, "run", file))
	open()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.out)
	}
}

// TestHangupsDuringAReloadBecomeOne, and those during the start do no harm.
func TestHangupsDuringAReloadBecomeOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	open := pipe(t, file)
	f := &front{program: start(t, wstunnel(t, "run", file)), config: file}
	feed := func(w *os.File) {
		t.Helper()
		if _, err := w.WriteString(manySites(1)); err != nil {
			t.Fatal(err)
		}
		// The reader must have seen the end before the next one can be told from it.
		w.Close()
	}
	for round := range 2 {
		w := open()
		for range 20 {
			f.hangUp(t)
		}
		feed(w)
		f.awaitLogs(t, 0, round, reloaded)
		f.awaitLog(t, 0, "listening")
	}
	feed(open())
	f.awaitLogs(t, 0, 2, reloaded)
	f.stop(t)
	if n := len(f.awaitLogs(t, 0, 2, reloaded)); n != 2 {
		t.Errorf("%d reloads for twice twenty hangups", n)
	}
}

// TestRotatedAccessLogIsMadeAnewOnSIGUSR1: logrotate moves the file and signals.
func TestRotatedAccessLogIsMadeAnewOnSIGUSR1(t *testing.T) {
	file, site := filepath.Join(t.TempDir(), "access.log"), t.TempDir()
	for _, name := range []string{"before", "after"} {
		if err := os.WriteFile(filepath.Join(site, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := startFront(t, "access_log: {to: "+file+", format: combined}\n"+settings(`{path: /, static: "`+site+`"}`))
	lines := func(name string) string {
		text, _ := os.ReadFile(name)
		return fmt.Sprint(strings.Count(string(text), `"GET /before `), strings.Count(string(text), `"GET /after `))
	}
	f.get(t, "/before")
	eventually(t, "a line of the first request", func() bool { return lines(file) == "1 0" })
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	f.signal(t, syscall.SIGUSR1)
	eventually(t, "a new file", func() bool {
		_, err := os.Stat(file)
		return err == nil
	})
	f.get(t, "/after")
	eventually(t, "a line of the second request", func() bool { return lines(file) == "0 1" })
	if got := lines(file + ".1"); got != "1 0" {
		t.Errorf("the old file has %s", got)
	}
	f.stop(t)
}
