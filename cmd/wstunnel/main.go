// Command wstunnel is a front end for web sites with WebSockets.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // wrong arguments, or a configuration with mistakes
)

// exitCode ends the process with a code of a command's own, which has said all that there is to say.
type exitCode int

func (exitCode) Error() string { return "" }

// usageError is the caller's mistake: the arguments, or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, text)
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	return exitFailure
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "wstunnel",
		Short: "A front end for web sites with WebSockets",
		Long: `wstunnel stands on ports 80 and 443 where Apache or nginx stood. It passes HTTP on to
your PHP or other backend, serves static files, and tunnels WebSocket connections
to their own backend port, so that wss:// works with the same certificate.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.Version = version()
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(newRunCommand(stderr), newCheckCommand(stdout), newCertsCommand(stdout, stderr), newDemoCommand(stdout, stderr), newVersionCommand(stdout),
		newImportCommand(os.Stdin, stdout, stderr), newCompletionCommand(stdout), newProbeCommand(stdout), newExplainCommand(stdout),
		newReloadCommand(stdout), newUpgradeCommand(stdout), newDrainCommand(stdout), newStatusCommand(stdout),
		newTunnelsCommand(stdout), newSendCommand(os.Stdin, stdout), newKickCommand(stdout), newTokenCommand(stdout), newManCommand())
	return root
}

// noArgs refuses arguments with a message that says what there is.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasParent() {
		return usageError{fmt.Errorf("unknown command %q; see `wstunnel --help`", args[0])}
	}
	return usageError{fmt.Errorf("%s takes no argument, but got %q", cmd.CommandPath(), args[0])}
}
