package main

import (
	"encoding/json"
	"strings"
	"testing"

	"wstunnel/internal/admin"
)

// TestNoTerminalObeysWhatClientsSay: a path of a client's choice is JSON, and nothing else.
func TestNoTerminalObeysWhatClientsSay(t *testing.T) {
	path := "/\x1b[31m\u009b41m\x7f\u202e\U000e0041 é\U0001f600"
	var out strings.Builder
	if err := printEscaped(&out, admin.Tunnel{Path: path}); err != nil {
		t.Fatal(err)
	}
	if want := `"path":"/\u001b[31m\u009b41m\u007f\u202e\udb40\udc41 é😀"`; !strings.Contains(out.String(), want) {
		t.Errorf("%s has no %s", out.String(), want)
	}
	var back admin.Tunnel
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back.Path != path || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("read back it is %q, %v", back.Path, err)
	}
}
