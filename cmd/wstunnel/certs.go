package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"wstunnel/tls"
)

func newCertsCommand(stdout io.Writer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Show the certificates and when they are renewed",
		Long: `Certs shows the certificate of each host with tls: auto or with files: who issued it, when it
ends, when it is renewed, and why the last order failed, if it did. It reads tls.storage, where a
running server keeps what it knows, so it needs the rights to read that.`,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			list, err := tls.List(cfg, time.Now())
			if err != nil {
				return err
			}
			return printCertificates(stdout, list)
		},
	}
	configFile(cmd, &file)
	return cmd
}

// printCertificates prints one line for each certificate. Times are in UTC.
func printCertificates(w io.Writer, list []tls.HostCertificate) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tISSUER\tNOT AFTER\tNEXT RENEWAL\tLAST ERROR")
	for _, c := range list {
		issuer, notAfter, renewal, failure := "-", "-", "now", "-"
		if c.Issuer != "" {
			issuer, notAfter = c.Issuer, c.NotAfter.UTC().Format(time.DateTime)
		}
		switch {
		case c.Files:
			renewal = "by its files"
		case c.Renewal.After(time.Now()):
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
