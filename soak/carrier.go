//go:build linux

package main

//lint:file-ignore SA1019 net/http's own Transport refuses the field :protocol of an extended CONNECT

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"golang.org/x/net/http2"
)

// carriers are the connections over HTTP/2, each with as many tunnels as a server lets it have.
type carriers struct {
	front *front
	mu    sync.Mutex
	all   []*http2.Transport
	used  int
}

// perCarrier is below the 100 streams that servers allow.
const perCarrier = 50

// next returns a transport that has room for one more tunnel.
func (c *carriers) next() *http2.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used%perCarrier == 0 {
		c.all = append(c.all, &http2.Transport{TLSClientConfig: clientTLS("h2")})
	}
	c.used++
	return c.all[len(c.all)-1]
}

// carried is a tunnel over HTTP/2.
type carried struct {
	io.Reader
	*io.PipeWriter
	body io.Closer
}

func (c *carried) Write(p []byte) (int, error) { return c.PipeWriter.Write(p) }

func (c *carried) Close() error { return errors.Join(c.PipeWriter.Close(), c.body.Close()) }

// openCarried opens a tunnel by an extended CONNECT (RFC 8441).
func (c *carriers) openCarried(ctx context.Context, path string) (io.ReadWriteCloser, *bufio.Reader, error) {
	r, w := io.Pipe()
	request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodConnect, "https://"+c.front.secure+path, r)
	if err != nil {
		return nil, nil, err
	}
	request.Host = siteName
	request.Header[":protocol"] = []string{"websocket"}
	request.Header.Set("Sec-Websocket-Version", "13")
	resp, err := c.next().RoundTrip(request)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, nil, fmt.Errorf("the extended CONNECT was answered %d", resp.StatusCode)
	}
	return &carried{resp.Body, w, resp.Body}, bufio.NewReader(resp.Body), nil
}
