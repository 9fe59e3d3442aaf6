package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"wstunnel/internal/admin"
	"wstunnel/internal/handover"
	"wstunnel/proxy"
)

// upgradeTimeout is how long a new process may take until it serves.
const upgradeTimeout = 60 * time.Second

// Upgrade starts the binary that is there now and hands over to it. What fails before the new process serves changes nothing.
func (s *service) Upgrade(ctx context.Context) (admin.Upgraded, error) {
	var done admin.Upgraded
	if s.program.path == "" {
		return done, errors.New("only wstunnel run can be upgraded")
	}
	if !s.upgrading.CompareAndSwap(false, true) {
		return done, errors.New("an upgrade is under way already")
	}
	defer s.upgrading.Store(false)
	if s.program.unchanged() {
		if err := s.Reload(ctx); err != nil {
			return done, err
		}
		return admin.Upgraded{Reloaded: true, PID: os.Getpid(), Version: version()}, nil
	}
	verdict := make(chan error, 1)
	select {
	case s.orders <- order{verdict: verdict, instead: func() (err error) {
		done, err = s.upgrade()
		return err
	}}:
	case <-ctx.Done():
		return done, ctx.Err()
	}
	return done, <-verdict // once it has begun it goes on, whether anybody waits for it or not
}

// upgrade hands over to a new process. It is called between two reloads.
func (s *service) upgrade() (done admin.Upgraded, err error) {
	defer func() {
		if err != nil {
			s.publishFailure(proxy.EventUpgradeFailed, err)
		}
	}()
	if s.successor.Load() != nil {
		return done, errors.New("another process has taken over already")
	}
	s.handing.Lock()
	defer s.handing.Unlock()
	s.log.Info("upgrade begins", "program", s.program.path)
	next, err := s.program.startSuccessor(s.server)
	if err != nil {
		s.log.Error("upgrade failed; this process goes on", "error", err)
		return done, err
	}
	apart := context.AfterFunc(s.ctx, next.stop) // a stop meanwhile is one of both
	defer apart()
	go s.answerCalls(next)
	them, err := s.prepare(next)
	if err != nil {
		s.log.Error("upgrade failed; this process goes on", "error", err)
		return done, err
	}
	s.server.StopAccepting()
	moved, err := s.server.HandOver(next)
	if err == nil {
		err = s.passOn(next)
	}
	if err != nil {
		s.told.Store(nil)
		next.kill() // or it would go on for itself
		err = fmt.Errorf("the new process (%s) ended when %d tunnels had been handed over: %w", next.exit(), moved, err)
		s.log.Error("upgrade failed; this process goes on", "error", err)
		return done, errors.Join(err, s.takeBack())
	}
	left := s.server.TunnelCount()
	s.log.Info("upgraded: another process has taken over", "process", next.pid, "version", them.Program, "tunnels_handed_over", moved, "tunnels_left", left)
	s.server.Publish(proxy.Event{Kind: proxy.EventUpgrade, Reason: them.Program})
	s.desk.CloseWeb() // those who watch have been told
	apart()           // before this process ends because there is nothing left in it
	go s.windDown(next)
	return admin.Upgraded{PID: next.pid, Version: them.Program, Moved: moved, Left: left}, nil
}

// prepare returns when a process that was started serves.
func (s *service) prepare(next *successor) (them handover.Hello, err error) {
	left := s.predecessors.known()
	if them, err = next.Greet(hello()); err == nil {
		err = s.offer(next, left)
	}
	if err == nil {
		s.predecessors.passAll(left, func() { s.told.Store(next) })
		return them, nil
	}
	switch {
	case errors.Is(err, handover.ErrSilent):
		err = fmt.Errorf("%s does not take over: no answer in time", s.program.path)
	case errors.Is(err, handover.ErrGone):
		err = fmt.Errorf("%s does not take over: %s before it served; the log may say why", s.program.path, next.exit())
	}
	next.kill()
	return them, err
}

// hello says who this process is.
func hello() handover.Hello { return handover.Hello{Program: version(), PID: uint32(os.Getpid())} }

// ticketKeys is the name under which keys of session tickets are handed over.
const ticketKeys = "tls session tickets"

// offer gives a process the listeners and all else that comes before tunnels, and waits until it serves.
func (s *service) offer(next *successor, left []handover.Status) error {
	listeners, err := s.server.Listeners()
	if err != nil {
		return err
	}
	offer := &handover.Offer{
		Listeners: listeners, LastID: s.server.LastID(), Left: left, Secrets: []handover.Secret{{Name: ticketKeys, Value: s.certificates.TicketKeys()}},
	}
	for _, scope := range s.server.Draining() {
		offer.Drains = append(offer.Drains, handover.Drain(scope))
	}
	defer func() {
		for _, l := range offer.Listeners {
			unix.Close(l.Descriptor)
		}
	}()
	return next.Offer(offer, upgradeTimeout)
}

// passOn makes a process the main one.
func (s *service) passOn(next *successor) error {
	s.notify("MAINPID=" + strconv.Itoa(next.pid))
	if err := next.Done(); err != nil {
		s.notify("MAINPID=" + strconv.Itoa(os.Getpid()))
		return err
	}
	s.successor.Store(next)
	s.certificates.Close()
	s.endpoint.Close()
	return nil
}

// takeBack lets this process go on, since the one that was to take over is gone.
func (s *service) takeBack() error {
	err := s.server.AcceptAgain()
	if control := s.control.Load(); control != nil { // its place was taken
		control.Leave() // one who waits there is told of this
		err = errors.Join(err, s.openControl(s.current.Load(), true))
	}
	return err
}

// windDown lets what is left end, when another process has taken over, and then this process.
func (s *service) windDown(next *successor) {
	if control := s.control.Load(); control != nil { // those who watch find the other process in its place
		control.Leave()
	}
	go s.heed(next)
	err := s.server.WindDown(s.ctx, next, func(left proxy.Left) {
		s.log.Info("what is left in the old process", "tunnels", left.Tunnels, "secure", left.Secure, "over_http2", left.Streams, "relayed", left.Relayed,
			"connections", left.Connections)
		next.Report(&handover.Status{
			PID: uint32(os.Getpid()), Program: version(), Tunnels: uint64(left.Tunnels), Secure: uint64(left.Secure), Streams: uint64(left.Streams),
			Relayed: uint64(left.Relayed), Connections: uint64(left.Connections),
		})
	})
	if err != nil { // it is stopped
		return
	}
	next.Report(&handover.Status{PID: uint32(os.Getpid()), Program: version()})
	select {
	case <-s.predecessors.gone(): // until then this process passes on what they say
		s.ends <- time.Second
	case <-s.ctx.Done():
	}
}

// heed does what the process says that has taken over.
func (s *service) heed(next *successor) {
	for {
		select {
		case within := <-next.Drains():
			s.log.Info("the process that has taken over ends this one", "timeout_ms", within.Milliseconds())
			s.ends <- within
			return
		case scope := <-next.Scopes():
			s.predecessors.drainScope(scope)
			if _, err := s.server.Drain(proxy.DrainScope(scope)); err != nil { // this process's configuration does not know it
				s.log.Info("nothing is drained here", "reason", err.Error())
			}
		case <-next.Gone():
			s.log.Warn("the process that has taken over is gone; what is left here goes on", "tunnels", s.server.TunnelCount())
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// report passes on what another process has left.
func (s *service) report(left *handover.Status) {
	if next := s.told.Load(); next != nil {
		next.Report(left)
	}
}

// notify tells systemd about the state of the service; without systemd it does nothing, and neither does a process that is not the main one any more.
func (s *service) notify(state string) {
	if s.successor.Load() != nil {
		return
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("notifying systemd failed", "error", err)
	}
}

func newUpgradeCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Have the binary that is installed now take over from the running server",
		Long: `Upgrade starts the installed binary beside the running server. It checks the configuration, takes the
listeners and, alive, the tunnels that have no TLS at either end; other tunnels stay in the old
process until they end. A binary that does not start, or refuses the configuration, changes
nothing: what it says is printed. Where the installed binary is the one that runs, this is a
reload.`,
	}
	client := controlFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u, err := client().Upgrade(cmd.Context())
		switch {
		case err != nil:
			if _, refused := errors.AsType[*admin.RefusedError](err); refused {
				return usageError{err}
			}
			return err
		case u.Reloaded:
			fmt.Fprintf(stdout, "reloaded: process %d runs the installed binary already (version %s)\n", u.PID, u.Version)
		default:
			fmt.Fprintf(stdout, "process %d has taken over (version %s; tunnels handed over: %d, left in the old process: %d)\n", u.PID, u.Version, u.Moved, u.Left)
		}
		return nil
	}
	return cmd
}
