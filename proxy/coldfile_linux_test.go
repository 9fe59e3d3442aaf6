package proxy_test

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFileOnAColdDiskIsWhole, of which the kernel has nothing in its cache, or every other stretch.
func TestFileOnAColdDiskIsWhole(t *testing.T) {
	const stretch = 256 << 10
	content := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{}).Read(content)
	root := directory(t, map[string]string{"big": string(content), "small": string(content[:4096])})
	f := startTLS(t, secureSite(`{path: /, static: "`+root+`"}`))
	chill := func(name string, step int) {
		file, err := os.Open(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		file.Sync()
		for at := 0; at < len(content); at += step {
			unix.Fadvise(int(file.Fd()), int64(at), stretch, unix.FADV_DONTNEED)
		}
	}
	for name, address := range map[string]string{"http": "http://" + f.plain, "https": "https://" + f.secure, "h2": "https://" + f.secure} {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{ServerName: "example.com", InsecureSkipVerify: true}, ForceAttemptHTTP2: name == "h2",
		}
		defer transport.CloseIdleConnections()
		client := &http.Client{Timeout: patience, Transport: transport}
		for _, step := range []int{stretch, 2 * stretch} {
			for file, want := range map[string]string{"big": string(content), "small": string(content[:4096])} {
				chill(file, step)
				req, err := http.NewRequest("GET", address+"/"+file, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "example.com"
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != want {
					t.Errorf("%s over %s: %d bytes, or others, %v", file, name, len(got), err)
				}
			}
		}
	}
}
