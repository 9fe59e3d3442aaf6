package metrics

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wstunnel/internal/leaks"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// parse reads a text as Prometheus' own parser does, and writes what it has understood.
func parse(t *testing.T, text []byte) string {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var understood bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, _, _ = strings.Cut(name, " ")
			if f := families[name]; f != nil {
				expfmt.MetricFamilyToText(&understood, f)
			}
		}
	}
	return understood.String()
}

// TestTextIsAsPrometheusWritesIt: what its parser has understood is written by it as by us.
func TestTextIsAsPrometheusWritesIt(t *testing.T) {
	var w Writer
	w.Family("a_total", Counter, "Back\\slashes and\nlines, \"quoted\".")
	w.Count(123456, "site", "a.example", "odd", "\"\\\n é")
	w.Count(0, "site", "(unknown)", "odd", "")
	w.Only("b_seconds", Gauge, "A number.", 0.1)
	var d Durations
	for _, took := range []time.Duration{0, time.Millisecond, 1001 * time.Microsecond, 3 * time.Second, time.Hour, -1} {
		d.Note(took)
	}
	w.Family("c_seconds", Histogram, "Durations.")
	w.Durations(&d, "site", "a.example")
	if got, want := parse(t, w.Text()), string(w.Text()); got != want {
		t.Errorf("understood is\n%s\nof\n%s", got, want)
	}
	for _, want := range []string{`le="0.001"} 3`, `le="0.0025"} 4`, `le="2.5"} 4`, `le="5"} 5`, `le="60"} 5`, `le="+Inf"} 6`, `_count{site="a.example"} 6`, `_sum{site="a.example"} 3603.002001`} {
		if !strings.Contains(string(w.Text()), want+"\n") {
			t.Errorf("there is no %s in\n%s", want, w.Text())
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("site", "a\"b\\c\nd", 1.5)
	f.Add("", "", -1e300)
	f.Fuzz(func(t *testing.T, help, label string, value float64) {
		if !model.LabelValue(label).IsValid() || !model.LabelValue(help).IsValid() || value != value || value < -1e308 || strings.TrimSpace(help) != help {
			t.Skip() // no text, no number, or a text whose ends the parser cuts off
		}
		var w Writer
		w.Family("a", Gauge, help)
		w.Sample(value, "label", label, "other", "x")
		w.Count(7, "label", label, "other", "y")
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(w.Text()))
		if err != nil {
			t.Fatalf("%v in %q", err, w.Text())
		}
		if got := families["a"].Metric[0]; got.GetGauge().GetValue() != value || got.Label[0].GetValue() != label {
			t.Fatalf("%q is read as %v", w.Text(), got)
		}
	})
}

func TestDurationsFillCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(Durations{}); size != 128 {
		t.Errorf("they take %d bytes", size)
	}
	var d Durations
	if n := testing.AllocsPerRun(100, func() { d.Note(time.Second) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNote(b *testing.B) {
	var d Durations
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d.Note(3 * time.Millisecond)
		}
	})
}

// tested is an endpoint that listens, with what it is to say.
type tested struct {
	*Endpoint
	t     *testing.T
	ready atomic.Bool
	hangs atomic.Bool
}

func newTested(t *testing.T, address string) *tested {
	e := &tested{t: t}
	e.Endpoint = NewEndpoint(slog.New(slog.DiscardHandler), Source{
		Collect: func(w *Writer) { w.Only("up", Gauge, "Up.", 1) },
		Ready:   e.ready.Load,
		Alive: func(context.Context) error {
			if e.hangs.Load() {
				return errors.New("event loop 1 does not answer")
			}
			return nil
		},
	})
	t.Cleanup(e.Close)
	e.move(address)
	return e
}

// move has the endpoint listen elsewhere.
func (e *tested) move(address string) {
	e.t.Helper()
	settle, err := e.Move(address)
	if err != nil {
		e.t.Fatal(err)
	}
	settle(true)
}

// ask asks on a connection of its own, and returns the status and the body.
func (e *tested) ask(method, path, host string) (string, http.Header) {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, path, host)
	r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		e.t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	return fmt.Sprint(r.StatusCode, " ", string(body)), r.Header
}

func TestEndpointAnswers(t *testing.T) {
	e := newTested(t, "localhost:0")
	for _, c := range []struct{ method, path, host, want string }{
		{"GET", "/metrics", "127.0.0.1:9180", "200 # HELP up Up.\n# TYPE up gauge\nup 1\n"},
		{"HEAD", "/metrics", "127.0.0.1:9180", "200 "},
		{"POST", "/metrics", "127.0.0.1:9180", "405 GET or HEAD\n"},
		{"GET", "/", "127.0.0.1:9180", "404 there are /metrics, /healthz and /readyz\n"},
		{"GET", "/metrics/", "127.0.0.1", "404 there are /metrics, /healthz and /readyz\n"},
		{"GET", "/healthz", "[::1]:9180", "200 ok\n"},
		{"GET", "/healthz", "LOCALHOST.:9180", "200 ok\n"},
		{"GET", "/metrics", "evil.example:9180", "421 this is no host of the metrics; ask by address, or as localhost\n"},
		{"GET", "/readyz", "localhost.evil.example", "421 this is no host of the metrics; ask by address, or as localhost\n"},
		{"GET", "/readyz", "localhost", "503 not ready: starting, or draining\n"},
	} {
		got, header := e.ask(c.method, c.path, c.host)
		if got != c.want {
			t.Errorf("%s %s of %s is answered %q, want %q", c.method, c.path, c.host, got, c.want)
		}
		if want := map[bool]string{true: ContentType, false: "text/plain; charset=utf-8"}[strings.HasPrefix(got, "200") && c.path == "/metrics"]; header.Get("Content-Type") != want {
			t.Errorf("%s %s has the type %s", c.method, c.path, header.Get("Content-Type"))
		}
	}
	e.ready.Store(true)
	e.hangs.Store(true)
	if got, _ := e.ask("GET", "/readyz", "localhost"); got != "200 ready\n" {
		t.Errorf("when it is ready it says %q", got)
	}
	if got, _ := e.ask("GET", "/healthz", "localhost"); got != "503 event loop 1 does not answer\n" {
		t.Errorf("when it hangs it says %q", got)
	}
}

// TestEndpointHasItsConfiguredName: who asks for that on a loopback connection asks by right.
func TestEndpointHasItsConfiguredName(t *testing.T) {
	for _, c := range []struct {
		local, address, host string
		want                 bool
	}{
		{"127.0.0.1", "metrics.example:9180", "Metrics.Example:9180", true},
		{"127.0.0.1", "metrics.example:9180", "other.example:9180", false},
		{"127.0.0.1", "0.0.0.0:9180", "web1.internal:9180", false},
		{"192.0.2.7", "0.0.0.0:9180", "web1.internal:9180", true},
		{"::1", "[::]:9180", "[::1]", true},
		{"::1", "[::]:9180", "", true},
	} {
		r := (&http.Request{Host: c.host}).WithContext(context.WithValue(context.Background(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(c.local)})))
		if got := mayAsk(r, c.address); got != c.want {
			t.Errorf("at %s, configured as %s, %q may be asked for: %v", c.local, c.address, c.host, got)
		}
	}
}

func TestEndpointMoves(t *testing.T) {
	e := newTested(t, "127.0.0.1:0")
	first := e.Addr()
	e.move("127.0.0.1:0")
	if e.Addr() != first {
		t.Error("an address that stays was opened again")
	}
	if _, err := e.Move("127.0.0.1:99999"); err == nil || !strings.Contains(err.Error(), "metrics: listening on 127.0.0.1:99999: ") {
		t.Errorf("a bad address: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := e.Move(taken.Addr().String()); err == nil || !strings.HasSuffix(err.Error(), "address already in use") {
		t.Errorf("an address in use: %v", err)
	}
	settle, err := e.Move("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	settle(false)
	if e.Addr() != first {
		t.Error("it has moved, though the configuration was not applied")
	}
	other := newTested(t, first.String()) // as a process that takes over does
	other.Close()
	e.move("localhost:0")
	if got, _ := e.ask("GET", "/healthz", "localhost"); got != "200 ok\n" {
		t.Errorf("at the new address it says %q", got)
	}
	awaitRefusal(t, first)
	second := e.Addr()
	e.move("")
	awaitRefusal(t, second)
}

// awaitRefusal waits until nobody listens on an address.
func awaitRefusal(t *testing.T, address net.Addr) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", address.String())
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatalf("%s is still there", address)
		}
	}
}

// TestEndpointHoldsFewConnections: more of them wait until one ends.
func TestEndpointHoldsFewConnections(t *testing.T) {
	e := newTested(t, "127.0.0.1:0")
	var silent []net.Conn
	for range maxConnections {
		conn, err := net.Dial("tcp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	answered := make(chan string)
	go func() {
		got, _ := e.ask("GET", "/healthz", "localhost")
		answered <- got
	}()
	select {
	case got := <-answered:
		t.Fatalf("one more was answered %q", got)
	case <-time.After(50 * time.Millisecond):
	}
	silent[0].Close()
	if got := <-answered; got != "200 ok\n" {
		t.Errorf("it was answered %q", got)
	}
}

// TestIdleConnectionsKeepNobodyWaiting: of many who keep theirs most are asked to come anew.
func TestIdleConnectionsKeepNobodyWaiting(t *testing.T) {
	e := newTested(t, "127.0.0.1:0")
	closed := 0
	for range 2 * maxConnections {
		conn, err := net.Dial("tcp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Close {
			closed++
		}
	}
	if kept := 2*maxConnections - closed; kept < maxConnections/4 || kept > maxConnections/2 {
		t.Errorf("%d connections are kept", kept)
	}
}
