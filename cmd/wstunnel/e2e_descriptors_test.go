//go:build linux

package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fewFiles is a limit on open files with which wstunnel takes 64 connections.
const fewFiles = 256

// limited makes a command start with a limit on open files.
func limited(cmd *exec.Cmd) *exec.Cmd {
	cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, fewFiles), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	return cmd
}

// descriptors returns what the program has open, by the target of each.
func (p *program) descriptors(t *testing.T) (all []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, err := os.Readlink(filepath.Join(dir, name.Name())); err == nil {
			all = append(all, target)
		}
	}
	return all
}

// TestSlowReadersLockNobodyOut: as many as there may be take nothing of what they asked for, and then somebody else asks for a page,
// a file and a tunnel.
func TestSlowReadersLockNobodyOut(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string][]byte{"big": make([]byte, 16<<20), "small": []byte("small")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := startSource(t)
	const readers = 55
	for name, occupy := range map[string]func(*testing.T, *front){
		"files": func(t *testing.T, f *front) {
			for range readers {
				f.ask(t, "GET /files/big HTTP/1.1\r\nHost: a.example\r\n\r\n")
			}
		},
		"files over HTTP/2": func(t *testing.T, f *front) {
			for range 5 {
				f.askH2(t, 100, "/files/big")
			}
		},
		"pages": func(t *testing.T, f *front) {
			for range readers {
				f.ask(t, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
			}
		},
		"tunnels": func(t *testing.T, f *front) {
			for range readers {
				c := f.ask(t, "GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
					"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
				go writeBigFrame(c, true) // the backend reads nothing either
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFrontFrom(t, limited(wstunnel(t)), settings(`{path: /files, static: "`+dir+`"}`,
				`{path: /, http: "http://`+source+`", websocket: "ws://`+source+`"}`))
			occupy(t, f)
			for most, still := 0, 0; still < 10; still++ {
				time.Sleep(20 * time.Millisecond)
				if n := len(f.descriptors(t)); n > most {
					most, still = n, 0
				}
			}
			for range 3 {
				for path, want := range map[string]string{"/files/small": "small", "/short": "short"} {
					c := f.ask(t, "GET "+path+" HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
					if got, _ := io.ReadAll(c); !strings.HasPrefix(string(got), "HTTP/1.1 200 ") || !strings.HasSuffix(string(got), want) {
						t.Errorf("%s is answered with %q", path, got)
					}
				}
			}
			if all := f.descriptors(t); len(all) > fewFiles*9/10 {
				t.Errorf("%d descriptors are open: %q", len(all), all)
			}
			for _, failure := range []string{"too many open files", `"status":50`} {
				if strings.Contains(f.out.String(), failure) {
					t.Errorf("the log says %s", failure)
				}
			}
		})
	}
}

// writeBigFrame writes a binary frame with a payload of 64 MiB, a piece at a time: many do so at once.
func writeBigFrame(w io.Writer, masked bool) {
	head := binary.BigEndian.AppendUint64([]byte{0x82, 127}, 64<<20)
	if masked {
		head[1] |= 0x80
		head = append(head, 0, 0, 0, 0)
	}
	piece := make([]byte, 64<<10)
	_, err := w.Write(head)
	for i := 0; i < 64<<20/len(piece) && err == nil; i++ {
		_, err = w.Write(piece)
	}
}

// startSource is a backend with a long page, a short one, and long messages for whoever asks for a socket.
func startSource(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	long := make([]byte, 64<<20)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/short":
			io.WriteString(w, "short")
		case "/ws":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			writeBigFrame(conn, false)
		default:
			w.Header().Set("Content-Length", fmt.Sprint(len(long)))
			w.Write(long)
		}
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// ask sends a request on a connection of its own. Of the answer the kernel takes little, unless it is read.
func (f *front) ask(t *testing.T, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", f.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn
}

// askH2 asks for a path on so many streams of one connection, whose windows are closed.
func (f *front) askH2(t *testing.T, streams int, path string) {
	t.Helper()
	conn, err := tls.Dial("tcp", f.https, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", path}} {
			encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndStream: true, EndHeaders: true, BlockFragment: block.Bytes()})
	}
	go io.Copy(io.Discard, conn)
}
