package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"wstunnel/internal/config"
	"wstunnel/internal/demo"
	"wstunnel/internal/logs"
)

func newDemoCommand(stdout, stderr io.Writer) *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve an example site with a chat on this machine",
		Long: `Demo runs the ordinary server on 127.0.0.1, in front of a small site with a chat page
and a chat backend. It prints where to look, and the configuration that it runs.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			log, flush := newLog(stderr)
			defer flush()
			return runDemo(stdout, log, o)
		},
	}
	cmd.Flags().IntVar(&o.HTTPPort, "http-port", 8080, "the port for http:// and ws://")
	cmd.Flags().IntVar(&o.HTTPSPort, "https-port", 8443, "the port for https:// and wss://")
	return cmd
}

func runDemo(stdout io.Writer, log *logs.Log, o demo.Options) error {
	var err error
	if o.Storage, err = demoStorage(); err != nil {
		return err
	}
	o.Logger = log.Logger()
	d, err := demo.Start(o)
	if err != nil {
		return usageError{err}
	}
	defer d.Close()
	text := d.YAML()
	load := func() (*config.Config, error) { return config.Parse("demo.yaml", []byte(text), os.LookupEnv) }
	err = serve(log, origin{}, configSource{first: load, again: load}, func() {
		fmt.Fprintf(stdout, "The demo is running:\n\n  http://127.0.0.1:%d/     the chat over ws://\n"+
			"  https://127.0.0.1:%d/    the chat over wss://, with a certificate of the local CA\n"+
			"                             %s\n\nIts configuration:\n\n%s\nCtrl-C stops it.\n",
			o.HTTPPort, o.HTTPSPort, filepath.Join(o.Storage, "ca.pem"), text)
	})
	return busyPort(err, o)
}

// busyPort says which flag takes another port where one is in use.
func busyPort(err error, o demo.Options) error {
	bind, ok := errors.AsType[*net.OpError](err)
	if !ok || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	flag, port := "--http-port", o.HTTPPort
	if address, ok := bind.Addr.(*net.TCPAddr); ok && address.Port == o.HTTPSPort {
		flag, port = "--https-port", o.HTTPSPort
	}
	return fmt.Errorf("port %d of 127.0.0.1 is in use; take another one with %s", port, flag)
}

// demoStorage is a folder that outlives the demo, so that its CA has to be trusted only once.
func demoStorage() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", errors.Join(errors.New("no folder for the demo's certificates"), err)
	}
	return filepath.Join(cache, "wstunnel", "demo"), nil
}
