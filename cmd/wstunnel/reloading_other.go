//go:build !linux

package main

import "github.com/coreos/go-systemd/v22/daemon"

func reloadingState() string { return daemon.SdNotifyReloading }
