package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"wstunnel/internal/admin"
)

// listedAtOnce is how many tunnels a list is asked for at a time.
const listedAtOnce = 1000

func newTunnelsCommand(stdout io.Writer) *cobra.Command {
	var f admin.Filter
	var address string
	var asJSON bool
	var look lookout
	cmd := &cobra.Command{
		Use:   "tunnels",
		Short: "List the live tunnels of the running server",
		Long: `Tunnels lists the live tunnels, the oldest first. With --watch it shows them with their rates until q or
Ctrl-C ends it; r, a and i sort by rate, age and idleness. Where the output is no terminal, each
refresh is a table of its own.`,
		Example: "  wstunnel tunnels --site chat.example.com\n  wstunnel tunnels --user anna --json\n  wstunnel tunnels --watch --sort idle",
	}
	client := controlFlags(cmd)
	cmd.Flags().StringVar(&f.Site, "site", "", "those of the site with this `HOST`")
	cmd.Flags().StringVar(&f.User, "user", "", "those of this `USER`, as backends name users")
	cmd.Flags().StringVar(&f.Group, "group", "", "those in this `GROUP`")
	cmd.Flags().StringVar(&address, "client", "", "those from this `ADDRESS`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	completeNames(cmd, client)
	look.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := look.check(asJSON); err != nil {
			return usageError{err}
		}
		if address != "" {
			if f.Client, err = netip.ParseAddr(address); err != nil {
				return usageError{fmt.Errorf("--client: %w", err)}
			}
		}
		f.Limit = listedAtOnce
		if look.on {
			return look.run(cmd.Context(), client(), f, stdout)
		}
		show, end := tableOf(stdout)
		if asJSON {
			show, end = func(t *admin.Tunnel) error { return printEscaped(stdout, t) }, func() error { return nil }
		}
		if err := eachTunnel(cmd.Context(), client(), f, show); err != nil {
			return err
		}
		return end()
	}
	return cmd
}

// eachTunnel shows the tunnels that are meant, the oldest first.
func eachTunnel(ctx context.Context, client *admin.Client, f admin.Filter, show func(*admin.Tunnel) error) error {
	for {
		page, err := client.List(ctx, f)
		if err != nil {
			return err
		}
		for i := range page.Tunnels {
			if err := show(&page.Tunnels[i]); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		if f.After, err = strconv.ParseUint(page.Next, 10, 64); err != nil {
			return fmt.Errorf("the server's next page begins at %q", page.Next)
		}
	}
}

// tableOf prints tunnels as a table.
func tableOf(stdout io.Writer) (show func(*admin.Tunnel) error, end func() error) {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSITE\tPATH\tCLIENT\tUSER\tGROUPS\tOPEN\tIDLE\tIN\tOUT")
	return func(t *admin.Tunnel) error {
		_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", t.ID, t.Site, shown(t.Path), t.Client, dashed(t.User), dashed(strings.Join(t.Groups, ",")),
			time.Since(t.Since).Round(time.Second), (time.Duration(t.IdleMS) * time.Millisecond).Round(time.Second), t.ToBackend.Messages, t.ToClient.Messages)
		return err
	}, w.Flush
}

// printEscaped prints a value as a line. What a terminal would obey, or not show, is escaped: JSON (RFC 8259, section 7) asks for that below U+0020 only.
func printEscaped(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var line []byte
	for _, r := range string(text) {
		switch {
		case unicode.IsPrint(r):
			line = utf8.AppendRune(line, r)
		case r <= 0xffff:
			line = fmt.Appendf(line, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			line = fmt.Appendf(line, `\u%04x\u%04x`, high, low)
		}
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// dashed is a cell that is never empty.
func dashed(s string) string {
	if s == "" {
		return "-"
	}
	return shown(s)
}

// shown is a peer's text as a terminal may have it.
func shown(s string) string {
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

func newSendCommand(stdin io.Reader, stdout io.Writer) *cobra.Command {
	var to admin.Audience
	cmd := &cobra.Command{
		Use:   "send [ID] TEXT",
		Short: "Say something to browsers whose tunnels are open",
		Long: `Send puts a text message into the tunnel with an ID, as ` + "`wstunnel tunnels`" + ` lists it, or into all those
of users and groups, between two messages of their backends. Where the text is - it reads standard input.`,
		Example: "  wstunnel send 17-8f3a11c0 'hello'\n  wstunnel send --user anna 'you have mail'\n  wstunnel send --group lobby --group staff - < news.json",
	}
	client := controlFlags(cmd)
	cmd.Flags().StringArrayVar(&to.Users, "user", nil, "to the tunnels of this `USER`; may be given again")
	cmd.Flags().StringArrayVar(&to.Groups, "group", nil, "to the tunnels in this `GROUP`; may be given again")
	cmd.Flags().StringVar(&to.Site, "site", "", "of these, only to those of the site with this `HOST`")
	completeNames(cmd, client)
	cmd.ValidArgsFunction = completeID(client, "user", "group")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch many := len(to.Users)+len(to.Groups) > 0; {
		case many && len(args) != 1:
			return usageError{fmt.Errorf("send takes one text, but got %d arguments", len(args))}
		case !many && to.Site != "":
			return usageError{errors.New("--site goes with --user or --group")}
		case !many && len(args) != 2:
			return usageError{errors.New("send takes the ID of a tunnel and a text, or --user or --group and a text")}
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text := args[len(args)-1]
		if text == "-" {
			all, err := io.ReadAll(io.LimitReader(stdin, admin.MaxMessage+1))
			if err != nil {
				return fmt.Errorf("reading standard input: %w", err)
			}
			text = string(all)
		}
		if !utf8.ValidString(text) {
			return usageError{errors.New("the text is not UTF-8")}
		}
		var p admin.Pushed
		var err error
		if len(args) == 2 {
			p, err = client().SendTo(cmd.Context(), args[0], text)
		} else {
			p, err = client().Send(cmd.Context(), to, text)
		}
		if err == nil {
			fmt.Fprintf(stdout, "tunnels: %d (written: %d, queued: %d, dropped: %d)\n", p.Matched, p.Written, p.Queued, p.Dropped)
		}
		return err
	}
	return cmd
}

func newKickCommand(stdout io.Writer) *cobra.Command {
	var code uint16
	var reason string
	cmd := &cobra.Command{
		Use:     "kick ID",
		Short:   "Close a tunnel with a Close frame",
		Example: "  wstunnel kick 17-8f3a11c0 --code 4001 --reason 'logged out'",
	}
	client := controlFlags(cmd)
	cmd.Flags().Uint16Var(&code, "code", 1000, "the Close `CODE`: 1000 to 1003, 1007 to 1014, or 3000 to 4999")
	cmd.Flags().StringVar(&reason, "reason", "closed by the server", "the Close frame's `TEXT`, 123 bytes at most")
	cmd.ValidArgsFunction = completeID(client)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("kick takes the ID of one tunnel, but got %d arguments", len(args))}
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := client().Kick(cmd.Context(), args[0], code, reason); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s is being closed with %d\n", args[0], code)
		return nil
	}
	return cmd
}
