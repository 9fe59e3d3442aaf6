//go:build linux

package main_test

import (
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// ask asks the metrics' listener, and returns the status and the body.
func ask(t *testing.T, address, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// families are what the metrics' listener tells, by name.
func families(t *testing.T, address string) map[string]*dto.MetricFamily {
	t.Helper()
	status, text := ask(t, address, "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v in\n%s", status, err, text)
	}
	return all
}

// exposed are the names of all families, those without samples too.
func exposed(t *testing.T, address string) map[string]bool {
	_, text := ask(t, address, "/metrics")
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
	}
	return names
}

// startBusy runs wstunnel with something of everything to tell of, and returns where its metrics are.
func startBusy(t *testing.T) (*front, string) {
	php := startSocketPHP(t, "")
	f := startFront(t, "metrics: 127.0.0.1:0\n"+settings(`{path: /ws, websocket: "ws://`+php.address+`"}`, `{path: /, http: "http://`+startPages(t).address+`"}`))
	address := f.awaitLog(t, 0, "metrics are served").text("address")
	s := f.dialSocket(t, "wss", "/ws")
	s.echo("hello")
	f.get(t, "/echo.php")
	closed := f.dialSocket(t, "ws", "/ws")
	closed.Close()
	if conn, err := net.Dial("tcp", f.https); err == nil { // a TLS handshake that fails
		io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	f.dialRefused(t)
	for end := time.Now().Add(patience); len(families(t, address)["wstunnel_tunnels_closed_total"].GetMetric()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no tunnel was closed")
		}
	}
	return f, address
}

// dialRefused makes a handshake that opens nothing.
func (f *front) dialRefused(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", f.http)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /none HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	conn.SetDeadline(time.Now().Add(patience))
	conn.Read(make([]byte, 1))
}

// TestMetricsAreDocumented: docs/metrics.md has each metric with its labels, and no other; the board for Grafana asks for none that there is not.
func TestMetricsAreDocumented(t *testing.T) {
	_, address := startBusy(t)
	names, told := exposed(t, address), families(t, address)
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z, ]*)\\| [A-Z0-9]").FindAllStringSubmatch(string(page), -1) {
		labels[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
		if !names[m[1]] {
			t.Errorf("docs/metrics.md has %s, which there is not", m[1])
		}
	}
	for name := range names {
		if _, ok := labels[name]; !ok {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
		for _, m := range told[name].GetMetric() {
			var has []string
			for _, l := range m.Label {
				has = append(has, l.GetName())
			}
			if !slices.Equal(has, labels[name]) {
				t.Errorf("%s has the labels %v, and docs/metrics.md says %v", name, has, labels[name])
				break
			}
		}
	}
	checkBoard(t, names, labels)
}

// checkBoard checks that the board asks for metrics and labels that there are, for each of ours, and that its panels have each their place.
func checkBoard(t *testing.T, names map[string]bool, labels map[string][]string) {
	t.Helper()
	text, err := os.ReadFile("../../contrib/grafana/wstunnel.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Query any }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("the panel %d, %q, is there twice, or at no place", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			metrics := checkExpression(t, target.Expr, target.LegendFormat, names, labels)
			maps.Copy(asked, metrics)
		}
	}
	for name := range names {
		if name != "process_start_time_seconds" && name != "wstunnel_config_timestamp_seconds" && !asked[name] && !slices.Contains(offTheBoard, name) {
			t.Errorf("the board does not show %s", name)
		}
	}
}

// offTheBoard are metrics that the board leaves out: others there say the same, or they are for who looks closer.
var offTheBoard = []string{
	"wstunnel_spool_files", "wstunnel_backend_checks_total", "wstunnel_backend_failed_checks_total", "wstunnel_upstream_retrying",
}

var (
	metricIn   = regexp.MustCompile(`\b(?:wstunnel|process|go)_[a-z_]+`)
	selectedBy = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
	groupedBy  = regexp.MustCompile(`by \(([a-z, ]+)\)`)
	legendOf   = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// checkExpression checks a question of the board, and returns the metrics that it is about.
func checkExpression(t *testing.T, expr, legend string, names map[string]bool, labels map[string][]string) map[string]bool {
	t.Helper()
	asked, known := map[string]bool{}, []string{"instance", "le"}
	for _, name := range metricIn.FindAllString(expr, -1) {
		if family := strings.TrimSuffix(name, "_bucket"); !names[name] && names[family] {
			name = family
		}
		if !names[name] {
			t.Errorf("the board asks for %s, which there is not", name)
		}
		asked[name] = true
		known = append(known, labels[name]...)
	}
	var wanted []string
	for _, m := range selectedBy.FindAllStringSubmatch(expr, -1) {
		wanted = append(wanted, m[1])
	}
	for _, m := range groupedBy.FindAllStringSubmatch(expr, -1) {
		wanted = append(wanted, strings.Split(strings.ReplaceAll(m[1], " ", ""), ",")...)
	}
	for _, m := range legendOf.FindAllStringSubmatch(legend, -1) {
		wanted = append(wanted, m[1])
	}
	for _, label := range wanted {
		if !slices.Contains(known, label) {
			t.Errorf("the board asks for the label %s in %s", label, expr)
		}
	}
	if len(asked) == 0 {
		t.Errorf("the board asks for nothing with %s", expr)
	}
	return asked
}

// value is that of a family's sample with some labels: name, value, name, value.
func value(all map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range all[name].GetMetric() {
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] })
		}
		if matches {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

func TestMetricsOutliveReloadsAndMove(t *testing.T) {
	good := "metrics: 127.0.0.1:0\n" + settings("{path: /, respond: 200}")
	f := startFront(t, good)
	first := f.awaitLog(t, 0, "metrics are served").text("address")
	f.reload(t, good, reloaded)
	f.reload(t, "hello: world\n", refused)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	since := f.out.len()
	f.reload(t, strings.Replace(good, "127.0.0.1:0", taken.Addr().String(), 1), refused)
	if e := f.awaitLog(t, since, refused); !strings.Contains(e.text("error"), "metrics: listening on "+taken.Addr().String()) {
		t.Errorf("the log says %v", e)
	}
	all := families(t, first)
	for _, c := range []struct {
		name, label, of string
		want            float64
	}{
		{"wstunnel_reloads_total", "result", "ok", 1}, {"wstunnel_reloads_total", "result", "failed", 2}, {"wstunnel_last_reload_ok", "", "", 0},
	} {
		labels := []string{c.label, c.of}
		if c.label == "" {
			labels = nil
		}
		if got := value(all, c.name, labels...); got != c.want {
			t.Errorf("%s %s is %v, want %v", c.name, c.of, got, c.want)
		}
	}
	since = f.out.len()
	f.reload(t, strings.Replace(good, "127.0.0.1:0", "localhost:0", 1), reloaded)
	second := f.awaitLog(t, since, "metrics are served").text("address")
	if got := value(families(t, second), "wstunnel_last_reload_ok"); got != 1 {
		t.Errorf("after a good reload the last one was good: %v", got)
	}
	f.reload(t, settings("{path: /, respond: 200}"), reloaded)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", second)
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatal("the listener is still there")
		}
	}
}

// TestReadinessEndsWithTheStop, and metrics are there until its end.
func TestReadinessEndsWithTheStop(t *testing.T) {
	f, address := startBusy(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := ask(t, address, path); status != http.StatusOK {
			t.Errorf("%s is answered %d %q", path, status, body)
		}
	}
	f.signal(t, syscall.SIGTERM) // a client that reads nothing holds the stop up
	f.awaitLog(t, 0, "stopping")
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		status, _ := ask(t, address, "/readyz")
		if status == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is ready during a stop: %d", status)
		}
	}
	if got := value(families(t, address), "wstunnel_tunnels_open"); got < 1 {
		t.Errorf("during the stop %v tunnels are open", got)
	}
	if status, _ := ask(t, address, "/healthz"); status != http.StatusOK {
		t.Errorf("during the stop /healthz is answered %d", status)
	}
	if code := f.wait(t); code != 0 {
		t.Errorf("it exits with %d", code)
	}
}
