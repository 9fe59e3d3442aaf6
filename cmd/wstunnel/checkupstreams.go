package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"wstunnel/internal/config"
)

// printUpstreams prints one line for each upstream, if there are any.
func printUpstreams(w io.Writer, cfg *config.Config) error {
	if len(cfg.Upstreams) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "UPSTREAM\tBALANCE\tHEALTH\tSERVERS")
	for i := range cfg.Upstreams {
		u := &cfg.Upstreams[i]
		servers := make([]string, len(u.Servers))
		for i, s := range u.Servers {
			servers[i] = describeServer(s)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", u.Name, describeBalancing(u), describeChecks(u.Check), strings.Join(servers, ", "))
	}
	return table.Flush()
}

// describeServer shows a server with what sets it apart.
func describeServer(s config.Server) string {
	var marks []string
	if s.Weight > 1 {
		marks = append(marks, fmt.Sprintf("weight %d", s.Weight))
	}
	if s.MaxConnections > 0 {
		marks = append(marks, fmt.Sprintf("max_connections %d", s.MaxConnections))
	}
	if s.Backup {
		marks = append(marks, "backup")
	}
	if s.Down {
		marks = append(marks, "down")
	}
	if len(marks) == 0 {
		return s.String()
	}
	return s.String() + " (" + strings.Join(marks, ", ") + ")"
}

// describeBalancing shows how an upstream's servers share what comes.
func describeBalancing(u *config.Upstream) string {
	said := u.Balance.String()
	if u.Balance == config.BalanceHash {
		said += " " + u.Hash.String()
	}
	if u.Sticky != nil {
		said += ", sticky " + u.Sticky.Cookie
	}
	if u.Hold > 0 {
		said += fmt.Sprintf(", hold %v", u.Hold)
	}
	if u.HandshakesPerSecond > 0 {
		said += fmt.Sprintf(", handshakes_per_second %d", u.HandshakesPerSecond)
	}
	return said
}

// describeChecks shows how servers are checked.
func describeChecks(c *config.Check) string {
	if c == nil {
		return "by requests"
	}
	said := c.Kind.String()
	if c.Path != "" {
		said += " " + c.Path
	}
	return fmt.Sprintf("%s every %v", said, c.Interval)
}
