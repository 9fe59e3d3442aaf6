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

// TestReloadAsksTheServerAlone: what else runs there can refuse a configuration that the server takes.
func TestReloadAsksTheServerAlone(t *testing.T) {
	settings := settingsOf(t)
	if reload := strings.Join(settings["ExecReload"], "; "); reload != "/usr/local/bin/wstunnel upgrade --config /etc/wstunnel/config.yaml" {
		t.Errorf("ExecReload is %q", reload)
	}
}

// TestUpgradesAndRestartsKeepTunnels: what the server needs of the unit for that.
func TestUpgradesAndRestartsKeepTunnels(t *testing.T) {
	settings := settingsOf(t)
	for name, want := range map[string]string{
		"Type": "notify", "NotifyAccess": "main", // which names the next one itself
		"KillMode": "mixed", "WatchdogSec": "30s", "FileDescriptorStoreMax": "65536",
	} {
		if got := strings.Join(settings[name], "; "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// settingsOf returns the settings of the service.
func settingsOf(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("wstunnel.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			settings[name] = append(settings[name], value)
		}
	}
	return settings
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
