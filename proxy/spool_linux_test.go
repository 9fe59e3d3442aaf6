package proxy_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDiskIsNoErrorForClients: their backends wait for them.
func TestFullDiskIsNoErrorForClients(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("no file system of a known size: %v", err)
	}
	defer unix.Unmount(dir, 0)
	t.Setenv("TMPDIR", dir)
	text := longText(32 << 20)
	b := startText(t, 2, text, len(text))
	f := startTLS(t, secureSite(httpTo(b.address)))
	clients := []*client{f.dialSecure(), f.dialSecure()}
	for _, c := range clients {
		c.send(get)
	}
	await(t, "a complaint", func() bool { return strings.Contains(f.log.String(), "no space left on device") })
	for _, c := range clients {
		if a := c.expect(200); a.err != nil || a.body != string(text) {
			t.Errorf("%d bytes that are not those of the backend: %v", len(a.body), a.err)
		}
	}
	f.awaitNoSpools(t)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s was left", left[0].Name())
	}
}
