package probe

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
)

// Target is what a URL names.
type Target struct {
	url           *url.URL
	secure        bool
	host          string // canonical
	port          string
	authority     string // as the request's Host has it, without the port that the scheme stands for
	authorization string // of the URL's user and password; empty for none
}

// ParseURL parses the URL of a WebSocket. http:// counts as ws://, and https:// as wss://.
func ParseURL(text string) (*Target, error) {
	scheme, _, ok := strings.Cut(text, "://")
	if !ok {
		return nil, fmt.Errorf("%q is no URL: write wss://%s", text, strings.TrimPrefix(text, "//"))
	}
	t := &Target{port: "80"}
	switch strings.ToLower(scheme) {
	case "ws", "http":
	case "wss", "https":
		t.secure, t.port = true, "443"
	default:
		return nil, fmt.Errorf("%q begins with %s://, where ws, wss, http or https is allowed", text, scheme)
	}
	u, err := url.Parse(text)
	if parsing, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("%q is no URL: %w", text, parsing.Err)
	}
	t.url, t.host = u, host.Canonical(u.Hostname())
	t.authority = bracketed(t.host)
	if u.Port() != "" && u.Port() != t.port {
		t.port = u.Port()
		t.authority += ":" + t.port
	}
	if !host.Valid(bracketed(t.host) + ":" + t.port) {
		return nil, fmt.Errorf("%q names no host that can be asked for", text)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		t.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return t, nil
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// String returns the URL without its password.
func (t *Target) String() string { return t.withScheme(t.secure) }

// withScheme is the URL with ws:// or wss:// in front.
func (t *Target) withScheme(secure bool) string {
	scheme := "ws"
	if secure {
		scheme = "wss"
	}
	return scheme + "://" + t.authority + t.uri()
}

// uri is the request target.
func (t *Target) uri() string { return t.url.RequestURI() }

// Origin returns the origin of a page beside the WebSocket.
func (t *Target) Origin() string {
	if t.secure {
		return "https://" + t.authority
	}
	return "http://" + t.authority
}

// address is where the host listens.
func (t *Target) address() string { return net.JoinHostPort(t.host, t.port) }

// isLoopback reports whether the host is this machine, which browsers trust without TLS.
func (t *Target) isLoopback() bool {
	addr, err := netip.ParseAddr(t.host)
	return err == nil && addr.IsLoopback() || t.host == "localhost" || strings.HasSuffix(t.host, ".localhost")
}

// ParseField parses a header as it is written on a command line, `Name: value`.
func ParseField(text string) (head.Field, error) {
	name, value, ok := strings.Cut(text, ":")
	value = head.Trim(value)
	_, bad := head.BadValueByte(value)
	f := head.Field{Name: name, Value: value, ID: head.IDOf(name)}
	switch {
	case !ok || !head.IsToken(name) || bad:
		return f, fmt.Errorf("%q is no header: write 'Name: value'", text)
	case f.ID == head.ContentLength || f.ID == head.TransferEncoding:
		return f, fmt.Errorf("%s is for a body, and there is none", f.ID)
	case f.ID == head.Host && !host.Valid(value):
		return f, fmt.Errorf("%q is no host", value)
	}
	return f, nil
}

// CheckField reports a header that the handshake has itself, and that nothing can take the place of.
func CheckField(f head.Field) error {
	if f.ID == head.Upgrade || f.ID == head.Connection {
		return fmt.Errorf("the handshake has its own %s", f.ID)
	}
	return nil
}

// ParseConnect parses what is connected to in place of a URL's host: host:port, or unix:/path.
func ParseConnect(text string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", "", fmt.Errorf("%q is no address: write unix: and the whole path of the socket", text)
		}
		return "unix", path, nil
	}
	name, port, err := net.SplitHostPort(text)
	if err != nil || port == "" || !host.Valid(bracketed(name)+":"+port) {
		return "", "", fmt.Errorf("%q is no address: write host:port, or unix:/path", text)
	}
	return "tcp", text, nil
}
