package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newCompletionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what makes a shell complete the command line",
		Long: `Completion prints a script for a shell to read at its start:

  bash: wstunnel completion bash > /etc/bash_completion.d/wstunnel
  zsh:  wstunnel completion zsh > "${fpath[1]}/_wstunnel"
  fish: wstunnel completion fish > ~/.config/fish/completions/wstunnel.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("wstunnel completion takes one shell: bash, zsh or fish")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(stdout, true)
			case "zsh":
				return root.GenZshCompletion(stdout)
			case "fish":
				return root.GenFishCompletion(stdout, true)
			}
			return usageError{fmt.Errorf("no completion for %q; there is one for bash, zsh and fish", args[0])}
		},
	}
}

// completeYAML completes the name of a configuration file.
func completeYAML(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
