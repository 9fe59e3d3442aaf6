//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestManualPagesAreUpToDate, and man(1) has nothing to say against them. UPDATE_GOLDEN=1 writes them anew.
func TestManualPagesAreUpToDate(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	kept, written := filepath.Join(root, "man"), t.TempDir()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		must(t, wstunnel(t, "man", kept, filepath.Join(root, "docs", "reference")))
	}
	must(t, wstunnel(t, "man", written, filepath.Join(root, "docs", "reference")))
	if out, err := exec.Command("diff", "-u", kept, written).CombinedOutput(); err != nil {
		t.Errorf("run `make man`: what the pages in man/ have, and what they should:\n%s", out)
	}
	pages, err := filepath.Glob(filepath.Join(written, "wstunnel*.[15]"))
	if err != nil || len(pages) < 18 {
		t.Errorf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		cmd := exec.Command(installed(t, "man", "man-db"), "--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8", page)
		cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8")
		var said strings.Builder
		cmd.Stderr = &said
		text, err := cmd.Output()
		if err != nil || said.String() != "" || len(text) < 500 {
			t.Errorf("man %s: %v, %q, %d bytes", filepath.Base(page), err, said.String(), len(text))
		}
	}
}

// TestMakeInstallPutsPagesAndCompletionsInTheirPlaces below DESTDIR.
func TestMakeInstallPutsPagesAndCompletionsInTheirPlaces(t *testing.T) {
	dest := t.TempDir()
	cmd := exec.Command("make", "-C", filepath.Join("..", ".."), "install", "DESTDIR="+dest, "VERSION=v0.0.0", "BINARY="+filepath.Join(t.TempDir(), "wstunnel"))
	must(t, cmd)
	for _, name := range []string{
		"bin/wstunnel", "share/man/man1/wstunnel.1", "share/man/man1/wstunnel-send.1", "share/man/man5/wstunnel.yaml.5",
		"share/bash-completion/completions/wstunnel", "share/zsh/site-functions/_wstunnel", "share/fish/vendor_completions.d/wstunnel.fish",
	} {
		if info, err := os.Stat(filepath.Join(dest, "usr", "local", name)); err != nil || info.Size() < 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	man := exec.Command("man", "-M", filepath.Join(dest, "usr/local/share/man"), "wstunnel-kick")
	if out, err := man.CombinedOutput(); err != nil || len(out) < 500 {
		t.Errorf("man wstunnel-kick: %v, %s", err, out)
	}
}
