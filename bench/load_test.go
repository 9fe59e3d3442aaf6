//go:build linux

package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLoadAndBackendAgree has them do the works' jobs without a proxy between them.
func TestLoadAndBackendAgree(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	bodies := map[string][]byte{"/api/small": response(smallBody), "/api/large": response(message)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveConn(conn, bodies)
		}
	}()
	for _, w := range works(options{open: 160, measure: 80 * time.Millisecond}) {
		if w.job.TLS || w.static || w.memory {
			continue
		}
		t.Run(w.Name, func(t *testing.T) {
			w.job.Address = listener.Addr().String()
			l := newLoad(w.job)
			for _, step := range []string{stepPrepare, stepRun, stepRun} {
				done, err := l.step(step)
				if err != nil || done.Count == 0 {
					t.Fatalf("%s: got %+v, %v", step, done, err)
				}
			}
			if w.job.Kind == jobOpen {
				if done, err := l.step(stepCheck); err != nil || done.Count != 2*w.job.Tunnels {
					t.Fatalf("got %+v, %v, want %d tunnels", done, err, 2*w.job.Tunnels)
				}
			}
			for _, c := range l.clients {
				c.conn.Close()
			}
		})
	}
}

func TestFrameHeads(t *testing.T) {
	for _, test := range []struct {
		size int
		want []byte
	}{
		{0, []byte{0x82, 0x80, 0, 0, 0, 0}},
		{125, []byte{0x82, 0x80 | 125, 0, 0, 0, 0}},
		{126, []byte{0x82, 0x80 | 126, 0, 126, 0, 0, 0, 0}},
		{65535, []byte{0x82, 0x80 | 126, 0xff, 0xff, 0, 0, 0, 0}},
		{65536, []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}},
	} {
		if got := clientHead(test.size); !bytes.Equal(got, test.want) {
			t.Errorf("%d bytes: got % x, want % x", test.size, got, test.want)
		}
	}
}

func TestStatOfACommandWithAnOddName(t *testing.T) {
	got, err := parseStat("42 (a) b) S 7 42 42 0 -1 4194304 101 0 0 0 5 6 30 40 20 0 1 0 1519699 3133440 413")
	want := stat{pid: 42, parent: 7, reaped: 700 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestOwnCPUTimeAndMemory(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
		continue
	}
	after, err := cpuTime(os.Getpid())
	if err != nil || after-before < time.Millisecond {
		t.Errorf("20 ms of work took %v, %v", after-before, err)
	}
	if size, err := memory(os.Getpid()); err != nil || size < 1<<20 {
		t.Errorf("memory: got %d bytes, %v", size, err)
	}
	if _, err := parsePSS([]byte("Rss: 4 kB\n")); err == nil {
		t.Error("no error without Pss")
	}
}

func TestConfigurationsAreFilled(t *testing.T) {
	for _, p := range proxies(options{}) {
		s := setup{Dir: t.TempDir(), Backend: "127.0.0.10:1234", Plain: 4711, Secure: 4712, Cert: "cert.pem", Both: "both.pem"}
		s.size(1000)
		file := filepath.Join(s.Dir, p.config)
		if err := s.write(file); err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"127.0.0.10:1234", "4711", "4712"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %s in %s", p.Name, want, p.config)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-rounds 0":  "at least one round",
		"-work (":    "-work: error parsing regexp",
		"-proxies (": "-proxies: error parsing regexp",
		"stray":      `unexpected argument "stray"`,
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
	opts, err := parse([]string{"-quick", "-idle", "500"})
	if err != nil || opts.rounds != 1 || opts.idle != 500 || opts.idleTLS != 200 {
		t.Errorf("got %+v, %v", opts, err)
	}
}
