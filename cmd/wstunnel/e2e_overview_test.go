//go:build linux

package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	main "wstunnel/cmd/wstunnel"
	"wstunnel/internal/history"
	"wstunnel/internal/logs"
)

// overview is what GET /v1/overview answers.
type overview struct {
	Server     *struct{ Tunnels int }
	LastReload *struct {
		OK     bool
		Errors []string
	} `json:"last_reload"`
	May     []string
	Tunnels int
	Sites   []struct {
		Site    string
		Tunnels int
	}
	Upstreams []struct {
		Name    string
		Sites   []string
		Shared  bool
		Servers []struct {
			State   string
			Tunnels int
		}
	}
	Hour struct {
		Tunnels     []int
		StepSeconds int `json:"step_seconds"`
		Reasons     []struct{ Reason string }
	}
	Certificates []struct {
		Host string
		Days int
	}
}

// overviewFor is what a token is told.
func overviewFor(t *testing.T, address, token string) (o overview) {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, address+"v1/overview", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return o
}

func TestOverviewTellsOfWhatIsGranted(t *testing.T) {
	whole, entry := tokenOf("ops", "list", "manage")
	part, bound := tokenOf("shop", "list", "send")
	bound = strings.Replace(bound, "verbs:", "sites: ["+manyHosts[1]+"], verbs:", 1)
	yaml := withDashboard(t, "127.0.0.1:0", []string{entry, bound}, manySettings(startTagging(t)))
	f := startFront(t, yaml)
	f.openAt(t, manyHosts[0], "/ws?user=anna")
	f.openAt(t, manyHosts[1], "/ws?user=berta")
	controlOf(t, yaml).awaitTunnels(2)
	address := f.dashboardOf(t)
	o := overviewFor(t, address, whole)
	if o.Server == nil || o.Server.Tunnels != 2 || o.Tunnels != 2 || len(o.Sites) != 3 || !o.LastReload.OK || !slices.Equal(o.May, []string{"list", "manage"}) || o.Hour.StepSeconds != 10 {
		t.Errorf("%+v", o)
	}
	if u := o.Upstreams[0]; u.Shared || len(u.Sites) != 3 || u.Servers[0].Tunnels != 2 {
		t.Errorf("of the upstream it tells %+v", u)
	}
	o = overviewFor(t, address, part)
	if o.Server != nil || o.LastReload != nil || o.Tunnels != 1 || len(o.Sites) != 1 || o.Sites[0].Site != manyHosts[1] || len(o.Upstreams) != 1 {
		t.Errorf("the token of one site is told %+v", o)
	}
	if u := o.Upstreams[0]; !u.Shared || len(u.Sites) != 1 || u.Servers[0].State != "up" || u.Servers[0].Tunnels != 0 {
		t.Errorf("of an upstream that others use, too, it is told %+v", u)
	}
	f.write(t, yaml+"unknown: 1\n")
	f.expectOrder(t, 2, nil, "reload")
	o = overviewFor(t, address, whole)
	if o.LastReload.OK || len(o.LastReload.Errors) != 1 || !strings.Contains(o.LastReload.Errors[0], "unknown") {
		t.Errorf("of a reload that failed it tells %+v", o.LastReload)
	}
}

// TestTokenOfASiteWatchesThatSite, and is told nothing of others, nor of the server.
func TestTokenOfASiteWatchesThatSite(t *testing.T) {
	token, bound := tokenOf("shop", "list")
	bound = strings.Replace(bound, "verbs:", "sites: ["+manyHosts[1]+"], verbs:", 1)
	yaml := withDashboard(t, "127.0.0.1:0", []string{bound}, manySettings(startTagging(t)))
	f := startFront(t, yaml)
	r, _ := http.NewRequest(http.MethodGet, f.dashboardOf(t)+"v1/events", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := streamOf(t, resp)
	f.openAt(t, manyHosts[0], "/ws?user=anna")
	f.expectOrder(t, 0, []string{"reloaded"}, "reload")
	f.openAt(t, manyHosts[1], "/ws?user=berta")
	if e := s.is("opened"); e.Tunnel.User != "berta" || e.Tunnel.Site != manyHosts[1] || time.Since(e.Time) > time.Minute {
		t.Errorf("%+v", e)
	}
	owner := dialLines(t, yaml)
	owner.says("WATCH", "OK 2")
	f.write(t, strings.Replace(yaml, "verbs: [list]", "verbs: [send]", 1))
	f.expectOrder(t, 0, []string{"reloaded"}, "reload")
	owner.is("reloaded")
	if rest, err := io.ReadAll(s.br); err != nil || strings.Contains(string(rest), "event") {
		t.Errorf("a token that may no longer is told %q, %v", rest, err)
	}
}

// TestOverviewHasTheLastHour as it was noted, a point every ten seconds.
func TestOverviewHasTheLastHour(t *testing.T) {
	token, entry := tokenOf("ops", "list")
	address, backend := freePort(t), startTagging(t)
	file := filepath.Join(t.TempDir(), "wstunnel.yaml")
	if err := os.WriteFile(file, []byte(busySettings(t, address, freePort(t), entry, backend, startTagging(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	end, err := main.Begin(logs.New(io.Discard, logs.JSON), file, busyHour)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	o := overviewFor(t, "http://"+address+"/", token)
	if n := len(o.Hour.Tunnels); n != history.Points || o.Hour.Tunnels[n-1] < 500 || len(o.Hour.Reasons) != 5 || o.Hour.Reasons[0].Reason != "close frame" {
		t.Errorf("%d points: %+v", n, o.Hour)
	}
	if len(o.Certificates) != 3 || o.Certificates[0].Host != manyHosts[2] || o.Certificates[0].Days != 3 || o.Certificates[2].Days != 82 {
		t.Errorf("certificates: %+v", o.Certificates)
	}
}
