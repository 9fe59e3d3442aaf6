// Package demo holds what `wstunnel demo` puts behind the proxy: an embedded site with a chat
// page, and a chat backend that speaks WebSocket. The proxy itself is the ordinary one, run
// from the configuration that [Demo.YAML] yields; this package knows nothing of it.
package demo

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// CAPath is where the proxy serves the certificate of its local CA; the chat page links to it.
const CAPath = "/.well-known/wstunnel/ca.pem"

// Options says how the proxy in front will be reached.
type Options struct {
	// HTTPPort and HTTPSPort are the proxy's ports on 127.0.0.1, from 1 to 65535.
	HTTPPort, HTTPSPort int
	// Storage is the directory of the local CA. It appears in the configuration only; nothing
	// is written there by this package.
	Storage string
	// Logger gets what goes wrong in the backends; nil discards it.
	Logger *slog.Logger
}

// Demo is a running site and chat backend, each on a free port of the loopback interface.
type Demo struct {
	// SiteAddress and ChatAddress are the backends' addresses, 127.0.0.1:port.
	SiteAddress, ChatAddress string

	options    Options
	chat       *chat
	siteServer *backend
	chatServer *backend
}

// Start listens and serves until [Demo.Close]. It fails if an option is out of range or no port
// can be opened; nothing is left running then.
func Start(o Options) (*Demo, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	siteListener, err := listenLoopback()
	if err != nil {
		return nil, fmt.Errorf("demo: site: %w", err)
	}
	chatListener, err := listenLoopback()
	if err != nil {
		siteListener.Close()
		return nil, fmt.Errorf("demo: chat: %w", err)
	}
	d := &Demo{
		SiteAddress: siteListener.Addr().String(),
		ChatAddress: chatListener.Addr().String(),
		options:     o,
	}
	site, err := newSite(pageConfig{
		HTTPPort:  o.HTTPPort,
		HTTPSPort: o.HTTPSPort,
		Site:      d.SiteAddress,
		Chat:      d.ChatAddress,
		CA:        CAPath,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("demo: site: %w", err), siteListener.Close(), chatListener.Close())
	}
	d.chat = newChat(defaultLimits(), d.ChatAddress, log)
	d.siteServer = serve(siteListener, site, log)
	d.chatServer = serve(chatListener, d.chat, log)
	return d, nil
}

// check reports the first option that cannot be.
func (o Options) check() error {
	for _, p := range []struct {
		name string
		port int
	}{{"http", o.HTTPPort}, {"https", o.HTTPSPort}} {
		if p.port < 1 || p.port > 65535 {
			return fmt.Errorf("%s port %d is not between 1 and 65535", p.name, p.port)
		}
	}
	if o.HTTPPort == o.HTTPSPort {
		return fmt.Errorf("http and https cannot share port %d", o.HTTPPort)
	}
	if o.Storage == "" {
		return errors.New("no directory for the local CA")
	}
	return nil
}

// Close stops both backends. Every chat connection gets a Close frame with code 1001; one that
// does not answer is cut after a second. When Close returns, no goroutine is left.
func (d *Demo) Close() error {
	d.chat.close()
	return errors.Join(d.chatServer.close(), d.siteServer.close())
}

//go:embed demo.yaml.tmpl
var yamlText string

// YAML is the configuration that puts the proxy in front of the demo, written as a person would.
func (d *Demo) YAML() string {
	t := template.Must(template.New("demo.yaml").Funcs(template.FuncMap{"scalar": yamlScalar}).Parse(yamlText))
	var b bytes.Buffer
	err := t.Execute(&b, map[string]any{
		"HTTPPort":  d.options.HTTPPort,
		"HTTPSPort": d.options.HTTPSPort,
		"Storage":   d.options.Storage,
		"Site":      d.SiteAddress,
		"Chat":      d.ChatAddress,
	})
	if err != nil {
		panic("demo: embedded configuration: " + err.Error()) // both halves are compiled in
	}
	return b.String()
}

// plainScalar matches paths that need no quotes in YAML.
var plainScalar = regexp.MustCompile(`^[/.A-Za-z][A-Za-z0-9/._+-]*$`)

// yamlScalar writes s as a YAML string, quoted only where it must be. The escapes that
// strconv.Quote uses are all YAML's as well. A "${" would be taken for an environment variable.
func yamlScalar(s string) string {
	if plainScalar.MatchString(s) && strings.Contains(s, "/") {
		return s
	}
	return strconv.Quote(strings.ReplaceAll(s, "${", "$${"))
}

// listenLoopback opens a free port that only this machine can reach.
func listenLoopback() (net.Listener, error) {
	return net.Listen("tcp", "127.0.0.1:0")
}

// backend is an HTTP server and the goroutine that accepts for it.
type backend struct {
	server *http.Server
	done   chan struct{}
}

// serve starts answering on l, which the backend owns from here on.
func serve(l net.Listener, h http.Handler, log *slog.Logger) *backend {
	b := &backend{
		server: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       20 * time.Second,
			WriteTimeout:      20 * time.Second,
			IdleTimeout:       90 * time.Second,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		done: make(chan struct{}),
	}
	go b.accept(l, log)
	return b
}

// accept runs until close.
func (b *backend) accept(l net.Listener, log *slog.Logger) {
	defer close(b.done)
	if err := b.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("demo: backend stopped", "address", l.Addr().String(), "error", err)
	}
}

// close ends the listener and all connections that are still HTTP.
func (b *backend) close() error {
	err := b.server.Close()
	<-b.done
	return err
}
