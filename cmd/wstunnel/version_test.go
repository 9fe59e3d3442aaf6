package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wstunnel/internal/config"
)

// TestBuildKnowsItsVersion builds a clone with a tag, by the Makefile's flags and without.
func TestBuildKnowsItsVersion(t *testing.T) {
	clone := t.TempDir()
	in := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = clone
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_DIR="+filepath.Join(clone, ".git"),
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	for _, name := range []string{"Makefile", "go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(clone, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"cmd", "internal", "proxy", "tls"} {
		if err := os.CopyFS(filepath.Join(clone, name), os.DirFS(filepath.Join("../..", name))); err != nil {
			t.Fatal(err)
		}
	}
	in("git", "init", "-q")
	in("git", "add", ".")
	in("git", "commit", "-q", "-m", "all")
	in("git", "tag", "v1.2.3")
	if out := in("make", "-n", "build"); !strings.Contains(out, "-X main.release=v1.2.3'") {
		t.Errorf("make build runs %s", out)
	}
	binary := filepath.Join(t.TempDir(), "wstunnel")
	for flags, want := range map[string]string{"": "wstunnel v1.2.3 (go", "-X main.release=v2.0.0-7-gabc": "wstunnel v2.0.0-7-gabc (go"} {
		in("go", "build", "-buildvcs=true", "-ldflags", flags, "-o", binary, "./cmd/wstunnel")
		if out := in(binary, "--version"); !strings.HasPrefix(out, want) {
			t.Errorf("with -ldflags %q: %s, want %s", flags, out, want)
		}
	}
}

func TestConfigurationThatBeginnersAreShownIsRight(t *testing.T) {
	if _, err := config.Parse("config.yaml", []byte(firstConfig), nil); err != nil {
		t.Error(err)
	}
}
