package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wstunnel/internal/config"
	"wstunnel/tls"
)

// defaultConfig is where packages and the systemd unit put the configuration.
const defaultConfig = "/etc/wstunnel/config.yaml"

// configFile lets a command take the name of the configuration by --config or as its argument.
func configFile(cmd *cobra.Command, file *string) {
	cmd.Use += " [FILE]"
	configFlag(cmd, file)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return usageError{fmt.Errorf("%s takes one configuration file, but got %q", cmd.CommandPath(), args)}
		case len(args) == 1 && cmd.Flags().Changed("config"):
			return usageError{fmt.Errorf("%s takes one configuration file, but got %q and --config %s", cmd.CommandPath(), args[0], *file)}
		case len(args) == 1:
			*file = args[0]
		}
		return nil
	}
	cmd.ValidArgsFunction = completeYAML
}

// configFlag lets a command take the name of the configuration by --config.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", defaultConfig, "the configuration file")
	cmd.RegisterFlagCompletionFunc("config", completeYAML) // fails only for a flag that is not there
}

// loadConfig reads a configuration; its mistakes are the caller's.
func loadConfig(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w\n\nWrite it there, such as this, or name another file; config.example.yaml has every key.\n\n%s", err, firstConfig)
	}
	if err != nil {
		return nil, usageError{err}
	}
	return cfg, nil
}

// firstConfig is shown to those who have none yet.
const firstConfig = `listen:
  - address: ":80"
sites:
  - hosts: [_]                          # any name
    locations:
      - path: /ws
        websocket: ws://127.0.0.1:9000  # the WebSocket server
      - path: /
        http: http://127.0.0.1:8080     # the server of the pages
`

func newCheckCommand(stdout io.Writer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print the routing table",
		Long: `Check reads the configuration. It prints every mistake with its file, line and column, and
exits with 2; or it prints the routing table and the upstreams as they were understood, and exits
with 0. A certificate file that has expired is a mistake here; a server takes it, with a warning.`,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if err := tls.Check(cfg, time.Now()); err != nil {
				return usageError{err}
			}
			if err := printRoutes(stdout, cfg); err != nil {
				return err
			}
			return printUpstreams(stdout, cfg)
		},
	}
	configFile(cmd, &file)
	return cmd
}

// printRoutes prints one line for each thing that a location serves.
func printRoutes(w io.Writer, cfg *config.Config) error {
	for _, l := range cfg.Listen {
		scheme := "http"
		if l.TLS {
			scheme = "https"
		}
		fmt.Fprintf(w, "listen %s (%s)\n", l.Address, scheme)
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SITE\tPATH\tKIND\tTARGET\tTLS")
	for _, site := range cfg.Sites {
		hosts, secured := strings.Join(site.Hosts, ","), siteTLS(site)
		for _, l := range site.Locations {
			row := func(kind, target string) {
				fmt.Fprintf(table, "%s\t%s%s\t%s\t%s\t%s\n", hosts, l.Match, conditions(&l), kind, target, secured)
			}
			if l.WebSocket != nil {
				kind := "websocket"
				if l.Mode == config.ModeRelay {
					kind = "websocket (relay)"
				}
				row(kind, describeTarget(l.WebSocket))
			}
			if l.HTTP != nil {
				row("http", describeTarget(l.HTTP))
			}
			switch {
			case l.PHP != nil:
				row("php", describeTarget(l.PHP.Target)+" in "+l.Directory())
			case l.Directory() != "":
				row("static", l.Directory())
			}
			switch {
			case l.Redirect != nil:
				row("redirect", strconv.Itoa(l.Redirect.Status)+" "+l.Redirect.To.String())
			case l.Respond != nil:
				row("respond", strconv.Itoa(l.Respond.Status))
			case l.WebSocket == nil && l.HTTP == nil && l.PHP == nil && l.Directory() == "":
				row("rewrite", l.Rewrites[0].To.String())
			}
		}
	}
	return table.Flush()
}

// conditions are marks of what keeps requests from a location beside its path: conditions, and rules about who may ask.
func conditions(l *config.Location) string {
	var marks []string
	if l.When != nil {
		marks = append(marks, "when")
	}
	a := &l.Access
	if len(a.Allow)+len(a.Deny) > 0 {
		marks = append(marks, "allow/deny")
	}
	if a.BasicAuth != nil {
		marks = append(marks, "basic_auth")
	}
	if a.AuthRequest != nil {
		marks = append(marks, "auth_request")
	}
	if len(marks) == 0 {
		return ""
	}
	return " (" + strings.Join(marks, ", ") + ")"
}

func siteTLS(site config.Site) string {
	s := site.TLS.Mode.String()
	switch site.TLS.Mode {
	case config.TLSFiles:
		files := make([]string, len(site.TLS.Pairs))
		for i, pair := range site.TLS.Pairs {
			files[i] = pair.Cert
		}
		s = strings.Join(files, ", ")
	case config.TLSAuto:
		if site.TLS.OnDemand {
			s += " (on demand)"
		}
	}
	if site.ClientCA != "" {
		s += ", clients by " + site.ClientCA
	}
	switch {
	case site.RedirectWhenReady:
		s += ", http redirects when ready"
	case site.RedirectHTTPS:
		s += ", http redirects"
	}
	return s
}

// describeTarget shows a target with the servers behind an upstream's name.
func describeTarget(t *config.Target) string {
	if t.Upstream == "" {
		return t.URL
	}
	servers := make([]string, len(t.Servers))
	for i, s := range t.Servers {
		servers[i] = s.String()
	}
	return fmt.Sprintf("%s (%s)", t.URL, strings.Join(servers, ", "))
}
