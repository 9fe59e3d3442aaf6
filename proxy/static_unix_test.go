//go:build unix

package proxy_test

import (
	"path/filepath"
	"syscall"
	"testing"
)

func TestStaticDoesNotWaitForANamedPipe(t *testing.T) {
	f, root := startStatic(t)
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.send("GET /pipe HTTP/1.1\r\n" + host + "\r\n")
	c.expect(404)
}
