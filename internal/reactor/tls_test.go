package reactor

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// recorder keeps ciphertext back while it records.
type recorder struct {
	net.Conn
	recording bool
	records   []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	if !r.recording {
		return r.Conn.Write(p)
	}
	r.records = append(r.records, p...)
	return len(p), nil
}

// securePair makes a TLS connection: our end is the server's and accepted, or the client's and dialled.
func securePair(t *testing.T, g *Group, server bool, version uint16) (ours *Conn, peers *tls.Conn, raw *recorder) {
	t.Helper()
	settings := &tls.Config{
		Certificates: []tls.Certificate{certificate(t)}, MaxVersion: version,
		InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "x",
	}
	var peer net.Conn
	our, their := tls.Server, tls.Client
	if server {
		ours, peer = accept(t, g, "tcp")
	} else {
		ours, peer = dial(t, g.Pick(), "tcp")
		our, their = their, our
	}
	raw = &recorder{Conn: peer}
	peers = their(raw, settings)
	shaken := shake(t, ours, our, settings)
	if err := peers.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, shaken); err != nil {
		t.Fatal(err)
	}
	return ours, peers, raw
}

// shake begins a handshake, as [tls.Server] or [tls.Client] does it, and hands over what comes of it.
func shake(t *testing.T, c *Conn, as func(net.Conn, *tls.Config) *tls.Conn, settings *tls.Config) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	on(t, c.loop, func() {
		secure := func(transport net.Conn) *tls.Conn { return as(transport, settings) }
		c.Handshake(t.Context(), secure, patience, func(_ tls.ConnectionState, err error) {
			c.Handle(&script{})
			if err != nil {
				c.Close() // which the peer waits for
			}
			done <- err
		})
	})
	return done
}

// eachTLS runs a test for both roles and versions.
func eachTLS(t *testing.T, test func(t *testing.T, server bool, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, server := range map[string]bool{"server": true, "client": false} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) { test(t, server, version) })
		}
	}
}

func TestTLSEchoesWithBackPressure(t *testing.T) {
	eachTLS(t, func(t *testing.T, server bool, version uint16) {
		g, _ := startGroup(t)
		c, peer, _ := securePair(t, g, server, version)
		ended := make(chan error, 1)
		start(t, c, echoing(ended))
		want := make([]byte, 4<<20)
		rand.NewChaCha8([32]byte{}).Read(want)
		go func() {
			peer.Write(want)
			peer.CloseWrite()
		}()
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back of %d, %v", len(got), len(want), err)
		}
		if err := await(t, ended); err != nil {
			t.Error(err)
		}
	})
}

func TestTLSRecordsMayBeCutAnywhere(t *testing.T) {
	eachTLS(t, func(t *testing.T, server bool, version uint16) {
		g, _ := startGroup(t)
		c, peer, raw := securePair(t, g, server, version)
		ended := make(chan error, 1)
		start(t, c, echoing(ended))
		for cut := 0; ; cut++ {
			raw.recording = true
			peer.Write([]byte("one record, "))
			peer.Write([]byte("and another"))
			raw.recording = false
			records := raw.records
			raw.records = nil
			if cut > len(records) {
				break
			}
			raw.Write(records[:cut]) // cut == 0 and cut == len: both at once
			time.Sleep(300 * time.Microsecond)
			raw.Write(records[cut:])
			want := "one record, and another"
			got := make([]byte, len(want))
			peer.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(peer, got); err != nil || string(got) != want {
				t.Fatalf("cut at %d: %q, %v", cut, got, err)
			}
		}
		raw.Conn.Close()
		await(t, ended)
	})
}

func TestTLSTellsACloseNotifyFromABareFIN(t *testing.T) {
	for _, test := range []struct {
		name      string
		end       func(peer *tls.Conn, raw *recorder)
		truncated bool
	}{
		{"close_notify", func(peer *tls.Conn, _ *recorder) { peer.CloseWrite() }, false},
		{"close_notify and FIN", func(peer *tls.Conn, raw *recorder) {
			peer.CloseWrite()
			raw.Conn.(*net.TCPConn).CloseWrite()
		}, false},
		{"bare FIN", func(_ *tls.Conn, raw *recorder) { raw.Conn.(*net.TCPConn).CloseWrite() }, true},
		{"FIN inside a record", func(peer *tls.Conn, raw *recorder) {
			raw.recording = true
			peer.Write([]byte("never whole"))
			raw.Conn.Write(raw.records[:len(raw.records)-1])
			raw.Conn.(*net.TCPConn).CloseWrite()
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachTLS(t, func(t *testing.T, server bool, version uint16) {
				g, _ := startGroup(t)
				c, peer, raw := securePair(t, g, server, version)
				var text []byte
				ended := make(chan error, 1)
				start(t, c, &script{readable: func(c *Conn) {
					p, err := c.Read()
					text = append(text, p...)
					if err != nil {
						c.Pause()
						ended <- err
					}
				}})
				peer.Write([]byte("words"))
				test.end(peer, raw)
				if err := await(t, ended); err != io.EOF || string(text) != "words" {
					t.Errorf("read %q, %v", text, err)
				}
				on(t, c.loop, func() {
					if c.Truncated() != test.truncated {
						t.Errorf("truncated: %v", c.Truncated())
					}
					c.Write([]byte("the other direction is open"))
					c.CloseWrite()
				})
				if got, err := io.ReadAll(peer); string(got) != "the other direction is open" || err != nil {
					t.Errorf("peer read %q, %v", got, err)
				}
				on(t, c.loop, func() { c.Close() })
			})
		})
	}
}

// TestTLSTellsABareFINThatCameInTheHandshake, behind what was sent before it: the handshake ends when all has come.
func TestTLSTellsABareFINThatCameInTheHandshake(t *testing.T) {
	for name, notified := range map[string]bool{"close_notify and FIN": true, "bare FIN": false} {
		t.Run(name, func(t *testing.T) {
			g, _ := startGroup(t)
			c, raw := accept(t, g, "tcp")
			goOn := make(chan bool)
			shaken := shake(t, c, tls.Server, &tls.Config{
				Certificates:     []tls.Certificate{certificate(t)},
				VerifyConnection: func(tls.ConnectionState) error { <-goOn; return nil },
			})
			peer := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			peer.Write([]byte("words"))
			if notified {
				peer.CloseWrite()
			}
			raw.(*net.TCPConn).CloseWrite()
			eventually(t, "come", func() (come bool) {
				on(t, c.loop, func() { come = !c.Reading() })
				return come
			})
			close(goOn)
			if err := await(t, shaken); err != nil {
				t.Fatal(err)
			}
			var text []byte
			ended := make(chan error, 1)
			start(t, c, &script{readable: func(c *Conn) {
				p, err := c.Read()
				text = append(text, p...)
				if err != nil {
					c.Pause()
					ended <- err
				}
			}})
			if err := await(t, ended); err != io.EOF || string(text) != "words" {
				t.Errorf("read %q, %v", text, err)
			}
			on(t, c.loop, func() {
				if c.Truncated() == notified {
					t.Errorf("truncated: %v", c.Truncated())
				}
				c.Close()
			})
		})
	}
}

func TestTLSAlertsReachThePeer(t *testing.T) {
	g, _ := startGroup(t)
	c, peer, raw := securePair(t, g, true, tls.VersionTLS13)
	failed := make(chan error, 1)
	start(t, c, &script{readable: func(c *Conn) {
		if _, err := c.Read(); err != nil {
			c.Pause()
			failed <- err
		}
	}})
	raw.Conn.Write([]byte{23, 3, 3, 0, 30, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30})
	if err := await(t, failed); err == io.EOF {
		t.Error("garbage was taken for the end")
	}
	if _, err := peer.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("peer: %v", err)
	}
	on(t, c.loop, func() { c.Close() })
}

// TestTLSTakesSessionTicketsMidStream: a Go server sends them behind the handshake, where the client's loop reads them. They are kept by
// the server's name or else by its address.
func TestTLSTakesSessionTicketsMidStream(t *testing.T) {
	for _, name := range []string{"x", ""} {
		g, _ := startGroup(t)
		cache := tls.NewLRUClientSessionCache(1)
		c, peer := dial(t, g.Pick(), "tcp")
		shaken := shake(t, c, tls.Client, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: name})
		server := tls.Server(peer, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := await(t, shaken); err != nil {
			t.Fatal(err)
		}
		key := cmp.Or(name, peer.LocalAddr().String())
		if _, ok := cache.Get(key); ok {
			t.Errorf("%s: a session was kept before the ticket was read", key)
		}
		ended := make(chan error, 1)
		start(t, c, echoing(ended))
		server.Write([]byte("x"))
		io.ReadFull(server, make([]byte, 1))
		if session, ok := cache.Get(key); !ok || session == nil {
			t.Errorf("%s: no session was kept", key)
		}
		server.CloseWrite()
		await(t, ended)
	}
}

// program runs openssl, whose lines come from stdout as they are printed, and which writes the protocol's messages to a file.
func program(t *testing.T, args ...string) (in io.Writer, lines *bufio.Scanner, messages string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatalf("openssl is missing: install the package openssl (%v)", err)
	}
	messages = filepath.Join(t.TempDir(), "messages")
	cmd := exec.Command("openssl", append(args, "-msg", "-msgfile", messages)...)
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	return stdin, bufio.NewScanner(stdout), messages
}

// expectLine reads until a line is text.
func expectLine(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("openssl never printed %q", text)
}

// talk has openssl say something before and after it changes its keys, and asks for ours to be changed.
func talk(t *testing.T, in io.Writer, lines *bufio.Scanner, messages string) {
	t.Helper()
	updates := func() (theirs, ours int) {
		text, _ := os.ReadFile(messages)
		const update = "TLS 1.3, Handshake [length 0005], KeyUpdate"
		return bytes.Count(text, []byte(">>> "+update)), bytes.Count(text, []byte("<<< "+update))
	}
	for i, word := range []string{"first", "second", "third"} {
		io.WriteString(in, word+"\n")
		expectLine(t, lines, word)
		io.WriteString(in, []string{"K\n", "k\n", "K\n"}[i])
		eventually(t, "changed its keys", func() bool { // openssl takes a line of its own for a command only
			theirs, _ := updates()
			return theirs == i+1
		})
	}
	io.WriteString(in, "last\n")
	expectLine(t, lines, "last")
	if theirs, ours := updates(); theirs != 3 || ours < 1 {
		t.Errorf("openssl changed its keys %d times, we changed ours %d times", theirs, ours)
	}
}

func TestTLSServerFollowsKeyUpdates(t *testing.T) {
	g, _ := startGroup(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	came := acceptOn(t, g, l)
	in, lines, messages := program(t, "s_client", "-connect", l.Addr().String())
	c := await(t, came)
	if err := await(t, shake(t, c, tls.Server, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	start(t, c, echoing(ended))
	talk(t, in, lines, messages)
}

func TestTLSClientFollowsKeyUpdates(t *testing.T) {
	g, _ := startGroup(t)
	cert := certificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "both.pem")
	os.WriteFile(file, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), 0o600)
	in, lines, messages := program(t, "s_server", "-accept", "127.0.0.1:0", "-cert", file, "-key", file)
	address, accepts := "", false
	for !accepts && lines.Scan() {
		address, accepts = strings.CutPrefix(lines.Text(), "ACCEPT ")
	}
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatalf("openssl never said where it accepts: %v", err)
	}
	c := dialTo(t, g.Pick(), at)
	if err := await(t, shake(t, c, tls.Client, &tls.Config{InsecureSkipVerify: true})); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	start(t, c, echoing(ended))
	talk(t, in, lines, messages)
}
