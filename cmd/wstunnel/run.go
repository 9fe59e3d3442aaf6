package main

import (
	"io"

	"github.com/spf13/cobra"

	"wstunnel/internal/config"
)

func newRunCommand(stderr io.Writer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve the sites of the configuration",
		Long: `Run serves until SIGTERM or SIGINT, which end requests and tunnels in good order within
shutdown_timeout; a second one hurries, a third ends the process at once.
SIGHUP reads the configuration again; if it has mistakes, they are logged and the old one stays.
No reload touches a live tunnel, unless on_route_removed: drain says so. SIGUSR1 opens the files of access logs again, after a rotation
has moved them away.`,
		RunE: func(*cobra.Command, []string) error {
			inherited := takeInherited()
			predecessor, err := linkedPredecessor()
			if err != nil {
				return err
			}
			log, flush := newLog(stderr)
			defer flush()
			return serve(log, origin{inherited, predecessor, ownProgram()}, configSource{
				first: func() (*config.Config, error) { return loadConfig(file) },
				again: func() (*config.Config, error) { return config.Load(file) },
			}, nil)
		},
	}
	configFile(cmd, &file)
	return cmd
}
