//go:build linux

package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed peers
var peerFiles embed.FS

// siteName is the host that clients ask for.
const siteName = "soak.example"

// front is the program under test.
type front struct {
	dir, plain, secure string
	binary             string
	group              int // of its processes
	main               *exec.Cmd
	program            program
	reloads            int
}

// program is how one kind of front is run, reloaded and upgraded.
type program struct {
	config  string
	args    func(f *front) []string
	reload  func(f *front) error
	upgrade func(f *front) error
	carries bool // tunnels over HTTP/2
	orphan  bool // it does what it is told only when its parent has gone
}

var fronts = map[string]program{
	"wstunnel": {
		config:  "wstunnel.yaml",
		args:    func(f *front) []string { return []string{"run", "--config", f.file("wstunnel.yaml")} },
		reload:  func(f *front) error { return f.command(f.binary, "reload", "--config", f.file("wstunnel.yaml")) },
		upgrade: upgradeWstunnel, carries: true,
	},
	"nginx": {
		config:  "nginx.conf",
		args:    func(f *front) []string { return []string{"-e", f.file("log"), "-c", f.file("nginx.conf")} },
		reload:  func(f *front) error { return f.signal("pid", syscall.SIGHUP) },
		upgrade: upgradeNginx, orphan: true,
	},
	"haproxy": {
		config: "haproxy.cfg",
		args: func(f *front) []string {
			return []string{"-W", "-db", "-p", f.file("pid"), "-f", f.file("haproxy.cfg")}
		},
		reload:  func(f *front) error { return f.main.Process.Signal(syscall.SIGUSR2) },
		upgrade: func(f *front) error { return f.main.Process.Signal(syscall.SIGUSR2) }, // the master runs its binary anew
		carries: true,
	},
}

func (f *front) file(name string) string { return filepath.Join(f.dir, name) }

// startFront starts a front with backends: some that live on, and some that die.
func startFront(o options, dir string, steady, mortal []string) (*front, error) {
	f := &front{dir: dir, program: fronts[o.peer]}
	if err := writeCertificate(f.file("cert.pem"), f.file("key.pem")); err != nil {
		return nil, err
	}
	var err error
	if f.plain, f.secure, err = twoAddresses(); err != nil {
		return nil, err
	}
	if err := f.configure(steady, mortal); err != nil {
		return nil, err
	}
	if f.binary, err = f.find(o); err != nil {
		return nil, err
	}
	f.main = exec.Command(f.binary, f.program.args(f)...)
	if f.program.orphan { // a shell starts it, and goes
		f.main = exec.Command("/bin/sh", append([]string{"-c", `"$0" "$@" & sleep 1`}, f.main.Args...)...)
	}
	log, err := os.Create(f.file("log"))
	if err != nil {
		return nil, err
	}
	f.main.Stdout, f.main.Stderr = log, log
	f.main.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := f.main.Start(); err != nil {
		return nil, err
	}
	f.group = f.main.Process.Pid
	for _, address := range []string{f.plain, f.secure} {
		if err := awaitListener(address); err != nil {
			text, _ := os.ReadFile(f.file("log"))
			f.stop()
			return nil, fmt.Errorf("%s does not listen: %w\n%s", f.binary, err, text)
		}
	}
	return f, nil
}

// find returns the binary: of wstunnel a copy, which an upgrade replaces.
func (f *front) find(o options) (string, error) {
	if o.peer != "wstunnel" {
		os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
		return exec.LookPath(o.peer)
	}
	binary := f.file("wstunnel")
	return binary, copyFile(binary, o.wstunnel)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// configure writes the configuration, with another value in a place that does not matter each time, so that a reload has something to do.
func (f *front) configure(steady, mortal []string) error {
	f.reloads++
	text, err := template.ParseFS(peerFiles, "peers/"+f.program.config)
	if err != nil {
		return err
	}
	_, plain, _ := net.SplitHostPort(f.plain)
	_, secure, _ := net.SplitHostPort(f.secure)
	var b bytes.Buffer
	err = text.Execute(&b, map[string]any{
		"Dir": f.dir, "Plain": plain, "Secure": secure, "Steady": steady, "Mortal": mortal, "Site": siteName, "Reloads": f.reloads,
	})
	if err != nil {
		return err
	}
	beside := f.file("next")
	if err := os.WriteFile(beside, b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(beside, f.file(f.program.config))
}

func (f *front) command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// signal signals the process whose number stands in a file.
func (f *front) signal(pidFile string, sig syscall.Signal) error {
	text, err := os.ReadFile(f.file(pidFile))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	return syscall.Kill(pid, sig)
}

// upgradeWstunnel puts the binary anew in its place, as a package does, and has it taken up.
func upgradeWstunnel(f *front) error {
	beside := f.file("wstunnel.next")
	if err := copyFile(beside, f.binary); err != nil {
		return err
	}
	if err := os.Rename(beside, f.binary); err != nil {
		return err
	}
	return f.command(f.binary, "upgrade", "--config", f.file("wstunnel.yaml"))
}

// upgradeNginx starts a new master beside the old one, and lets that go when the new one has its process number written.
func upgradeNginx(f *front) error {
	if err := f.signal("pid", syscall.SIGUSR2); err != nil {
		return err
	}
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		if _, err := os.Stat(f.file("pid.oldbin")); err == nil {
			if _, err := os.Stat(f.file("pid")); err == nil {
				return f.signal("pid.oldbin", syscall.SIGQUIT)
			}
		}
	}
	return errors.New("no new master came")
}

// stop ends all its processes.
func (f *front) stop() {
	syscall.Kill(-f.group, syscall.SIGTERM)
	for range 100 {
		if time.Sleep(100 * time.Millisecond); len(f.processes()) == 0 {
			break
		}
	}
	syscall.Kill(-f.group, syscall.SIGKILL)
	f.main.Wait()
}

// processes are those of the front, the old ones of upgrades included. One that has ended and was not waited for is none.
func (f *front) processes() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(f.group) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// usage is what the front's processes hold together.
type usage struct {
	processes, descriptors int
	memory                 int // anonymous, in KiB
}

func (f *front) usage() (u usage) {
	for _, pid := range f.processes() {
		u.processes++
		open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		u.descriptors += len(open)
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, found := strings.Cut(string(status), "RssAnon:"); found {
			kb := 0
			fmt.Sscan(rest, &kb)
			u.memory += kb
		}
	}
	return u
}

// twoAddresses are free ones of this machine.
func twoAddresses() (a, b string, err error) {
	addresses, err := freeAddresses(2)
	if err != nil {
		return "", "", err
	}
	return addresses[0], addresses[1], nil
}

func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
