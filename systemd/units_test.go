package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool returns the path of a systemd program, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
}

func TestServiceExposureIsBelowTwo(t *testing.T) {
	run(t, tool(t, "systemd-analyze"), "security", "--offline=true", "--threshold=19", "./wstunnel.service")
}

func TestUnitsVerify(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"wstunnel.service", "wstunnel.socket"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The verifier wants the commands to be there.
		here := strings.ReplaceAll(string(text), "/usr/local/bin/wstunnel ", "/bin/true ")
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(here), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze verify: %v\n%s", err, out)
	}
	// Unknown keys are only warned of. Other units of the machine may be at fault too.
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "wstunnel.") {
			t.Error(strings.TrimSpace(line))
		}
	}
}

func TestReloadOnlySendsASignal(t *testing.T) {
	text, err := os.ReadFile("wstunnel.service")
	if err != nil {
		t.Fatal(err)
	}
	var reload []string
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecReload="); ok {
			reload = append(reload, command)
		}
	}
	if strings.Join(reload, "; ") != "/bin/kill -HUP $MAINPID" {
		t.Errorf("ExecReload is %q; what else runs there can refuse a configuration that the server takes", reload)
	}
}

func TestSysusersAndTmpfilesApply(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	sysusers, tmpfiles := tool(t, "systemd-sysusers"), tool(t, "systemd-tmpfiles")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, sysusers, "--root="+root, fragment(t, "wstunnel.sysusers"))
	run(t, tmpfiles, "--root="+root, "--create", fragment(t, "wstunnel.tmpfiles"))
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !strings.Contains(string(passwd), "wstunnel:x:") {
		t.Errorf("passwd: %v\n%s", err, passwd)
	}
	info, err := os.Stat(filepath.Join(root, "etc/wstunnel"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeDir|0o750 {
		t.Errorf("/etc/wstunnel has mode %v", info.Mode())
	}
}

// fragment returns the absolute name of a file of this directory.
func fragment(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
