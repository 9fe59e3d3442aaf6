package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/proxyproto"
)

// proxiedListeners take connections of proxies on this machine.
const proxiedListeners = `listen:
  - {address: "127.0.0.1:0", proxy_protocol: true}
  - {address: "127.0.0.2:0", tls: true, proxy_protocol: true}
trusted_proxies: [127.0.0.1]
`

func introducing(source, destination string) proxyproto.Header {
	return proxyproto.Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

// startProxied runs a server whose answers are the heads that its backend gets.
func startProxied(t *testing.T, global string) *front {
	t.Helper()
	b := startHeads(t, func(head string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(head), head)
	})
	certs := "tls: {storage: " + t.TempDir() + "}\n"
	return startWith(t, proxiedListeners+global+certs+"sites:\n  - hosts: [example.com]\n    tls: self-signed\n    locations:\n      - "+httpTo(b.address)+"\n")
}

func TestIntroducedClientIsWhoTheHeaderNames(t *testing.T) {
	f := startProxied(t, "")
	h := introducing("203.0.113.7:4711", "198.51.100.1:8443")
	for name, header := range map[string]string{"v1": string(proxyproto.Append1(nil, h)), "v2": string(proxyproto.Append2(nil, h))} {
		for _, secure := range []bool{false, true} {
			for _, split := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " TLS ", secure, " in pieces ", split), func(t *testing.T) {
					address := f.plain
					if secure {
						address = f.secure
					}
					conn, err := net.Dial("tcp", address)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					conn.SetDeadline(time.Now().Add(patience))
					text := header
					if split {
						for i := range len(header) {
							io.WriteString(conn, header[i:i+1])
							f.server.Skip(0)
						}
					} else {
						if !secure {
							text += strings.Replace(get, "\r\n\r\n", "\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", 1)
						}
						io.WriteString(conn, text)
					}
					if secure {
						conn = tls.Client(conn, &tls.Config{ServerName: "example.com", InsecureSkipVerify: true})
					}
					if split || secure {
						io.WriteString(conn, get)
					}
					c := clientOver(t, conn)
					body := c.expect(200).body
					for _, want := range []string{"X-Forwarded-For: 203.0.113.7\r\n", "X-Real-IP: 203.0.113.7\r\n", "X-Forwarded-Port: 8443\r\n"} {
						if !strings.Contains(body, want) {
							t.Errorf("no %q in\n%s", want, body)
						}
					}
				})
			}
		}
	}
	await(t, "a line of the log with the client", func() bool { return strings.Contains(f.log.String(), `"client":"203.0.113.7"`) })
}

// TestProxyThatSpeaksForItselfIsTheClient: it asks whether the server is alive.
func TestProxyThatSpeaksForItselfIsTheClient(t *testing.T) {
	f := startProxied(t, "")
	for _, header := range []string{"PROXY UNKNOWN\r\n", string(proxyproto.Append2(nil, proxyproto.Header{}))} {
		c := f.dial()
		c.send(header + get)
		if body := c.expect(200).body; !strings.Contains(body, "X-Forwarded-For: 127.0.0.1\r\n") {
			t.Errorf("got\n%s", body)
		}
	}
}

func TestConnectionThatIsNotIntroducedIsReset(t *testing.T) {
	f := startProxied(t, "")
	for name, tt := range map[string]struct {
		text  string
		waits bool
	}{
		"no header":        {get, false},
		"malformed header": {"PROXY TCP4 a b c d\r\n" + get, false},
		"half a header":    {"PROXY TCP4 1.2.3.4", true},
		"nothing":          {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.dial()
			c.send(tt.text)
			if tt.waits {
				c.waits(f, 8*time.Second)
				f.server.Skip(2 * time.Second)
			}
			if got, err := io.ReadAll(c.br); len(got) > 0 || err == nil {
				t.Errorf("got %q, %v; want a reset", got, err)
			}
		})
	}
	await(t, "no connection counted", func() bool { return f.server.Counts().Clients == 0 })
	if !strings.Contains(f.log.String(), "connections refused") {
		t.Error("the log does not tell")
	}
}

// TestStrangerIsNotBelieved: what he says is not read.
func TestStrangerIsNotBelieved(t *testing.T) {
	f := startProxied(t, "")
	f.apply(t, strings.Replace(proxiedListeners, "[127.0.0.1]", "[192.0.2.1]", 1)+"sites:\n  - hosts: [example.com]\n    tls: self-signed\n    locations:\n      - "+
		httpTo(startEcho(t).address)+"\ntls: {storage: "+t.TempDir()+"}\n")
	if conn, err := net.Dial("tcp", f.plain); err == nil { // it may be reset already
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		_, reset := io.WriteString(conn, "PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n"+get) // which is told once
		if got, err := io.ReadAll(conn); len(got) > 0 || err == nil && reset == nil {
			t.Errorf("got %q, %v; want a reset", got, err)
		}
	}
	await(t, "a line of the log", func() bool { return strings.Contains(f.log.String(), "not one of trusted_proxies") })
}

// TestIntroducedClientsAreLimitedEach, as if they had connected themselves.
func TestIntroducedClientsAreLimitedEach(t *testing.T) {
	f := startProxied(t, "limits: {max_connections_per_client: 2}\n")
	var held []*client
	for i := range 4 {
		c := f.dial()
		c.send(fmt.Sprintf("PROXY TCP4 203.0.113.%d 198.51.100.1 1 2\r\n", i/2) + get)
		c.expect(200)
		held = append(held, c)
	}
	c := f.dial()
	c.send("PROXY TCP4 203.0.113.1 198.51.100.1 1 2\r\n" + get)
	if got, err := io.ReadAll(c.br); len(got) > 0 || err == nil {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
	for _, c := range held {
		c.Close()
	}
	await(t, "no client counted", func() bool { n := f.server.Counts(); return n.ByClient == 0 && n.Clients == 0 })
}

// TestTargetIsToldWhoTheClientIs before anything else, on a connection for that client only.
func TestTargetIsToldWhoTheClientIs(t *testing.T) {
	headers := make(chan proxyproto.Header, 10)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		var read []byte
		for {
			h, need, err := proxyproto.Parse(read)
			if err != nil {
				t.Error(err)
				return
			}
			if need == 0 {
				headers <- h
				break
			}
			piece := make([]byte, need)
			if _, err := io.ReadFull(br, piece); err != nil {
				return
			}
			read = append(read, piece...)
		}
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			io.WriteString(conn, answerOrSwitch(head))
		}
	})
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			f := start(t, oneSite(`{path: /, http: {url: "http://`+b.address+`", proxy_protocol: `+version+`}, websocket: {url: "ws://`+
				b.address+`", proxy_protocol: `+version+`}}`))
			for range 2 {
				c := f.dial()
				c.send(get)
				c.expect(200)
				c.send(upgrade)
				c.expect(101)
				for range 2 {
					h := <-headers
					if h.Source.String() != c.LocalAddr().String() || h.Destination.String() != f.plain {
						t.Errorf("told %v, want %v and %v", h, c.LocalAddr(), f.plain)
					}
				}
			}
		})
	}
}
