package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wstunnel/internal/pebble"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wstunnel": main})
}

// TestScripts runs the binary for every subcommand, flag, exit code and error text: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], freePort(t)) },
			"get":      get,
			"signal":   signalBackground,

			"unprivileged": unprivileged,
		},
		Condition: condition,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

// exits runs a command and checks its exit code: exits 2 wstunnel check.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// unprivileged is exits for a process that may not bind low ports: unprivileged 1 wstunnel run config.yaml.
func unprivileged(ts *testscript.TestScript, neg bool, args []string) {
	if os.Geteuid() == 0 {
		args = slices.Insert(args, 1, "setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
	}
	exits(ts, neg, args)
}

// condition tells whether low ports take a privilege, which some containers do without.
func condition(name string) (bool, error) {
	if name != "lowports" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	return err == nil && strings.TrimSpace(string(first)) == "1024", nil
}

// freePort returns a port of the loopback interface that stays free until it is listened on. Scripts have it in a variable: freeport NAME.
func freePort(t *testing.T) string {
	l := pebble.Listen(t)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// get asks for a URL, again until it is answered, and checks the status: get STATUS URL.
func get(ts *testscript.TestScript, _ bool, args []string) {
	var last string
	client := http.Client{
		Timeout:       time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for range 100 {
		resp, err := client.Get(args[1])
		if err == nil {
			resp.Body.Close()
			if last = fmt.Sprint(resp.StatusCode); last == args[0] {
				return
			}
		} else {
			last = err.Error()
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s: %s, want %s", args[1], last, args[0])
}

// signalBackground sends a signal to what runs in the background: signal HUP.
func signalBackground(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": os.Interrupt}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(signals[args[0]]))
	}
}
