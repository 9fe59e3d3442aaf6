package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wstunnel/internal/probe"
)

// probeFlags are what the command line says of a probe.
type probeFlags struct {
	headers             []string
	origin, connect, ca string
	json                bool
	options             probe.Options
}

func newProbeCommand(stdout io.Writer) *cobra.Command {
	var f probeFlags
	cmd := &cobra.Command{
		Use:   "probe URL",
		Short: "Open a WebSocket step by step, and say what keeps it from opening",
		Long: `Probe opens the WebSocket at a URL as a browser would: the name's address, a TCP connection,
TLS with its certificates, the handshake of HTTP, a ping and a Close. It tells of each step, and
where one fails, why, and what to do. It asks a front end or a backend alike; http:// is taken
for ws://, and https:// for wss://.

Exit codes: 0 it is open, 2 wrong arguments, 3 the name has no address, 4 no TCP connection,
5 no TLS or no certificate that browsers take, 6 refused by an HTTP status, 7 no answer of HTTP
or a 101 that browsers do not take, 8 a ping unanswered, 9 mixed content: it is open, but no
browser opens ws:// for a page over https.`,
		Example: `  wstunnel probe wss://example.com/ws
  wstunnel probe ws://127.0.0.1:9000/ws -H 'Host: example.com' --origin https://example.com
  wstunnel probe wss://example.com/ws --connect 127.0.0.1:443`,
		Args: oneURL,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.read(cmd, args[0]); err != nil {
				return usageError{err}
			}
			report := probe.Run(context.Background(), f.options)
			if err := f.print(stdout, report); err != nil {
				return err
			}
			if code := probeExit[report.Outcome]; code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "a header `'Name: value'` of the request; it takes the place of one of the handshake's")
	flags.StringVar(&f.origin, "origin", "", "the `URL` of the page's origin; '' for none (default: that of the WebSocket)")
	flags.StringSliceVar(&f.options.Subprotocols, "subprotocol", nil, "the `names` of subprotocols to ask for")
	flags.StringVar(&f.connect, "connect", "", "connect to `host:port`, or unix:/path, in place of what the URL names")
	flags.StringVar(&f.ca, "ca", "", "trust the authorities in `FILE`, in place of the system's")
	flags.BoolVar(&f.options.Insecure, "insecure", false, "go on behind a certificate that browsers refuse")
	flags.DurationVar(&f.options.Timeout, "timeout", 5*time.Second, "how long each step may `take`")
	flags.BoolVar(&f.json, "json", false, "print the report as JSON")
	return cmd
}

// probeExit is the exit code of each outcome.
var probeExit = map[probe.Outcome]int{
	probe.Open: 0, probe.NoAddress: 3, probe.NoConnection: 4, probe.NoTLS: 5, probe.Refused: 6, probe.Broken: 7, probe.Unanswered: 8, probe.Blocked: 9,
}

// oneURL takes exactly one argument.
func oneURL(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%s takes one URL, but got %q", cmd.CommandPath(), args)}
	}
	return nil
}

// read makes the options of the command line.
func (f *probeFlags) read(cmd *cobra.Command, url string) (err error) {
	o := &f.options
	if o.Target, err = probe.ParseURL(url); err != nil {
		return err
	}
	for _, text := range f.headers {
		field, err := probe.ParseField(text)
		if err == nil {
			err = probe.CheckField(field)
		}
		if err != nil {
			return fmt.Errorf("--header: %w", err)
		}
		o.Fields = append(o.Fields, field)
	}
	if o.Origin = f.origin; !cmd.Flags().Changed("origin") {
		o.Origin = o.Target.Origin()
	}
	if f.connect != "" {
		if o.Network, o.Address, err = probe.ParseConnect(f.connect); err != nil {
			return fmt.Errorf("--connect: %w", err)
		}
	}
	if o.Timeout <= 0 {
		return fmt.Errorf("--timeout: %v is no time to wait", o.Timeout)
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
		if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(pem) {
			return errors.New("--ca: " + f.ca + " has no PEM block CERTIFICATE")
		}
	}
	return nil
}

// print prints the report.
func (f *probeFlags) print(w io.Writer, r *probe.Report) error {
	if f.json {
		return printJSON(w, r)
	}
	return printProbe(w, r)
}

// printProbe prints one line for each step, with its details below, and what came of it.
func printProbe(w io.Writer, r *probe.Report) error {
	fmt.Fprintf(w, "%s\n\n", printable(r.URL))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STEP\tTIME\tRESULT")
	for _, s := range r.Steps {
		fmt.Fprintf(table, "%s\t%.1f ms\t%s\n", s.Name, float64(time.Duration(s.Took).Microseconds())/1000, printable(s.Result))
		for _, line := range s.Details {
			fmt.Fprintf(table, "\t\t%s\n", printable(line))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if r.Outcome == probe.Open {
		fmt.Fprintln(w, "The WebSocket is open, and answers.")
	} else {
		fmt.Fprintln(w, printable(r.Cause))
	}
	for _, line := range r.Advice {
		fmt.Fprintf(w, "  - %s\n", printable(line))
	}
	for _, line := range r.Notes {
		fmt.Fprintf(w, "Note: %s\n", printable(line))
	}
	return nil
}
