package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"wstunnel/internal/probe"
	"wstunnel/proxy"
)

func newExplainCommand(stdout io.Writer) *cobra.Command {
	var (
		file, from string
		headers    []string
		asJSON     bool
		question   proxy.Question
	)
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Tell what the server would do with a request, and why",
		Long: `Explain reads the configuration and tells what a server with it would do with a request: which site
and location answer, and why the others do not; how a server of an upstream would be chosen; what the
backend would be sent, line by line; and what would be done to its answer. It asks no server and no backend: wstunnel probe does.

A URL that begins with ws:// or wss:// asks for a WebSocket.`,
		Example: `  wstunnel explain wss://example.com/ws
  wstunnel explain https://example.com/shop/?a=b -X POST -H 'Cookie: session=1' --from 203.0.113.7`,
		Args: oneURL,
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			question.URL = args[0]
			if question.From, err = netip.ParseAddr(from); err != nil {
				return usageError{fmt.Errorf("--from: %q is no address, such as 203.0.113.7", from)}
			}
			for _, text := range headers {
				field, err := probe.ParseField(text)
				if err != nil {
					return usageError{fmt.Errorf("--header: %w", err)}
				}
				question.Fields = append(question.Fields, field)
			}
			e, err := proxy.Explain(cfg, question)
			if err != nil {
				return usageError{err}
			}
			return printExplanation(stdout, e, asJSON)
		},
	}
	configFlag(cmd, &file)
	flags := cmd.Flags()
	flags.StringVarP(&question.Method, "request", "X", "GET", "the `METHOD` of the request")
	flags.StringArrayVarP(&headers, "header", "H", nil, "a header `'Name: value'` of the request")
	flags.StringVar(&from, "from", "127.0.0.1", "the `ADDRESS` of the client")
	flags.BoolVar(&asJSON, "json", false, "print the explanation as JSON")
	return cmd
}

// printExplanation prints the explanation, part by part in the order in which the server goes.
func printExplanation(w io.Writer, e *proxy.Explanation, asJSON bool) error {
	if asJSON {
		return printJSON(w, e)
	}
	fmt.Fprintln(w, printable(e.Request))
	printCandidates(w, "SITE", e.Sites)
	for _, look := range e.Looks {
		fmt.Fprintf(w, "\nThe path %s", printable(look.Path))
		if look.Reason != "" {
			fmt.Fprintf(w, ": %s", printable(look.Reason))
		}
		fmt.Fprintln(w)
		title := "LOCATION"
		if look.File {
			title = "FILE"
		}
		printCandidates(w, title, look.Candidates)
	}
	fmt.Fprintln(w)
	for _, line := range e.Checks {
		fmt.Fprintf(w, "Check: %s\n", printable(line))
	}
	fmt.Fprintf(w, "Decision: %s\n", printable(e.Decision))
	printLines(w, "THE SERVERS", "HOW", e.Servers)
	for _, line := range e.Choice {
		fmt.Fprintln(w, printable(line))
	}
	printLines(w, "THE BACKEND IS SENT", "WHY", e.Head)
	printLines(w, "AND NOT", "WHY", e.Dropped)
	if len(e.Answer) > 0 {
		fmt.Fprint(w, "\nTHE ANSWER\n")
	}
	for _, line := range e.Answer {
		fmt.Fprintln(w, printable(line))
	}
	if len(e.Notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, line := range e.Notes {
		fmt.Fprintf(w, "Note: %s\n", printable(line))
	}
	return nil
}

// mostCandidates is how many are shown of which most do not match at all.
const mostCandidates = 20

// printCandidates prints one line for each; of very many only for those that match.
func printCandidates(w io.Writer, what string, candidates []proxy.Candidate) {
	if len(candidates) == 0 {
		return
	}
	all := len(candidates)
	if all > mostCandidates {
		candidates = slices.DeleteFunc(slices.Clone(candidates), func(c proxy.Candidate) bool { return !c.Matches })
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\n%s\tPLACE\t\tWHY\n", what)
	for _, c := range candidates {
		chosen := "-"
		if c.Chosen {
			chosen = "yes"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(c.Name), c.Place, chosen, printable(c.Reason))
	}
	table.Flush()
	if left := all - len(candidates); left > 0 {
		fmt.Fprintf(w, "and %d that do not match\n", left)
	}
}

// printLines prints lines with their reasons.
func printLines(w io.Writer, what, why string, lines []proxy.Line) {
	if len(lines) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\n%s\t%s\n", what, why)
	for _, line := range lines {
		fmt.Fprintf(table, "%s\t%s\n", printable(line.Text), printable(line.Reason))
	}
	table.Flush()
}

// printJSON prints what a command has to say as JSON.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
