package proxy_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"wstunnel/proxy"
)

// startPieces serves one file of 16 MiB that is read piece by piece.
func startPieces(t *testing.T) (f *front, name string, content []byte) {
	t.Helper()
	content = make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{}).Read(content)
	root := directory(t, map[string]string{"big": string(content)})
	f = start(t, oneSite(`{path: /, static: "`+root+`"}`))
	f.server.KeepNoFilesOpen()
	return f, filepath.Join(root, "big"), content
}

func TestFileReadInPiecesIsWhole(t *testing.T) {
	f, _, content := startPieces(t)
	c := f.dial()
	c.send(strings.Replace(get, "/ ", "/big ", 1))
	if a := c.expect(200); !bytes.Equal([]byte(a.body), content) {
		t.Errorf("%d bytes came, or others", len(a.body))
	}
	c.send("GET /big HTTP/1.1\r\n" + host + "Range: bytes=5000000-5000099\r\n\r\n")
	if a := c.expect(206); a.body != string(content[5000000:5000100]) {
		t.Errorf("another range came, of %d bytes", len(a.body))
	}
}

// TestFileThatIsReplacedBetweenPiecesEndsItsResponse: two halves of two files would look whole.
func TestFileThatIsReplacedBetweenPiecesEndsItsResponse(t *testing.T) {
	f, name, content := startPieces(t)
	c := f.dial()
	c.send(strings.Replace(get, "/ ", "/big ", 1))
	c.head()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	if got := len(c.rest()); got >= len(content) {
		t.Errorf("got %d bytes", got)
	}
}

// TestTroubleIsNoMissingFile: what can pass is 503, and only what the name itself leads to is 404. What the operator has to mend is logged.
func TestTroubleIsNoMissingFile(t *testing.T) {
	for _, tt := range []struct {
		cause      error
		status     int
		retryAfter string
		logged     bool
	}{
		{syscall.EMFILE, 503, "1", true},
		{syscall.ENFILE, 503, "1", true},
		{syscall.EIO, 503, "1", true},
		{syscall.ENOMEM, 503, "1", true},
		{syscall.ESTALE, 503, "1", true},
		{syscall.ETIMEDOUT, 503, "1", true},
		{syscall.EACCES, 403, "", true},
		{syscall.EPERM, 403, "", true},
		{syscall.ENOENT, 404, "", false},
		{syscall.ENOTDIR, 404, "", true},
		{syscall.ENAMETOOLONG, 404, "", true},
		{syscall.ELOOP, 404, "", true},
		{errors.New("path escapes from parent"), 404, "", true},
	} {
		err := &fs.PathError{Op: "openat", Path: "a.txt", Err: tt.cause}
		status, retryAfter, logged := proxy.AnswerFileError(err)
		if status != tt.status || retryAfter != tt.retryAfter || errors.Is(logged, tt.cause) != tt.logged {
			t.Errorf("%v: %d with Retry-After %q, and the log tells of %v", tt.cause, status, retryAfter, logged)
		}
	}
}
