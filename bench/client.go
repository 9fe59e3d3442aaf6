//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	benchHost    = "bench.test"
	websocketKey = "dGhlIHNhbXBsZSBub25jZQ=="
	tripTimeout  = 30 * time.Second
	overH2       = "h2" // in ALPN (RFC 9113, section 3.2)
)

// client is one connection of the load to a proxy.
type client struct {
	conn net.Conn
	br   *bufio.Reader
	h2   *http.ClientConn // nil over HTTP/1.1
	body []byte           // the last one read
}

// connect dials the proxy, to fetch something or to upgrade.
func (l *load) connect() (*client, error) {
	conn, err := l.dial()
	if err != nil {
		return nil, err
	}
	if l.HTTP2 {
		return overHTTP2(conn)
	}
	return &client{conn: conn, br: bufio.NewReaderSize(conn, 1024)}, nil
}

// dial dials the proxy and, for a secure job, insists on the handshake that all proxies are measured with.
func (l *load) dial() (net.Conn, error) {
	conn, err := net.DialTimeout("tcp4", l.Address, tripTimeout)
	if err != nil {
		return nil, err
	}
	if l.TLS {
		config := &tls.Config{
			ServerName:         benchHost,
			InsecureSkipVerify: true, // the certificate is the benchmark's own
			MinVersion:         tls.VersionTLS13,
			CurvePreferences:   []tls.CurveID{tls.X25519},
		}
		if l.HTTP2 {
			config.NextProtos = []string{overH2}
		}
		secure := tls.Client(conn, config)
		if err := handshake(secure); err != nil {
			conn.Close()
			return nil, fmt.Errorf("tls with %s: %w", l.Address, err)
		}
		if got := secure.ConnectionState().NegotiatedProtocol; l.HTTP2 && got != overH2 {
			conn.Close()
			return nil, fmt.Errorf("HTTP/2 was offered, and %q agreed on", got)
		}
		conn = secure
	}
	return conn, nil
}

func overHTTP2(conn net.Conn) (*client, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		Protocols:      protocols,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	h2, err := transport.NewClientConn(context.Background(), "https", benchHost+":443")
	return &client{conn: conn, h2: h2}, err
}

func handshake(conn *tls.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(tripTimeout)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	state := conn.ConnectionState()
	if state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || state.CurveID != tls.X25519 || state.DidResume {
		return fmt.Errorf("agreed on %s, %s, resumed %t", tls.CipherSuiteName(state.CipherSuite), state.CurveID, state.DidResume)
	}
	return conn.SetDeadline(time.Time{})
}

// comeAndGo is a whole stay of a client that wants nothing but a TLS handshake. No connection is kept.
func (l *load) comeAndGo(*client) error {
	c, err := l.connect()
	if err != nil {
		return err
	}
	return c.conn.Close()
}

// tunnel connects and upgrades.
func (l *load) tunnel() (*client, error) {
	c, err := l.connect()
	if err != nil {
		return nil, err
	}
	if err := c.upgrade(l.Path); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) upgrade(path string) error {
	if err := c.conn.SetDeadline(time.Now().Add(tripTimeout)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, benchHost, websocketKey)
	if err != nil {
		return err
	}
	response, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade: got %s", response.Status)
	}
	if response.Header.Get("Sec-WebSocket-Accept") != acceptKey(websocketKey) {
		return errors.New("upgrade: wrong Sec-WebSocket-Accept")
	}
	return c.conn.SetDeadline(time.Time{})
}

// echo is a round trip of the load's message.
func (l *load) echo(c *client) error {
	if err := c.conn.SetDeadline(time.Now().Add(tripTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(l.frame); err != nil {
		return err
	}
	if len(c.body) != len(l.echoed) {
		c.body = make([]byte, len(l.echoed))
	}
	if _, err := io.ReadFull(c.br, c.body); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	if !bytes.Equal(c.body, l.echoed) {
		return errors.New("echo: not what was sent")
	}
	return nil
}

// ask sends a GET and returns the answer's head.
func (c *client) ask(path string) (*http.Response, error) {
	if c.h2 != nil {
		request, err := http.NewRequest(http.MethodGet, "https://"+benchHost+path, nil)
		if err != nil {
			return nil, err
		}
		return c.h2.RoundTrip(request)
	}
	if _, err := io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: "+benchHost+"\r\n\r\n"); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.br, nil)
}

// get fetches the load's path.
func (l *load) get(c *client) error {
	if err := c.conn.SetDeadline(time.Now().Add(tripTimeout)); err != nil {
		return err
	}
	response, err := c.ask(l.Path)
	if err != nil {
		return fmt.Errorf("GET %s: %w", l.Path, err)
	}
	defer response.Body.Close()
	if len(c.body) != l.Size {
		c.body = make([]byte, l.Size)
	}
	if response.StatusCode != http.StatusOK || response.ContentLength != int64(l.Size) {
		return fmt.Errorf("GET %s: got %s with %d bytes", l.Path, response.Status, response.ContentLength)
	}
	if _, err := io.ReadFull(response.Body, c.body); err != nil {
		return fmt.Errorf("GET %s: %w", l.Path, err)
	}
	if response.Close {
		return fmt.Errorf("GET %s: not kept alive", l.Path)
	}
	// Reads to the end, or the next response would not be found.
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
