package main

import (
	"context"
	"strings"

	"wstunnel/internal/admin"
	"wstunnel/proxy"
)

// Watch tells what happens to the tunnels of some sites, or to all and to the server.
func (l liveTunnels) Watch(among []string) admin.Watch { return watch{l.server.Subscribe(among)} }

// watch is what happens, as the control socket tells it.
type watch struct{ *proxy.Subscription }

// Next waits until something has happened.
func (w watch) Next(ctx context.Context) (missed int, some []admin.Event, err error) {
	missed, events, err := w.Subscription.Next(ctx)
	for _, e := range events {
		some = append(some, eventOf(e))
	}
	return missed, some, err
}

func eventOf(e *proxy.Event) admin.Event {
	told := admin.Event{
		Event: string(e.Kind), Time: e.Time, Group: e.Group, Site: e.Scope.Site, Upstream: e.Scope.Upstream, Server: e.Scope.Server,
		Reason: e.Reason, Errors: e.Errors,
	}
	if e.Upstream != "" {
		told.Upstream, told.Server = e.Upstream, e.Server
	}
	if e.Tunnel != nil {
		t := described(e.Tunnel)
		told.Tunnel = &t
	}
	if r := e.Result; r != nil {
		told.Code, told.ClosedBy, told.Cause, told.DurationMS = r.Code, string(r.By), string(r.Cause), e.Time.Sub(e.Tunnel.Since).Milliseconds()
		if r.Err != nil {
			told.Error = r.Err.Error()
		}
	}
	return told
}

// publishFailure tells those who watch what has gone wrong.
func (s *service) publishFailure(kind proxy.EventKind, err error) {
	s.server.Publish(proxy.Event{Kind: kind, Errors: strings.Split(err.Error(), "\n")})
}
