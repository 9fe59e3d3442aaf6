//go:build linux

package main_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// shells complete a command line whose words are the arguments of a script, the last of them as far as it was typed; the first argument is what
// `wstunnel completion` prints.
var shells = map[string]string{
	"bash": `. /usr/share/bash-completion/bash_completion; compopt() { :; }; . "$1"; shift
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_TYPE=9; COMP_POINT=${#COMP_LINE}
		__start_wstunnel; printf '%s\n' "${COMPREPLY[@]}"`,
	"zsh": `compdef() { }; _describe() { print -l -- ${(M)completions:#${words[-1]}*} }
		. "$1"; shift; words=("$@") CURRENT=$#; _wstunnel`,
	"fish": `source $argv[1]; complete -C (string join -- ' ' $argv[2..-1])`,
}

// TestShellsComplete what the running server knows, but for names that mean something to a shell; and nothing where there is no server.
func TestShellsComplete(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	f.dialSocket(t, "ws", "/ws?user=anna&groups="+url.QueryEscape("lobby,$(touch$IFS'owned'),;touch,`touch${IFS}owned`,-rf,staff"))
	f.dialSocket(t, "ws", "/ws?user=%24HOME")
	var ids []string
	for _, tunnel := range controlOf(t, yaml).awaitTunnels(2).Tunnels {
		ids = append(ids, tunnel.ID)
	}
	bin := t.TempDir()
	if err := os.Symlink(wstunnel(t).Path, filepath.Join(bin, "wstunnel")); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	for shell := range shells {
		t.Run(shell, func(t *testing.T) {
			printed, err := wstunnel(t, "completion", shell).Output()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "script"), printed, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, line := range []struct {
				words []string
				want  []string
			}{
				{[]string{"kick", "--config", f.config, ""}, ids},
				{[]string{"send", "--config", f.config, ids[0][:2]}, ids[:1]},
				{[]string{"send", "--config", f.config, "--user", "anna", ""}, nil},
				{[]string{"send", "--config", f.config, "--user", ""}, []string{"anna"}},
				{[]string{"tunnels", "--config", f.config, "--group", ""}, []string{"lobby", "staff"}},
				{[]string{"tunnels", "--config", f.config, "--group", "st"}, []string{"staff"}},
				{[]string{"drain", "--config", f.config, "--site", ""}, []string{"_"}},
				{[]string{"kick", "--socket", none, ""}, nil},
				{[]string{"tunn"}, []string{"tunnels"}},
			} {
				got, out := complete(t, shell, dir, bin, line.words)
				if !slices.Equal(got, line.want) {
					t.Errorf("%q is completed with %q, want %q", line.words, out, line.want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "owned")); err == nil {
				t.Error("a group's name was run")
			}
		})
	}
}

// complete has a shell complete the words of a command line with the script in a directory, and returns the completions, in order, and all that it printed.
func complete(t *testing.T, shell, dir, bin string, words []string) (got []string, printed string) {
	t.Helper()
	args := []string{"-c", shells[shell], filepath.Join(dir, "script"), "wstunnel"}
	if shell != "fish" { // which has no name of the script before its arguments
		args = slices.Insert(args, 2, "shell")
	}
	cmd := exec.Command(installed(t, shell, shell), append(args, words...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%q took %v", words, took)
	}
	for l := range strings.Lines(string(out)) {
		if word, _, _ := strings.Cut(strings.TrimSpace(l), "\t"); word != "" {
			got = append(got, strings.TrimSpace(strings.SplitN(word, ":", 2)[0]))
		}
	}
	slices.Sort(got)
	return got, fmt.Sprintf("%s (%v)", out, err)
}
