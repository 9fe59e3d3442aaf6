package tls

import (
	"os"
	"strings"
	"testing"
)

func TestKeyFilesThatOthersMayWriteAreRefused(t *testing.T) {
	cert, key := newPair(t, "example.com").write(t, t.TempDir())
	for _, tt := range []struct {
		mode            os.FileMode
		refused, warned bool
	}{
		{0o600, false, false},
		{0o640, false, false},
		{0o660, false, false},
		{0o644, false, true},
		{0o602, true, false},
		{0o666, true, false},
	} {
		if err := os.Chmod(key, tt.mode); err != nil {
			t.Fatal(err)
		}
		logs := &logBuffer{}
		_, err := newManager(logs.logger(), newClock().Now).Load(testConfig(t, fileSite(cert, key, "_")))
		if refused := err != nil && strings.Contains(err.Error(), key+": every user of this machine may write it"); refused != tt.refused {
			t.Errorf("%04o: %v", tt.mode, err)
		}
		if warned := len(logs.lines("every user of this machine may read a key file")) == 1; warned != tt.warned {
			t.Errorf("%04o: warned %t", tt.mode, warned)
		}
	}
}

// TestKeyFileThatOthersMayWriteReplacesNone has one that comes while the server runs.
func TestKeyFileThatOthersMayWriteReplacesNone(t *testing.T) {
	dir := t.TempDir()
	cert, key := newPair(t, "old.example").write(t, dir)
	c, clock, logs := followed(t, cert, key)
	address := serve(t, c.Config())
	newPair(t, "new.example").write(t, dir)
	if err := os.Chmod(key, 0o606); err != nil {
		t.Fatal(err)
	}
	clock.Add(checkInterval)
	if got := served(t, address); got != "old.example" {
		t.Errorf("served %s", got)
	}
	if got := logs.lines("certificate not reloaded"); len(got) != 1 {
		t.Errorf("logged %q", got)
	}
}
