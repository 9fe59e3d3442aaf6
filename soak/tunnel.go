//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"wstunnel/internal/ws"
)

// kind is what a tunnel goes over at the client's side.
type kind int

const (
	overPlain kind = iota
	overTLS
	overHTTP2
	kinds
)

func (k kind) String() string { return []string{"ws", "wss", "HTTP/2"}[k] }

func clientTLS(protocol string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: siteName, NextProtos: []string{protocol}}
}

// open opens a tunnel.
func (c *carriers) open(ctx context.Context, k kind, path string) (io.ReadWriteCloser, *bufio.Reader, error) {
	if k == overHTTP2 {
		return c.openCarried(ctx, path)
	}
	var conn net.Conn
	var err error
	if k == overPlain {
		conn, err = net.Dial("tcp", c.front.plain)
	} else {
		conn, err = tls.Dial("tcp", c.front.secure, clientTLS("http/1.1"))
	}
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, siteName)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("the upgrade was answered %d", resp.StatusCode)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, br, nil
}

// tunnels keeps up one number of tunnels.
type tunnels struct {
	carriers *carriers
	every    time.Duration
	tally    *tally
	open     atomic.Int64
}

// keep keeps one tunnel open, and opens another when it has ended.
func (ts *tunnels) keep(ctx context.Context, k kind, path string) {
	mortal := strings.HasSuffix(path, "mortal")
	for ctx.Err() == nil {
		conn, br, err := ts.carriers.open(ctx, k, path)
		if err != nil {
			if ctx.Err() == nil {
				ts.tally.note(ts.tally.refused, "%s %s: %v", k, path, err)
			}
			rest(ctx, time.Duration(rand.IntN(1000))*time.Millisecond)
			continue
		}
		ts.tally.opened.Add(1)
		ts.open.Add(1)
		end := ts.converse(ctx, conn, br)
		ts.open.Add(-1)
		conn.Close()
		if ctx.Err() == nil {
			ts.tally.ended(k, mortal, end)
		}
	}
}

// ending is how a tunnel ended.
type ending struct {
	closed bool // by a Close frame
	code   uint16
	reason string
	fault  error // a message was not what it should be
	err    error
}

// converse sends a numbered message now and then, several at once at times, and requires each to come back, in order.
func (ts *tunnels) converse(ctx context.Context, conn io.ReadWriteCloser, br *bufio.Reader) ending {
	over := make(chan struct{})
	defer close(over)
	go func() { // who says good-bye at the end of the run
		select {
		case <-ctx.Done():
			conn.Close()
		case <-over:
		}
	}()
	done := make(chan struct{})
	sent := make(chan uint64, 64)
	go ts.speak(ctx, conn, sent, done)
	defer func() {
		conn.Close()
		close(done)
		for range sent { // until the sender has seen it
		}
	}()
	for next := uint64(0); ; {
		op, payload, err := readFrame(br)
		switch {
		case err != nil:
			return ending{err: err}
		case op == ws.OpClose:
			e := ending{closed: true}
			if len(payload) >= 2 {
				e.code, e.reason = uint16(payload[0])<<8|uint16(payload[1]), string(payload[2:])
			}
			if e.code == wrongMessage {
				e.fault = errors.New(e.reason)
			}
			conn.Write(ws.AppendFrame(nil, ws.OpClose, payload[:min(2, len(payload))], &[4]byte{1, 2, 3, 4}))
			return e
		case op == ws.OpPing:
			conn.Write(ws.AppendFrame(nil, ws.OpPong, payload, &[4]byte{1, 2, 3, 4}))
		case op == ws.OpBinary:
			if fault := check(payload, next); fault != nil {
				return ending{fault: fault}
			}
			next++
			<-sent
			ts.tally.messages.Add(1)
		}
	}
}

// speak sends numbered messages until done, or until that fails, and tells of each.
func (ts *tunnels) speak(ctx context.Context, conn io.Writer, sent chan<- uint64, done <-chan struct{}) {
	defer close(sent)
	rest(ctx, rand.N(ts.every))
	for number := uint64(0); ; {
		var frames []byte
		for range 1 + rand.IntN(3) {
			frames = ws.AppendFrame(frames, ws.OpBinary, appendMessage(nil, number), &[4]byte{byte(number), 2, 3, 4})
			select {
			case sent <- number:
			case <-done:
				return
			}
			number++
		}
		if _, err := conn.Write(frames); err != nil || !rest(ctx, ts.every) {
			return
		}
	}
}

// rest waits, and reports whether ctx goes on.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
