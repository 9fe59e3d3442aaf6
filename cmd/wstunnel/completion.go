package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"wstunnel/internal/admin"
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

// completionTimeout is how long a shell waits for a running server.
const completionTimeout = 500 * time.Millisecond

// forShells are the words that mean nothing else to a shell: whoever opens a tunnel has a say in what its user and its groups are called.
var forShells = regexp.MustCompile(`^[0-9A-Za-z._@+/:%][-0-9A-Za-z._@+/:%]*$`)

// completeFrom completes with what live tunnels have, as the running server lists them; with nothing where there is none.
func completeFrom(client func() *admin.Client, words func(*admin.Tunnel) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		page, err := client().List(ctx, admin.Filter{Limit: listedAtOnce})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for i := range page.Tunnels {
			for _, word := range words(&page.Tunnels[i]) {
				if forShells.MatchString(word) {
					all = append(all, word)
				}
			}
		}
		slices.Sort(all)
		return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeID completes the first argument, a tunnel's ID, unless others say whom it is for.
func completeID(client func() *admin.Client, unless ...string) cobra.CompletionFunc {
	complete := completeFrom(client, func(t *admin.Tunnel) []string { return []string{t.ID} })
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 || slices.ContainsFunc(unless, cmd.Flags().Changed) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, begun)
	}
}

// completeNames completes the flags --site, --user and --group, those of them that a command has.
func completeNames(cmd *cobra.Command, client func() *admin.Client) {
	for name, words := range map[string]func(*admin.Tunnel) []string{
		"site":  func(t *admin.Tunnel) []string { return []string{t.Site} },
		"user":  func(t *admin.Tunnel) []string { return []string{t.User} },
		"group": func(t *admin.Tunnel) []string { return t.Groups },
	} {
		cmd.RegisterFlagCompletionFunc(name, completeFrom(client, words)) // fails only for a flag that is not there
	}
}
