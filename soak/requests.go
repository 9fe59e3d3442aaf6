//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// pages asks for pages, one after the other, until ctx ends, over plain HTTP/1.1, TLS or HTTP/2. Connections are kept, and now and then left.
func pages(ctx context.Context, f *front, k kind, t *tally) {
	url, client := "http://"+f.plain+"/", &http.Client{Timeout: 30 * time.Second}
	switch k {
	case overPlain:
		client.Transport = &http.Transport{}
	case overTLS:
		url, client.Transport = "https://"+f.secure+"/", &http.Transport{TLSClientConfig: clientTLS("http/1.1")}
	case overHTTP2:
		url, client.Transport = "https://"+f.secure+"/", &http.Transport{TLSClientConfig: clientTLS("h2"), ForceAttemptHTTP2: true}
	}
	const perConnection = 200
	for n := 0; rest(ctx, 5*time.Millisecond); n++ {
		if n%perConnection == 0 {
			client.CloseIdleConnections()
		}
		if err := get(ctx, client, url); err != nil && ctx.Err() == nil {
			t.note(t.failed, "GET over %s: %v", k, err)
		} else if err == nil {
			t.answered.Add(1)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Host = siteName
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %d", resp.StatusCode)
	case string(body) != page:
		return fmt.Errorf("a page of %d bytes, want %d", len(body), len(page))
	}
	return nil
}
