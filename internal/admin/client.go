package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// Client speaks to a running server.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client of the server whose control socket has a path.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	return c
}

// Reload has the configuration read again, and waits for the verdict. Of a configuration with mistakes the error has one line for each.
func (c *Client) Reload(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodPost, "/v1/reload", nil, &s)
}

// Drain begins a drain, or ends one, and returns how many tunnels are being closed.
func (c *Client) Drain(ctx context.Context, order DrainOrder) (tunnels int, err error) {
	var d drained
	err = c.call(ctx, http.MethodPost, "/v1/drain", order, &d)
	return d.Tunnels, err
}

// Upgrade has the binary that is there now take over, and waits for that.
func (c *Client) Upgrade(ctx context.Context) (Upgraded, error) {
	var u Upgraded
	return u, c.call(ctx, http.MethodPost, "/v1/upgrade", nil, &u)
}

// Status asks how the server is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Certificates asks for the certificates.
func (c *Client) Certificates(ctx context.Context) (Certificates, error) {
	var list Certificates
	return list, c.call(ctx, http.MethodGet, "/v1/certificates", nil, &list)
}

// List returns a page of the tunnels that are meant.
func (c *Client) List(ctx context.Context, f Filter) (Page, error) {
	query := url.Values{}
	for name, value := range map[string]string{"site": f.Site, "user": f.User, "group": f.Group} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Client.IsValid() {
		query.Set("client", f.Client.String())
	}
	if f.After > 0 {
		query.Set("after", strconv.FormatUint(f.After, 10))
	}
	query.Set("limit", strconv.Itoa(f.Limit))
	var p Page
	return p, c.call(ctx, http.MethodGet, "/v1/tunnels?"+query.Encode(), nil, &p)
}

// Send says a text to whom it is for.
func (c *Client) Send(ctx context.Context, to Audience, text string) (Pushed, error) {
	m := push{To: &pushTo{Audience: to}, Text: &text}
	if to.Site != "" {
		m.To.Site = &to.Site
	}
	var p Pushed
	return p, c.call(ctx, http.MethodPost, "/v1/push", m, &p)
}

// SendTo says a text into one tunnel.
func (c *Client) SendTo(ctx context.Context, id, text string) (Pushed, error) {
	var p Pushed
	return p, c.call(ctx, http.MethodPost, "/v1/tunnels/"+url.PathEscape(id)+"/messages", push{Text: &text}, &p)
}

// Kick closes a tunnel.
func (c *Client) Kick(ctx context.Context, id string, code uint16, reason string) error {
	query := url.Values{"code": {strconv.Itoa(int(code))}, "reason": {reason}}
	return c.call(ctx, http.MethodDelete, "/v1/tunnels/"+url.PathEscape(id)+"?"+query.Encode(), nil, &struct{}{})
}

// call sends a request whose body is v as JSON, and reads the answer into result.
func (c *Client) call(ctx context.Context, method, path string, v, result any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://wstunnel"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(result)
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var f failure
	if err := json.Unmarshal(text, &f); err != nil || len(f.Errors) == 0 {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	if resp.StatusCode == http.StatusForbidden {
		return errors.New(strings.Join(f.Errors, "\n"))
	}
	return &RefusedError{f.Errors}
}

// RefusedError is an order that the server does not carry out.
type RefusedError struct {
	// Reasons are what is wrong, each on a line.
	Reasons []string
}

func (e *RefusedError) Error() string { return strings.Join(e.Reasons, "\n") }

// explain says what is to be done about a server that can't be reached.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server listens on %s: is it running, and does it have this configuration?", c.socket)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: no right to connect; root and the user that the server runs as have it, and whom admin.allow names", c.socket)
	}
	return err
}
