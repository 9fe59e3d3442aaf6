//go:build unix

package proxy_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestStaticDoesNotWaitForANamedPipe(t *testing.T) {
	f, root := startStatic(t)
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	c.send("GET /pipe HTTP/1.1\r\n" + host + "\r\n")
	c.expect(404)
}
