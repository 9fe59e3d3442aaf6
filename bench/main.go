//go:build linux

// Command bench drives the same work through wstunnel, nginx, HAProxy, Caddy and Apache, and compares the CPU
// time and the memory that each of them takes for it. README.md says what is measured and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

func main() {
	// Children die with the thread that started them (Pdeathsig); the main thread lives as long as the process.
	runtime.LockOSThread()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is one of three roles: the process that measures, and the two that it starts for the ends of the proxies.
func run(args []string) error {
	if len(args) > 0 && args[0] == roleBackend {
		return serveBackend(args[1:])
	}
	if len(args) > 0 && args[0] == roleLoad {
		return serveLoad()
	}
	opts, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return bench(ctx, opts)
}

// bench measures, prints the table and writes the files.
func bench(ctx context.Context, opts options) error {
	started := time.Now()
	results, err := measureAll(ctx, opts)
	if err != nil {
		return err
	}
	results.Seconds = int(time.Since(started).Seconds())
	if err := results.print(os.Stdout); err != nil {
		return err
	}
	return results.write(opts.out)
}

type options struct {
	rounds   int
	works    *regexp.Regexp
	proxies  *regexp.Regexp
	wstunnel string // the binary
	out      string // directory of the results
	quick    bool
	idle     int           // ws tunnels held open while memory is measured
	idleTLS  int           // the same, wss
	open     int           // tunnels opened while CPU time is measured
	measure  time.Duration // of the closed loops of a work in a round
	rest     time.Duration // before the memory without tunnels is read
	settle   time.Duration // before the memory with tunnels is read
}

func parse(args []string) (options, error) {
	opts := options{
		open:    2000,
		measure: 800 * time.Millisecond,
		rest:    time.Second,
		settle:  4 * time.Second,
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&opts.rounds, "rounds", 5, "rounds over all works and proxies")
	flags.IntVar(&opts.idle, "idle", 5000, "idle ws tunnels and http connections; of wss and https two fifths")
	flags.BoolVar(&opts.quick, "quick", false, "one short round: figures to try things out, not to quote")
	flags.StringVar(&opts.wstunnel, "wstunnel", "bin/wstunnel", "wstunnel's binary")
	flags.StringVar(&opts.out, "out", "bench/results", "directory for results.json and results.svg")
	works := flags.String("work", "", "regular expression of the works to measure (default all)")
	proxies := flags.String("proxies", "", "regular expression of the proxies to measure (default all)")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if opts.quick {
		opts.rounds, opts.idle, opts.open = 1, min(opts.idle, 1000), 800
		opts.measure, opts.rest, opts.settle = 400*time.Millisecond, 500*time.Millisecond, time.Second
	}
	opts.idleTLS = opts.idle * 2 / 5
	if opts.rounds < 1 || opts.idle < 100 {
		return opts, errors.New("at least one round, and 100 idle tunnels")
	}
	var err error
	if opts.works, err = regexp.Compile(*works); err != nil {
		return opts, fmt.Errorf("-work: %w", err)
	}
	if opts.proxies, err = regexp.Compile(*proxies); err != nil {
		return opts, fmt.Errorf("-proxies: %w", err)
	}
	return opts, nil
}
