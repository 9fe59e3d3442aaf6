package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wstunnel/internal/admin"
	"wstunnel/internal/config"
	"wstunnel/internal/handover"
	"wstunnel/proxy"
)

// openControl lets the running server be spoken to on its control socket. Where the configuration names none it does without one that can't be opened.
// With takeOver, it takes the place of another process's.
func (s *service) openControl(cfg *config.Config, takeOver bool) error {
	path := cfg.SocketPath()
	if path == "" {
		return nil
	}
	socket, err := admin.Listen(path, rightsOf(cfg), takeOver)
	switch {
	case err == nil:
		s.control.Store(&control{socket, s.desk.Serve(socket)})
	case cfg.Admin.Socket != "" || cfg.Admin.Group >= 0:
		return fmt.Errorf("admin.socket: %w", err)
	default:
		s.log.Warn("no control socket: wstunnel reload, drain and status will not reach this server", "socket", path, "error", err)
	}
	return nil
}

// control is the open control socket.
type control struct {
	socket *admin.Socket
	*admin.Server
}

// rightsOf are who may connect with the control socket.
func rightsOf(cfg *config.Config) admin.Rights {
	return admin.Rights{Mode: cfg.Admin.Mode, Group: cfg.Admin.Group}
}

// moveControl opens what a configuration wants to be asked at. With true, settle lets those ask whom it lets, and only those; with false all is as it was.
func (s *service) moveControl(cfg *config.Config) (settle func(bool), err error) {
	settleAddress, err := s.desk.Move(cfg.Admin.Address)
	if err != nil {
		return nil, err
	}
	open, before := s.control.Load(), s.current.Load()
	changed := open != nil && before != nil && !cfg.Admin.Off && rightsOf(before) != rightsOf(cfg)
	if changed {
		if err := open.socket.Give(rightsOf(cfg)); err != nil {
			settleAddress(false)
			return nil, fmt.Errorf("admin: the control socket: %w", err)
		}
	}
	return func(move bool) {
		settleAddress(move)
		if move {
			s.desk.Admit(accessOf(cfg))
		} else if changed {
			if err := open.socket.Give(rightsOf(before)); err != nil {
				s.log.Error("the control socket", "error", err)
			}
		}
	}, nil
}

// accessOf are the grants of a configuration.
func accessOf(cfg *config.Config) *admin.Access {
	access := &admin.Access{Users: map[uint32]*admin.Grant{}}
	for i := range cfg.Sites {
		for _, u := range cfg.Sites[i].Admins {
			g := access.Users[u.ID]
			if g == nil {
				g = &admin.Grant{Who: "user " + u.Name, Verbs: admin.List | admin.Send | admin.Group | admin.Kick}
				access.Users[u.ID] = g
			}
			g.Sites = append(g.Sites, cfg.Sites[i].Hosts[0])
		}
	}
	for _, u := range cfg.Admin.Allow { // who may do all needs no site
		access.Users[u.ID] = &admin.Grant{Who: "user " + u.Name, Verbs: admin.All}
	}
	for _, t := range cfg.Admin.Tokens {
		g := &admin.Grant{Who: "token " + t.Name, Sites: t.Sites}
		for _, verb := range t.Verbs {
			g.Verbs |= admin.ParseVerb(verb)
		}
		access.Tokens = append(access.Tokens, admin.Token{Hash: t.Hash, Grant: g})
	}
	return access
}

// Reload reads the configuration again, after reloads that are under way, and waits for the verdict.
func (s *service) Reload(ctx context.Context) error {
	verdict := make(chan error, 1)
	select {
	case s.orders <- order{verdict: verdict}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-verdict:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drain begins a drain, or takes one back. During an upgrade it is refused: the other process would not hear of it.
func (s *service) Drain(order admin.DrainOrder) (tunnels int, err error) {
	if !s.handing.TryRLock() {
		return 0, errors.New("an upgrade is under way: give this order again when it is over")
	}
	defer s.handing.RUnlock()
	scope := proxy.DrainScope{Site: order.Site, Upstream: order.Upstream, Server: order.Server}
	switch {
	case (order.Upstream == "") != (order.Server == ""):
		return 0, errors.New("upstream and server go together")
	case order.Upstream != "" && order.Site != "":
		return 0, errors.New("either a site or a server of an upstream")
	case order.End:
		return 0, s.server.EndDrain(scope)
	}
	tunnels, err = s.server.Drain(scope)
	switch {
	case err != nil:
	case scope == (proxy.DrainScope{}): // what is left in old processes has its end then
		s.predecessors.drain(s.current.Load().Drain.Spread + predecessorsEnd)
	default:
		s.predecessors.drainScope(handover.Drain(scope))
	}
	return tunnels, err
}

// predecessorsEnd is how long a drain gives old processes beyond drain.spread, so that their tunnels are spread too.
const predecessorsEnd = 70 * time.Second

// Status tells what is.
func (s *service) Status() admin.Status {
	status := admin.Status{
		PID: os.Getpid(), Version: version(), UptimeSeconds: int64(time.Since(s.began).Seconds()), Tunnels: s.server.TunnelCount(), Ready: s.server.Ready(),
		Draining: []string{}, Predecessors: s.predecessors.status(),
	}
	if cfg := s.current.Load(); cfg != nil {
		status.Config, status.Sites = cfg.File, len(cfg.Sites)
	}
	for _, scope := range s.server.Draining() {
		status.Draining = append(status.Draining, scope.String())
	}
	if err := s.reloadError.Load(); err != nil {
		status.ReloadError = *err
	}
	return status
}

// controlFlags lets a command find the control socket of a running server.
func controlFlags(cmd *cobra.Command) (client func() *admin.Client) {
	var file, socket string
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&socket, "socket", "", "the server's control socket; default: the one of the configuration")
	cmd.Args = noArgs
	return func() *admin.Client {
		if socket == "" {
			socket = config.FindSocket(file)
		}
		return admin.NewClient(socket)
	}
}

func newReloadCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running server read its configuration again",
		Long: `Reload waits for the verdict. With mistakes nothing changes: they are printed, each with its
place, and the exit code is 2. No reload touches a request or a live tunnel, but for tunnels whose
location is gone, with on_route_removed: drain.`,
	}
	client := controlFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := client().Reload(cmd.Context())
		if _, refused := errors.AsType[*admin.RefusedError](err); refused {
			return usageError{err}
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "reloaded %s (sites: %d, tunnels that live on: %d)\n", status.Config, status.Sites, status.Tunnels)
		return nil
	}
	return cmd
}

func newDrainCommand(stdout io.Writer) *cobra.Command {
	var order admin.DrainOrder
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Have the running server let its tunnels go",
		Long: `Drain closes tunnels with Close frames, in random order over drain.spread, and opens no new ones:
of the whole server, which is not ready then for a load balancer, of one site, or of one server
of an upstream, which gets no other requests either. Requests are served on. It holds until
--end takes it back; no reload does.`,
		Example: "  wstunnel drain\n  wstunnel drain --site chat.example.com\n  wstunnel drain --upstream chat --server 127.0.0.1:9001\n  wstunnel drain --end",
	}
	client := controlFlags(cmd)
	cmd.Flags().StringVar(&order.Site, "site", "", "the tunnels of the site with this host")
	cmd.Flags().StringVar(&order.Upstream, "upstream", "", "the tunnels to a server of this upstream")
	cmd.Flags().StringVar(&order.Server, "server", "", "that server, by its address in the configuration")
	cmd.Flags().BoolVar(&order.End, "end", false, "take such a drain back")
	completeNames(cmd, client)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case (order.Upstream == "") != (order.Server == ""):
			return usageError{errors.New("--upstream and --server go together")}
		case order.Upstream != "" && order.Site != "":
			return usageError{errors.New("either --site, or --upstream and --server")}
		}
		tunnels, err := client().Drain(cmd.Context(), order)
		switch {
		case err != nil:
			return err
		case order.End:
			fmt.Fprintln(stdout, "taken back: tunnels are opened again")
		case order.Server != "":
			fmt.Fprintf(stdout, "nothing new is sent to %s (tunnels that are being closed: %d)\n", order.Server, tunnels)
		default:
			fmt.Fprintf(stdout, "no new tunnels are opened (tunnels that are being closed: %d)\n", tunnels)
		}
		return nil
	}
	return cmd
}

func newStatusCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show how the running server is"}
	client := controlFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := client().Status(cmd.Context())
		if err != nil {
			return err
		}
		readiness := "ready"
		if !s.Ready {
			readiness = "not ready"
		}
		fmt.Fprintf(stdout, "wstunnel %s, process %d, up %s, %s\n%s (sites: %d)\ntunnels: %d\n",
			s.Version, s.PID, time.Duration(s.UptimeSeconds)*time.Second, readiness, s.Config, s.Sites, s.Tunnels)
		if len(s.Draining) > 0 {
			fmt.Fprintf(stdout, "being drained: %s\n", strings.Join(s.Draining, ", "))
		}
		for _, p := range s.Predecessors {
			fmt.Fprintf(stdout, "left in process %d (wstunnel %s): tunnels: %d (with TLS: %d, over HTTP/2: %d, relayed: %d), connections: %d\n",
				p.PID, p.Version, p.Tunnels, p.Secure, p.Streams, p.Relayed, p.Connections)
		}
		if s.ReloadError != "" {
			fmt.Fprintf(stdout, "the last reload failed:\n%s\n", s.ReloadError)
		}
		return nil
	}
	return cmd
}
