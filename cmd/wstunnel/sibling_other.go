//go:build !linux

package main

import "os/exec"

// startSibling starts a process that is to outlive this one.
func startSibling(cmd *exec.Cmd) (*child, error) { return startChild(cmd) }
