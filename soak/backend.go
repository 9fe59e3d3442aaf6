//go:build linux

package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"wstunnel/internal/ws"
)

const roleBackend = "backend"

// page is what backends answer a GET.
var page = strings.Repeat("a page of the soak\n", 50)

// serveBackend serves pages and sockets until the process is killed.
func serveBackend(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			io.WriteString(w, page)
			return
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		serveSocket(conn, rw.Reader)
	}))
}

// serveSocket answers each numbered message with the same, and ends the connection at one that is not the next.
func serveSocket(conn net.Conn, br *bufio.Reader) {
	for next := uint64(0); ; {
		op, payload, err := readFrame(br)
		switch {
		case err != nil:
			return
		case op == ws.OpClose:
			conn.Write(ws.AppendFrame(nil, ws.OpClose, payload, nil))
			return
		case op == ws.OpPing:
			conn.Write(ws.AppendFrame(nil, ws.OpPong, payload, nil))
		case op == ws.OpBinary:
			if fault := check(payload, next); fault != nil {
				conn.Write(ws.AppendClose(nil, wrongMessage, "to the backend: "+fault.Error(), nil))
				return
			}
			next++
			if _, err := conn.Write(ws.AppendFrame(nil, ws.OpBinary, payload, nil)); err != nil {
				return
			}
		}
	}
}

// wrongMessage is the code of a Close frame of a backend that was sent something else than the next message.
const wrongMessage = 4000

// backend is a process with a server, which dies and comes back.
type backend struct {
	address string
	cmd     *exec.Cmd
}

// start starts the process, and waits until it answers.
func (b *backend) start() error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	b.cmd = exec.Command(own, roleBackend, b.address)
	b.cmd.Env = append(os.Environ(), asCommand+"=1")
	b.cmd.Stderr = os.Stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	return awaitListener(b.address)
}

// kill ends it without a word.
func (b *backend) kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

// asCommand in the environment makes a test binary of this package the command itself.
const asCommand = "SOAK_AS_COMMAND"

func awaitListener(address string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return nil
		}
		if time.Now().After(end) {
			return err
		}
	}
}
