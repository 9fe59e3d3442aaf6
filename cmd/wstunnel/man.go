package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wstunnel/internal/roff"
)

// newManCommand is for packagers, and for the pages that the repository keeps.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR [REFERENCE]",
		Short: "Write the manual pages",
		Long: `Man writes a manual page of each command into a directory, and one of the whole, wstunnel.1;
and, of the pages about keys in the directory REFERENCE, wstunnel.yaml.5.`,
		Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{fmt.Errorf("wstunnel man takes a directory for the pages, and perhaps one with the reference")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := commandPages(cmd.Root())
			if len(args) == 2 {
				page, err := configPage(args[1])
				if err != nil {
					return err
				}
				pages["wstunnel.yaml.5"] = page
			}
			for name, text := range pages {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// commandPages makes the pages of all commands, by the names of their files.
func commandPages(root *cobra.Command) map[string]string {
	root.InitDefaultVersionFlag()
	pages := map[string]string{"wstunnel.1": wholePage(root)}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			pages["wstunnel-"+c.Name()+".1"] = commandPage(c)
		}
	}
	return pages
}

// wholePage is about the binary.
func wholePage(root *cobra.Command) string {
	p := roff.NewPage("wstunnel", 1, root.Short)
	p.Section("SYNOPSIS")
	p.Text("`wstunnel` *command* [*argument* ...]")
	p.Section("DESCRIPTION")
	p.Text(root.Long)
	p.Section("COMMANDS")
	p.Text("Each has a page of its own: `man wstunnel-run`.")
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			p.Item(c.Use, c.Short+".")
		}
	}
	options(p, root)
	p.Section("FILES")
	p.Item(defaultConfig, "The configuration, for which wstunnel.yaml(5) is the reference.")
	p.Item("/run/wstunnel/control.sock", "The control socket under systemd.")
	exitStatus(p)
	p.Section("SEE ALSO")
	p.Text("wstunnel-run(1), wstunnel-check(1), wstunnel-probe(1), wstunnel-explain(1), wstunnel.yaml(5)")
	return p.String()
}

// commandPage is about one command.
func commandPage(c *cobra.Command) string {
	p := roff.NewPage("wstunnel-"+c.Name(), 1, c.Short)
	p.Section("SYNOPSIS")
	_, arguments, _ := strings.Cut(c.Use, " ")
	synopsis := strings.TrimSpace("`wstunnel " + c.Name() + "` " + arguments)
	if c.HasAvailableLocalFlags() {
		synopsis += " [*option* ...]"
	}
	p.Text(synopsis)
	p.Section("DESCRIPTION")
	if c.Long != "" {
		p.Text(c.Long)
	} else {
		p.Text(c.Short + ".")
	}
	options(p, c)
	if c.Example != "" {
		p.Section("EXAMPLES")
		p.Code(unindented(c.Example))
	}
	exitStatus(p)
	p.Section("SEE ALSO")
	p.Text("wstunnel(1), wstunnel.yaml(5)")
	return p.String()
}

func unindented(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

// options tells of a command's flags.
func options(p *roff.Page, c *cobra.Command) {
	c.InitDefaultHelpFlag()
	p.Section("OPTIONS")
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			term += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			usage += "; default: " + f.DefValue
		}
		p.Item(term, strings.ToUpper(usage[:1])+usage[1:]+".")
	})
}

func exitStatus(p *roff.Page) {
	p.Section("EXIT STATUS")
	p.Text("0 where all went well, 1 where something failed, 2 for wrong arguments or a configuration with mistakes; and others where the description says so.")
}

// configPage is about the configuration: all keys, with the pages of a reference in Markdown.
func configPage(reference string) (string, error) {
	p := roff.NewPage("wstunnel.yaml", 5, "Configuration of wstunnel")
	p.Section("DESCRIPTION")
	p.Text("A file in YAML, by default `" + defaultConfig + "`, says on which addresses wstunnel(1) listens and what the sites are:")
	p.Code(firstConfig)
	p.Text("`wstunnel check` reads a file and tells every mistake in it, with line and column. Durations are written as `90s`, `5m` or `30d`, sizes as `64KiB`, rates as `20/s`; `${NAME}` in a value is the environment's.\n\n" +
		"These are the keys. *Stands in* says whether one is for the whole file, for a site or for a location; where it may stand in several, the nearest wins.")
	pages := map[string]string{}
	found, err := filepath.Glob(filepath.Join(reference, "*.md"))
	if err != nil {
		return "", err
	}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		pages[strings.TrimSuffix(filepath.Base(name), ".md")] = string(text)
	}
	delete(pages, "README") // a table of the others
	if len(pages) == 0 {
		return "", fmt.Errorf("no page of a key is in %s", reference)
	}
	for _, key := range slices.Sorted(maps.Keys(pages)) {
		_, text, _ := strings.Cut(pages[key], "\n") // behind the heading
		p.Section(key)
		p.Text(text)
	}
	p.Section("SEE ALSO")
	p.Text("wstunnel(1), wstunnel-check(1), wstunnel-import(1)")
	return p.String(), nil
}
