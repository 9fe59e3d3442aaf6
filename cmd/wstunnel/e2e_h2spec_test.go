//go:build linux

package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// h2spec is the program that holds a server to RFC 9113 and RFC 7541, at the last version that it has as a module.
const h2spec = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// TestH2specFindsNothing builds h2spec and has it try all it knows.
func TestH2specFindsNothing(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "install", h2spec)
	build.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
	build.Dir = bin
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building h2spec: %v\n%s", err, out)
	}
	f := startFront(t, settings(`{path: /, http: "http://`+startPages(t).address+`"}`))
	host, port, err := net.SplitHostPort(f.https)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "h2spec"), "--strict", "-t", "-k", "-o", "10", "-h", host, "-p", port, "-P", "/echo.php").CombinedOutput()
	passed := regexp.MustCompile(`(\d+) tests, (\d+) passed, 0 skipped, 0 failed`).FindSubmatch(out)
	if err != nil || passed == nil || string(passed[1]) != string(passed[2]) || string(passed[1]) != "146" {
		t.Errorf("%v\n%s", err, out)
	}
}
