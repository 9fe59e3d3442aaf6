//go:build !darwin && (!linux || portable)

package reactor

import "golang.org/x/sys/unix"

const tcpKeepIdle = unix.TCP_KEEPIDLE
