//go:build linux

// Command soak puts live tunnels and requests through wstunnel, nginx or HAProxy while backends die and come back, the configuration is reloaded and the binary is
// upgraded, and counts what was lost. Each message has a number and a checksum.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// options are what a run is to be like.
type options struct {
	peer     string
	wstunnel string // the binary
	duration time.Duration
	tunnels  int
	requests int // clients that ask for pages, a third of them over each of HTTP/1.1, TLS and HTTP/2
	every    time.Duration
	upgrades int
	verbose  bool
}

func main() {
	runtime.LockOSThread() // whose end ends the children (Pdeathsig)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == roleBackend {
		return serveBackend(args[1])
	}
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := soak(ctx, o)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	return report.verdict(o)
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.StringVar(&o.peer, "peer", "wstunnel", "what stands in front: wstunnel, nginx or haproxy")
	f.StringVar(&o.wstunnel, "wstunnel", "bin/wstunnel", "the binary of wstunnel")
	f.DurationVar(&o.duration, "duration", 10*time.Minute, "how long it is all kept up")
	f.IntVar(&o.tunnels, "tunnels", 2000, "live tunnels")
	f.IntVar(&o.requests, "requests", 6, "clients that ask for pages, one after the other")
	f.DurationVar(&o.every, "every", time.Second, "how often each tunnel sends a message")
	f.IntVar(&o.upgrades, "upgrades", 5, "upgrades of the binary")
	f.BoolVar(&o.verbose, "v", false, "tell of each trouble as it comes")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if _, known := fronts[o.peer]; !known || f.NArg() > 0 {
		return o, fmt.Errorf("unknown peer or argument %q %q; -peer is wstunnel, nginx or haproxy", o.peer, f.Args())
	}
	return o, nil
}
