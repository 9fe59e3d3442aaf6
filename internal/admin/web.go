package admin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// web is the desk over TCP, on an address that reloads may change.
type web struct {
	mu      sync.Mutex
	current *listening // nil for none
}

// listening is the listener of one address.
type listening struct {
	address string // as configured
	socket  net.Listener
	crowd   *crowd
	http    *http.Server
}

// Move opens an address, host:port, or none if it is empty. Nothing else changes before settle is called: with true the desk is there from now on, and with
// false it stays where it was. An address that it listens on already is kept as it is.
func (d *Desk) Move(address string) (settle func(move bool), err error) {
	d.web.mu.Lock()
	defer d.web.mu.Unlock()
	if d.web.current != nil && d.web.current.address == address {
		return func(bool) {}, nil
	}
	var next *listening
	if address != "" {
		socket, err := listenTCP(address)
		if err != nil {
			return nil, fmt.Errorf("admin.address: listening on %s: %w", address, err)
		}
		next = &listening{address: address, socket: socket, crowd: newCrowd(d.most)}
	}
	return func(move bool) {
		switch {
		case move:
			d.use(next)
		case next != nil:
			next.socket.Close()
		}
	}, nil
}

// listenTCP opens an address, which another process of the same user may have open too: the one that is about to be relieved by this one.
func listenTCP(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return cmp.Or(err, failed)
	}}
	return config.Listen(context.Background(), "tcp", address)
}

// use begins to serve on a listener, and ends the one before; nil is none.
func (d *Desk) use(next *listening) {
	d.web.mu.Lock()
	defer d.web.mu.Unlock()
	if d.web.current != nil {
		go d.web.current.end()
	}
	if d.web.current = next; next == nil {
		return
	}
	next.http = d.newHTTP(next.crowd, func(w http.ResponseWriter, r *http.Request) { d.answerWeb(next, w, r) })
	d.log.Info("control is served", "address", next.socket.Addr().String())
	if at, ok := next.socket.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		d.log.Warn("admin.address is no loopback address: tokens go over the network as plain text", "address", at.String())
	}
	go next.http.Serve(next)
}

// CloseWeb ends the listening over TCP. Who is being answered has a moment to read that.
func (d *Desk) CloseWeb() { d.use(nil) }

// end closes the listener, and lets those have their answer who wait for it.
func (l *listening) end() {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if l.http.Shutdown(ctx) != nil {
		l.http.Close()
	}
}

// lastAnswers is how long those who are being answered have when the listener goes.
const lastAnswers = 5 * time.Second

// Accept returns the next connection that there is room for.
func (l *listening) Accept() (net.Conn, error) {
	for {
		conn, err := l.socket.Accept()
		if err != nil {
			return nil, err
		}
		v := &visitor{TCPConn: conn.(*net.TCPConn), crowd: l.crowd}
		in, late := l.crowd.admit(v, false)
		switch {
		case in:
			return v, nil
		case late:
			v.dismiss()
			go v.linger()
		default:
			v.Close()
		}
	}
}

// Close closes the listener.
func (l *listening) Close() error { return l.socket.Close() }

// Addr returns where it listens.
func (l *listening) Addr() net.Addr { return l.socket.Addr() }

// visitor is a connection over TCP.
type visitor struct {
	*net.TCPConn
	crowd *crowd
	once  sync.Once
	shown atomic.Bool // the page, which whoever asks for it reads, or does not
}

// Close closes the connection.
func (v *visitor) Close() error {
	v.once.Do(func() { v.crowd.left(v) })
	return v.TCPConn.Close()
}

// dismiss says that there is no room. A page that is being read just breaks off.
func (v *visitor) dismiss() {
	if v.shown.Load() {
		v.TCPConn.Close()
		return
	}
	io.WriteString(atOnce{v}, noRoom())
	v.CloseWrite()
	v.SetReadDeadline(time.Now().Add(farewell))
}

// linger reads what there is, so that the answer is not lost to a reset.
func (v *visitor) linger() {
	io.Copy(io.Discard, v.TCPConn)
	v.Close()
}

// answerWeb answers a request over TCP: of a page of its own, and else of whoever has a token.
func (d *Desk) answerWeb(l *listening, w http.ResponseWriter, r *http.Request) {
	switch {
	case !isOwnHost(r.Host, l.address):
		refuse(w, http.StatusForbidden, "this is no host of admin.address; ask by address, or as localhost")
	case !isOwnOrigin(r):
		refuse(w, http.StatusForbidden, "pages of other origins may not ask")
	case d.page != nil && !strings.HasPrefix(r.URL.Path, "/v1/") && !strings.HasPrefix(r.URL.Path, "/publish"):
		d.show(w, r)
	default:
		g := d.bearer(tokenOf(r))
		if g == nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "no token, or a wrong one: Authorization: Bearer TOKEN, with one whose hash admin.tokens has")
			return
		}
		d.serve(w, r, g)
	}
}

// show answers with the page, for which nobody needs a token: where there is no room, it makes some for those who have one, as who waits does.
func (d *Desk) show(w http.ResponseWriter, r *http.Request) {
	v := connectionOf(r.Context()).member.(*visitor)
	v.shown.Store(true)
	defer v.shown.Store(false)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	d.page.ServeHTTP(w, r)
}

// tokenOf returns the token that a request brings: as a bearer, or, from clients of Pushpin that know no other way, as the password of the Basic scheme.
func tokenOf(r *http.Request) string {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(kind, "Bearer") {
		return strings.TrimSpace(token)
	}
	if _, password, ok := r.BasicAuth(); ok && strings.HasPrefix(r.URL.Path, "/publish") {
		return password
	}
	return ""
}

// isOwnHost reports whether a Host names this listener by what nobody else can give it: an address, localhost, or the host of the configuration. A page can have a
// name of its own lead here (DNS rebinding), and is then asked for by that.
func isOwnHost(host, address string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	own, _, _ := net.SplitHostPort(address)
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost") || own != "" && strings.EqualFold(host, own)
}

// isOwnOrigin reports whether a request has no Origin (RFC 6454), as those of programs, or the one of the page that is served here.
func isOwnOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return len(origins) == 1 && err == nil && u.Scheme == "http" && strings.EqualFold(u.Host, r.Host)
}
