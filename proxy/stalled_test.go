package proxy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStalledDownloadHoldsLittleMemory, over TLS, where a file's bytes pass through the process.
func TestStalledDownloadHoldsLittleMemory(t *testing.T) {
	if !alone(t) {
		return
	}
	const clients, most = 100, 200 << 10
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f := startTLS(t, secureSite(`{path: /, static: "`+dir+`"}`))
	before := heap()
	for range clients {
		f.dialSecure().send(strings.Replace(get, "/ ", "/big ", 1))
	}
	held := awaitFlat(func() uint64 {
		now := heap()
		return now - min(before, now)
	})
	if held/clients > most {
		t.Errorf("each stalled download holds %d bytes", held/clients)
	}
}
