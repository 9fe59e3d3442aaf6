package main

import (
	"context"
	"log/slog"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/config"
	"wstunnel/internal/dashboard"
	"wstunnel/internal/history"
	"wstunnel/internal/logs"
	"wstunnel/proxy"
	"wstunnel/tls"
)

// Begin runs a configuration in this process, without its control socket, as if what is noted had happened in the hour before. It is to be ended.
func Begin(own *logs.Log, file string, before func(*history.Hour)) (end func(), err error) {
	s := &service{
		log: own.Logger(), server: proxy.New(own, nil), certificates: tls.NewManager(slog.New(slog.DiscardHandler)), began: time.Now(), orders: make(chan order),
		source: configSource{first: func() (*config.Config, error) { return loadConfig(file) }},
	}
	var stop context.CancelFunc
	s.ctx, stop = context.WithCancel(context.Background())
	s.endpoint = s.newEndpoint()
	s.desk = admin.NewDesk(s, s.everywhere(), dashboard.Handler(), s.log)
	before(&s.hour)
	end = func() {
		stop()
		s.desk.CloseWeb()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.server.Shutdown(ctx)
		s.certificates.Close()
	}
	return end, s.start()
}
