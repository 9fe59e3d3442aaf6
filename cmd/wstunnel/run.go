package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"wstunnel/internal/config"
	"wstunnel/proxy"
	"wstunnel/tls"
)

func newRunCommand(stderr io.Writer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve the sites of the configuration",
		Long: `Run serves until SIGTERM or SIGINT, which end requests and tunnels in good order within
shutdown_timeout; a second one ends the process at once. SIGHUP reads the configuration again; if
it has mistakes, they are logged and the old one stays. No reload touches a live tunnel.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			inherited, err := activation.Listeners()
			if err != nil {
				return fmt.Errorf("taking over sockets from systemd: %w", err)
			}
			// A socket that is no stream socket comes as nil.
			inherited = slices.DeleteFunc(inherited, func(l net.Listener) bool { return l == nil })
			log, flush := newLogger(stderr)
			defer flush()
			return serve(log, cfg, inherited, func() (*config.Config, error) { return config.Load(file) }, nil)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// serve runs a configuration until a signal ends it: the ordinary path of run and demo. reload reads the configuration
// again for SIGHUP; ready, if not nil, is called when all listeners are open.
func serve(log *slog.Logger, cfg *config.Config, inherited []net.Listener, reload func() (*config.Config, error), ready func()) error {
	// The standard log package is what websocketproxy writes to.
	slog.SetDefault(log)
	// A reader of the log that goes away must not take the server with it.
	signal.Ignore(syscall.SIGPIPE)
	paceCollector()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)

	server, certificates := proxy.New(log, inherited), tls.NewManager(log)
	defer certificates.Close()
	if err := apply(server, certificates, cfg); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	notify(log, daemon.SdNotifyReady)
	for sig := range signals {
		if sig != syscall.SIGHUP {
			log.Info("stopping", "signal", sig.String(), "tunnels", server.TunnelCount(), "timeout", cfg.ShutdownTimeout)
			return stop(log, server, cfg.ShutdownTimeout, signals)
		}
		notify(log, reloadingState())
		if next, err := reload(); err != nil {
			logMistakes(log, err)
		} else if err := apply(server, certificates, next); err != nil {
			log.Error("reload failed; the old configuration stays", "error", err)
		} else {
			cfg = next
			log.Info("configuration reloaded", "file", cfg.File, "sites", len(cfg.Sites), "tunnels", server.TunnelCount())
		}
		notify(log, daemon.SdNotifyReady)
	}
	return nil
}

// apply loads the certificates of a configuration and hands both to the server. What is missing is ordered when the listeners
// are open.
func apply(server *proxy.Server, certificates *tls.Manager, cfg *config.Config) error {
	loaded, err := certificates.Load(cfg)
	if err != nil {
		return err
	}
	if err := server.Apply(cfg, loaded); err != nil {
		return err
	}
	certificates.Use(loaded)
	return nil
}

// logMistakes logs each mistake of a configuration on a line of its own.
func logMistakes(log *slog.Logger, err error) {
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		for _, mistake := range mistakes {
			log.Error("mistake in the configuration", "error", mistake.Error())
		}
		err = fmt.Errorf("mistakes: %d", len(mistakes))
	}
	log.Error("reload failed; the old configuration stays", "error", err)
}

// stop ends the server in good order, or at once after a second signal.
func stop(log *slog.Logger, server *proxy.Server, timeout time.Duration, signals <-chan os.Signal) error {
	notify(log, daemon.SdNotifyStopping)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				log.Warn("not everything ended in time", "error", err)
			}
			log.Info("stopped")
			return nil
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return fmt.Errorf("stopped at once by a second %s", sig)
			}
		}
	}
}

// notify tells systemd about the state of the service; without systemd it does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("notifying systemd failed", "error", err)
	}
}
