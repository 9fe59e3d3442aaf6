package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"wstunnel/internal/admin"
	"wstunnel/internal/history"
	"wstunnel/proxy"
)

// liveTunnels lets the live tunnels of a server be asked for, and spoken into, on the control socket.
type liveTunnels struct {
	server *proxy.Server
	hour   *history.Hour
}

// List returns the tunnels that are meant.
func (l liveTunnels) List(f admin.Filter) admin.Page {
	found, more := l.server.List(proxy.TunnelFilter{Site: f.Site, User: f.User, Group: f.Group, Client: f.Client, After: f.After, Limit: f.Limit, Among: f.Among})
	page := admin.Page{Tunnels: make([]admin.Tunnel, len(found))}
	for i := range found {
		page.Tunnels[i] = described(&found[i])
	}
	if more {
		page.Next = strconv.FormatUint(found[len(found)-1].ID, 10)
	}
	return page
}

// Count counts those of some sites, or all.
func (l liveTunnels) Count(among []string) int {
	if among == nil {
		return l.server.TunnelCount()
	}
	return l.server.TunnelsOf(among)
}

// Counts are what was counted since the start, by the first hosts of sites.
func (l liveTunnels) Counts() map[string]history.Counts {
	sites := l.server.SiteCounts()
	counts := make(map[string]history.Counts, len(sites))
	for name, site := range sites {
		c := history.Counts{
			Tunnels: site.Tunnels, Opened: site.Opened, Closed: map[string]uint64{}, Requests: site.Requests, Failed: site.Failed,
			ToBackend: history.Traffic{Messages: site.ToBackend.Messages, Bytes: site.ToBackend.Bytes},
			ToClient:  history.Traffic{Messages: site.ToClient.Messages, Bytes: site.ToClient.Bytes},
		}
		for cause, n := range site.Closed {
			c.Closed[string(cause)] = n
		}
		counts[name] = c
	}
	return counts
}

// Hour is what was counted in the last hour.
func (l liveTunnels) Hour() *history.Hour { return l.hour }

// Tunnel returns one.
func (l liveTunnels) Tunnel(id string) (admin.Tunnel, error) {
	t, err := l.server.Tunnel(id)
	if err != nil {
		return admin.Tunnel{}, withStatus(err)
	}
	return described(&t), nil
}

// Kick closes one.
func (l liveTunnels) Kick(id string, code uint16, reason string) error {
	return withStatus(l.server.Kick(id, code, reason))
}

// Join makes one a member of a group.
func (l liveTunnels) Join(id, group string) error { return withStatus(l.server.Join(id, group)) }

// Leave undoes that.
func (l liveTunnels) Leave(id, group string) error { return withStatus(l.server.Leave(id, group)) }

// Push puts a message into the tunnels of an audience.
func (l liveTunnels) Push(ctx context.Context, to admin.Audience, m admin.Message) (admin.Pushed, error) {
	audience := proxy.Audience{Keys: to.IDs, Users: to.Users, Groups: to.Groups, Site: to.Site, Among: to.Among, Settled: to.Settled}
	p, err := l.server.Push(ctx, audience, proxy.NewMessage(m.Data, m.Binary, m.TTL), m.Wait)
	return admin.Pushed(p), withStatus(err)
}

// PushTo puts a message into one.
func (l liveTunnels) PushTo(ctx context.Context, id string, m admin.Message) (admin.Pushed, error) {
	p, err := l.server.PushTo(ctx, id, proxy.NewMessage(m.Data, m.Binary, m.TTL), m.Wait)
	return admin.Pushed(p), withStatus(err)
}

// Both know the same bound.
const _ = uint(proxy.MaxPush-admin.MaxMessage) + uint(admin.MaxMessage-proxy.MaxPush)

func described(t *proxy.TunnelStatus) admin.Tunnel {
	groups := t.Groups
	if groups == nil {
		groups = []string{}
	}
	return admin.Tunnel{
		ID: t.Key, Site: t.Site, Host: t.Host, Path: t.Path, Location: t.Location, Client: t.Client, Backend: t.Backend, User: t.User, Groups: groups,
		Subprotocol: t.Subprotocol, Mode: t.Mode, TLS: t.Secure, Pushable: t.Pushable, Since: t.Since, IdleMS: t.Idle.Milliseconds(),
		ToBackend: admin.Traffic{Messages: t.ToBackend.Messages, Bytes: t.ToBackend.Bytes},
		ToClient:  admin.Traffic{Messages: t.ToClient.Messages, Bytes: t.ToClient.Bytes},
	}
}

// withStatus gives an error of the server's its status.
func withStatus(err error) error {
	status := http.StatusUnprocessableEntity
	switch {
	case err == nil:
		return nil
	case errors.Is(err, proxy.ErrNoTunnel):
		status = http.StatusNotFound
	case errors.Is(err, proxy.ErrGone):
		status = http.StatusGone
	case errors.Is(err, proxy.ErrPushOff), errors.Is(err, proxy.ErrExtensions), errors.Is(err, proxy.ErrBroken):
		status = http.StatusConflict
	case errors.Is(err, proxy.ErrFull):
		status = http.StatusTooManyRequests
	case errors.Is(err, proxy.ErrExpired):
		status = http.StatusGatewayTimeout
	case errors.Is(err, proxy.ErrHandingOver), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	return &admin.StatusError{Status: status, Err: err}
}
