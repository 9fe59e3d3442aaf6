package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"wstunnel/internal/config"
	"wstunnel/internal/migrate"
)

func newImportCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Translate a configuration of Apache or nginx",
		Long: `Import reads a configuration of Apache or nginx, with all that it includes, and writes one of
wstunnel's that means the same to standard output. What has no counterpart is a note in it, with the
file and the line that it is about, and on standard error.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newImportFrom("apache", "/etc/apache2/apache2.conf", migrate.Apache, stdin, stdout, stderr),
		newImportFrom("nginx", "/etc/nginx/nginx.conf", migrate.Nginx, stdin, stdout, stderr),
	)
	return cmd
}

func newImportFrom(kind, usual string, translate func(migrate.Input) (*migrate.Result, error), stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:   kind + " [FILE]",
		Short: "Translate " + usual,
		Long: `Translate FILE, or ` + usual + `: a whole configuration, some of its servers, or locations
only. FILE is - for standard input.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("wstunnel import %s takes one file, but got %q", kind, args)}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := usual
			if len(args) == 1 {
				name = args[0]
			}
			in, err := importInput(name, usual, stdin)
			if err != nil {
				return err
			}
			result, err := translate(in)
			if err != nil {
				return fmt.Errorf("import %s: %w", kind, err)
			}
			if _, err := stdout.Write(result.YAML); err != nil {
				return err
			}
			return report(stderr, result, strict)
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 if something has no counterpart")
	return cmd
}

// importInput finds what is to be translated. Names in standard input start where the usual file is.
func importInput(name, usual string, stdin io.Reader) (migrate.Input, error) {
	in := migrate.Input{Files: os.DirFS("/"), Name: filepath.Join(filepath.Dir(usual), migrate.StandardInput), Check: checkImported}
	if name == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, 16<<20))
		in.Text = append([]byte{}, text...)
		return in, err
	}
	abs, err := filepath.Abs(name)
	in.Name = abs
	return in, err
}

// checkImported returns what is wrong with a configuration. Files that this machine lacks are told of and no mistakes.
func checkImported(yaml []byte) (mistakes []migrate.Mistake) {
	_, err := config.Parse("config.yaml", yaml, os.LookupEnv)
	var errs config.Errors
	if err != nil && !errors.As(err, &errs) {
		return []migrate.Mistake{{Line: 1, Text: err.Error()}}
	}
	for _, e := range errs {
		said := e.Found + "; " + e.Allowed
		if e.NoFile {
			said = lackOf(e.Found)
		}
		mistakes = append(mistakes, migrate.Mistake{Line: e.Line, Text: said, Unreachable: e.Unreachable, NoFile: e.NoFile})
	}
	return mistakes
}

// lackOf says of a file or directory that cannot be opened that it is not there, where that is all.
func lackOf(found string) string {
	name, missing := strings.CutSuffix(found, ": no such file or directory")
	if !missing {
		return found
	}
	for _, verb := range []string{"cannot read file ", "cannot open directory "} {
		name = strings.TrimPrefix(name, verb)
	}
	if plain, err := strconv.Unquote(name); err == nil {
		name = plain
	}
	return "this machine lacks " + name
}

// report tells what became of the directives; what has no counterpart is a failure where strict says so.
func report(w io.Writer, r *migrate.Result, strict bool) error {
	lacking := 0
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
		if !n.Advice {
			lacking++
		}
	}
	bad := 0
	told := map[string]bool{}
	for _, m := range r.Mistakes {
		if m.NoFile {
			if !told[m.Text] {
				fmt.Fprintf(w, "%s (line %d)\n", m.Text, m.Line)
			}
			told[m.Text] = true
			continue
		}
		bad++
		fmt.Fprintf(w, "line %d of what was written is wrong, which is a mistake of this translation: %s\n", m.Line, m.Text)
	}
	c := r.Counts
	fmt.Fprintf(w, "%d directives translated, %d noted, %d not needed, %d refused\n", c.Translated, c.Noted, c.NotNeeded, c.Refused)
	switch {
	case bad > 0:
		return fmt.Errorf("`wstunnel check` finds %d mistakes in what was written", bad)
	case strict && lacking > 0:
		if lacking == 1 {
			return errors.New("1 directive has no counterpart")
		}
		return fmt.Errorf("%d directives have no counterpart", lacking)
	}
	return nil
}
