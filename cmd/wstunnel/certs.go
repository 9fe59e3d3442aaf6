package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"wstunnel/internal/admin"
	"wstunnel/internal/config"
	"wstunnel/tls"
)

func newCertsCommand(stdout, stderr io.Writer) *cobra.Command {
	var file, socket string
	var offline bool
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Show the certificates and when they are renewed",
		Long: `Certs shows the certificate of each host with tls: auto or with files: who issued it, when it
ends, when it is renewed, and why the last order failed, if it did. It asks the server that runs
this configuration and, where none does or --offline is given, reads tls.storage itself, which
needs the rights to read that. Which of both it was is said on standard error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !offline {
				list, from, err := askCertificates(cmd.Context(), file, socket)
				if err == nil {
					fmt.Fprintf(stderr, "as the running server says (%s)\n", from)
					return printCertificates(stdout, list)
				}
				if socket != "" {
					return err
				}
			}
			list, from, err := readCertificates(file)
			if err != nil {
				return err
			}
			fmt.Fprintf(stderr, "read from %s\n", from)
			return printCertificates(stdout, list)
		},
	}
	configFile(cmd, &file)
	cmd.Flags().StringVar(&socket, "socket", "", "the running server's control socket; default: the one of the configuration")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no server, but read tls.storage")
	return cmd
}

// askCertificates asks the server that runs a file, or that has a socket.
func askCertificates(ctx context.Context, file, socket string) (list []admin.Certificate, from string, err error) {
	from = cmp.Or(socket, config.FindSocket(file))
	told, err := admin.NewClient(from).Certificates(ctx)
	if err != nil || socket != "" {
		return told.Certificates, from, err
	}
	ours, err := os.Stat(file)
	if err != nil {
		return nil, "", err
	}
	if told.Config == "" {
		return nil, "", fmt.Errorf("the server at %s tells of some sites only, and not which file it runs; name its socket with --socket", from)
	}
	if theirs, err := os.Stat(told.Config); err != nil || !os.SameFile(ours, theirs) {
		return nil, "", fmt.Errorf("the server at %s runs %s", from, told.Config)
	}
	return told.Certificates, from, nil
}

// readCertificates reads what is on disk.
func readCertificates(file string) (list []admin.Certificate, from string, err error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, "", err
	}
	all, err := tls.List(cfg, time.Now())
	return describedCertificates(all, nil), cfg.TLS.Storage, err
}

// printCertificates prints one line for each certificate. Times are in UTC.
func printCertificates(w io.Writer, list []admin.Certificate) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tISSUER\tNOT AFTER\tNEXT RENEWAL\tLAST ERROR")
	for _, c := range list {
		issuer, notAfter, renewal, failure := "-", "-", "now", "-"
		if c.Issuer != "" && c.NotAfter != nil {
			issuer, notAfter = c.Issuer, c.NotAfter.UTC().Format(time.DateTime)
		}
		switch {
		case c.Files:
			renewal = "by its files"
		case c.Renewal != nil && c.Renewal.After(time.Now()):
			renewal = c.Renewal.UTC().Format(time.DateTime)
		}
		if c.Error != "" {
			failure = c.Error
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", c.Host, printable(issuer), notAfter, renewal, printable(failure))
	}
	return table.Flush()
}

// printable leaves nothing in a text that a terminal obeys: authorities quote what strangers' servers have answered them.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
