package proxy_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestConnectionOverHTTP2EndsInTwoSteps(t *testing.T) {
	release := make(chan bool)
	answer := sync.OnceFunc(func() { close(release) })
	defer answer()
	b := startHeads(t, func(string) string {
		<-release
		return ok
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	c, _ := f.dialH2()
	c.request(1, getPath("/")...)
	await(t, "the request", func() bool { return len(b.seen()) == 1 })
	done := make(chan error, 1)
	go func() {
		_, err := shutdown(f, patience)
		done <- err
	}()
	away := func() *http2.GoAwayFrame {
		for {
			if f, ok := c.next().(*http2.GoAwayFrame); ok {
				return f
			}
		}
	}
	if f := away(); f.LastStreamID != 1<<31-1 || f.ErrCode != http2.ErrCodeNo {
		t.Errorf("first %v", f)
	}
	c.request(3, getPath("/")...) // it did not know yet
	b.awaitRequests(t, 2)
	f.server.Skip(time.Second)
	if f := away(); f.LastStreamID != 3 || f.ErrCode != http2.ErrCodeNo {
		t.Errorf("then %v", f)
	}
	c.request(5, getPath("/")...)
	answer()
	for i, got := range c.wholes(1, 3) {
		if got != `200 "ok" end` {
			t.Errorf("stream %d: %s", 2*i+1, got)
		}
	}
	f.server.Skip(time.Second)
	if frame, err := c.ReadFrame(); err != io.EOF {
		t.Errorf("then came %v, %v", frame, err)
	}
	c.conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(b.seen()); n != 2 {
		t.Errorf("the backend saw %d requests", n)
	}
}

// TestSmallAnswerOverHTTP2LeavesInOneRecord, whoever makes it.
func TestSmallAnswerOverHTTP2LeavesInOneRecord(t *testing.T) {
	f := startSmall(t)
	for _, path := range smallAnswers {
		if portable && strings.HasSuffix(path, ".txt") {
			continue // the head leaves while a goroutine reads the file
		}
		t.Run(path, func(t *testing.T) {
			wire, secure := f.recordTLS("h2")
			c, _ := speakH2(t, secure)
			for stream := uint32(1); stream < 11; stream += 2 {
				wire.read = nil
				c.request(stream, getPath(path)...)
				c.whole(stream)
				if n := records(wire.read); n != 1 && stream > 1 { // and so does what answers the client's SETTINGS
					t.Errorf("the answer came in %d records", n)
				}
			}
		})
	}
}
