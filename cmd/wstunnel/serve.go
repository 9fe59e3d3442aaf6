package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"wstunnel/internal/admin"
	"wstunnel/internal/config"
	"wstunnel/internal/dashboard"
	"wstunnel/internal/handover"
	"wstunnel/internal/history"
	"wstunnel/internal/logs"
	"wstunnel/internal/metrics"
	"wstunnel/proxy"
	"wstunnel/tls"
)

// configSource reads a configuration at the start, where a mistake is told to whoever has started the server, and again for each
// reload.
type configSource struct {
	first, again func() (*config.Config, error)
}

// service is a running server. Two goroutines share it: one waits for the signal that ends it, the other reloads, so that a reload
// that takes its time, or never ends, holds up no stop.
type service struct {
	log          *slog.Logger
	server       *proxy.Server
	certificates *tls.Manager
	source       configSource
	current      atomic.Pointer[config.Config] // what is served, or is about to be; nil before there is one
	reloadError  atomic.Pointer[string]        // why the last reload failed; nil where it did not
	began        time.Time
	desk         *admin.Desk
	control      atomic.Pointer[control] // nil where there is none
	orders       chan order
	reloaded     reloads
	hour         history.Hour
	endpoint     *metrics.Endpoint

	ctx          context.Context // ends when a stop begins
	program      program         // what an upgrade starts; empty for nothing
	upgrading    atomic.Bool
	handing      sync.RWMutex              // held while what this process has is given to another one; for reading by what changes that
	successor    atomic.Pointer[successor] // the process that has taken over; nil before
	told         atomic.Pointer[successor] // the process that is told what is left in others: from when it serves
	predecessors predecessors
	ends         chan time.Duration // an order to stop that is no signal: the process has been taken over from
}

// order is something to be done between two reloads.
type order struct {
	verdict chan<- error // told how it went
	instead func() error // of a reload, if not nil
}

// serve runs a configuration until a signal ends it: the ordinary path of run and demo. ready, if not nil, is called when all
// listeners are open.
func serve(own *logs.Log, origin origin, source configSource, ready func()) error {
	log := own.Logger()
	// The standard log package is what websocketproxy writes to.
	slog.SetDefault(log)
	// A reader of the log that goes away must not take the server with it.
	signal.Ignore(syscall.SIGPIPE)
	paceCollector()
	// Each has a channel of its own, so that no flood of SIGHUP takes the place of a SIGTERM. Of hangups that wait there is one. They stay
	// caught to the end: a last SIGHUP would kill a process that is about to exit with 0.
	stops, hangups := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(stops, syscall.SIGTERM, os.Interrupt)
	signal.Notify(hangups, syscall.SIGHUP)
	rotations := make(chan os.Signal, 1)
	signal.Notify(rotations, syscall.SIGUSR1)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &service{
		log: log, server: proxy.New(own, origin.inherited.listeners), certificates: tls.NewManager(log), source: source, began: time.Now(), orders: make(chan order),
		ctx: ctx, program: origin.program, ends: make(chan time.Duration, 2),
	}
	s.predecessors.pass, s.predecessors.log = s.report, log
	defer s.certificates.Close()
	s.endpoint = s.newEndpoint()
	defer s.endpoint.Close()
	s.desk = admin.NewDesk(s, s.everywhere(), dashboard.Handler(), log)
	defer s.desk.CloseWeb()
	failed := make(chan error, 1)
	go func() {
		stored := origin.inherited.stored
		if len(stored) > 0 {
			s.server.Inherit(proxy.Inheritance{LastID: handover.LastStored(stored)})
		}
		if err := s.begin(origin.predecessor); err != nil {
			failed <- err
			return
		}
		s.restoreTunnels(stored)
		if ready != nil {
			ready()
		}
		s.ready(ctx)
		go s.feedWatchdog(ctx)
		go s.writeHistory(ctx)
		s.reloads(ctx, hangups)
	}()
	for {
		select {
		case err := <-failed:
			return err
		case <-rotations:
			s.server.ReopenLogs()
		case sig := <-stops:
			cancel()
			return s.stop(slog.String("signal", sig.String()), s.stopTimeout(), stops)
		case within := <-s.ends:
			cancel()
			return s.stop(slog.String("cause", "handed over"), within, stops)
		}
	}
}

// origin is what a process has from whoever started it.
type origin struct {
	inherited   inheritedDescriptors // from systemd
	predecessor *handover.Taker      // that it takes over from, or nil
	program     program              // how it was started, where that can be repeated
}

// begin makes this the process that serves.
func (s *service) begin(from *handover.Taker) error {
	var main <-chan struct{}
	if from != nil {
		var err error
		if main, err = s.takeOver(from); err != nil {
			from.Fail(err)
			return err
		}
	}
	err := s.start()
	if err == nil {
		err = s.openControl(s.current.Load(), from != nil)
	}
	if from == nil {
		return err
	}
	if err != nil {
		from.Fail(err)
		return err
	}
	s.passHistory() // before the older process may end
	if err := from.Ready(); err != nil {
		return fmt.Errorf("the process to be taken over is gone: %w", err)
	}
	<-main
	return nil
}

// start begins to serve.
func (s *service) start() error {
	cfg, err := s.source.first()
	if err != nil {
		return err
	}
	s.current.Store(cfg)
	s.reloaded.begin()
	return s.apply(cfg)
}

// apply loads the certificates of a configuration and hands both to the server. What is missing is ordered when the listeners
// are open.
func (s *service) apply(cfg *config.Config) error {
	loaded, err := s.certificates.Load(cfg)
	if err != nil {
		return err
	}
	settle, err := s.endpoint.Move(cfg.Metrics)
	if err != nil {
		return err
	}
	settleControl, err := s.moveControl(cfg)
	if err == nil {
		err = s.server.Apply(cfg, loaded)
		settleControl(err == nil)
	}
	settle(err == nil)
	if err != nil {
		return err
	}
	s.certificates.Use(loaded)
	return nil
}

// reloads reads the configuration again for each hangup and each order, until ctx ends. Hangups that come during a reload become one.
func (s *service) reloads(ctx context.Context, hangups <-chan os.Signal) {
	for {
		var o order
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		case o = <-s.orders:
		}
		var err error
		if o.instead != nil {
			err = o.instead()
		} else {
			s.notify(reloadingState())
			err = s.reload()
			s.ready(ctx)
		}
		if o.verdict != nil {
			o.verdict <- err
		}
	}
}

// ready tells systemd that a start or a reload is over, unless a stop has begun.
func (s *service) ready(ctx context.Context) {
	if ctx.Err() == nil {
		s.notify(daemon.SdNotifyReady)
	}
}

func (s *service) reload() error {
	next, err := s.source.again()
	if err == nil {
		err = s.apply(next)
	}
	s.reloaded.note(err)
	if err != nil {
		s.logMistakes(err)
		text := err.Error()
		s.reloadError.Store(&text)
		s.publishFailure(proxy.EventReloadFailed, err)
		return err
	}
	s.reloadError.Store(nil)
	if now := s.current.Load(); next.SocketPath() != now.SocketPath() {
		s.log.Warn("the control socket stays where it is until the next start", "socket", now.SocketPath())
	}
	s.current.Store(next)
	s.server.Publish(proxy.Event{Kind: proxy.EventReloaded})
	s.log.Info("configuration reloaded", "file", next.File, "sites", len(next.Sites), "tunnels", s.server.TunnelCount())
	return nil
}

const reloadFailed = "reload failed; the old configuration stays"

// logMistakes logs each mistake of a configuration on a line of its own.
func (s *service) logMistakes(err error) {
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		for _, mistake := range mistakes {
			s.log.Error("mistake in the configuration", "error", mistake.Error())
		}
		err = fmt.Errorf("mistakes: %d", len(mistakes))
	}
	s.log.Error(reloadFailed, "error", err)
}

// stopTimeout is the time that the configuration gives a stop.
func (s *service) stopTimeout() time.Duration {
	if cfg := s.current.Load(); cfg != nil {
		return cfg.ShutdownTimeout
	}
	return 0
}

// stop ends the server in good order, quickly after a second signal, and at once after a third.
func (s *service) stop(why slog.Attr, timeout time.Duration, stops <-chan os.Signal) error {
	s.log.Info("stopping", why, "tunnels", s.server.TunnelCount(), "timeout_ms", timeout.Milliseconds())
	s.notify(daemon.SdNotifyStopping)
	if s.successor.Load() == nil { // else those who watch were told of that
		s.server.Publish(proxy.Event{Kind: proxy.EventStopping})
	}
	if control := s.control.Load(); control != nil {
		defer control.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s.predecessors.drain(timeout)
	done := make(chan error, 1)
	go func() {
		err := s.shutdown(ctx)
		select {
		case <-s.predecessors.gone():
		case <-ctx.Done():
		}
		done <- err
	}()
	for hurried := false; ; hurried = true {
		select {
		case err := <-done:
			if err != nil {
				s.log.Warn("not everything ended in time", "error", err)
			}
			s.log.Info("stopped")
			return nil
		case sig := <-stops:
			if hurried {
				return fmt.Errorf("stopped at once by a third %s", sig)
			}
			s.log.Info("hurrying", "signal", sig.String(), "tunnels", s.server.TunnelCount())
			s.server.Hurry()
			time.AfterFunc(hurryTimeout, cancel)
		}
	}
}

// shutdown ends the server; at a restart below systemd its plain tunnels are kept for the process that comes next.
func (s *service) shutdown(ctx context.Context) error {
	store := s.tunnelStore()
	if store == nil {
		return s.server.Shutdown(ctx)
	}
	return s.server.ShutdownKeeping(ctx, store, func() {
		if tunnels, err := store.Finish(notifyBarrier); err != nil {
			s.log.Error("tunnels could not be stored for the next start", "error", err)
		} else {
			s.log.Info("tunnels are stored for the next start", "tunnels", tunnels)
		}
	})
}

// hurryTimeout bounds a stop from a second signal on.
const hurryTimeout = 3 * time.Second
