package tls

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"wstunnel/internal/config"
)

// startDemand serves TLS for names below customers.example, each of which its own URL is asked about. The clock stands still, and nothing is
// ordered.
func startDemand(t *testing.T, change func(*config.Config)) (m *Manager, c *Certificates, ask *askServer, clock *clock, address string) {
	t.Helper()
	ask, clock = startAsk(t), newClock()
	m = newManager(quiet(), clock.Now)
	cfg := testConfig(t, onDemandSite(ask.url(), "*.customers.example"))
	if change != nil {
		change(cfg)
	}
	c, err := m.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.lookup("x.customers.example").asker.client.CloseIdleConnections)
	m.current.Store(c)
	return m, c, ask, clock, serve(t, c.Config())
}

// askFor does handshakes for so many names that are not allowed, from an address of this machine.
func askFor(t *testing.T, address, from string, first, n int) {
	t.Helper()
	dialer := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for i := range n {
		conn, err := tls.DialWithDialer(dialer, "tcp", address, anyone(fmt.Sprintf("no%d.customers.example", first+i)))
		if err == nil {
			t.Error("a handshake for a name that is not allowed")
			conn.Close()
		}
	}
}

func TestOneClientHasFewNamesAskedAbout(t *testing.T) {
	_, _, ask, clock, address := startDemand(t, nil)
	askFor(t, address, "127.0.0.2", 0, 200)
	if n := ask.asked.Load(); n != 20 {
		t.Errorf("%d questions for one client, want 20", n)
	}
	askFor(t, address, "127.0.0.3", 1000, 5)
	if n := ask.asked.Load(); n != 25 {
		t.Errorf("%d questions with those for another client, want 25", n)
	}
	clock.Add(time.Minute)
	askFor(t, address, "127.0.0.2", 2000, 20)
	if n := ask.asked.Load(); n != 35 {
		t.Errorf("%d questions a minute later, want 35", n)
	}
}

func TestTrustedProxiesStandForManyClients(t *testing.T) {
	_, _, ask, _, address := startDemand(t, func(cfg *config.Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	})
	askFor(t, address, "127.0.0.2", 0, 50)
	if n := ask.asked.Load(); n != 50 {
		t.Errorf("%d questions, want 50", n)
	}
}

func TestQuestionsOfAllClientsAreBounded(t *testing.T) {
	_, _, ask, _, address := startDemand(t, nil)
	for i := range 15 {
		askFor(t, address, fmt.Sprintf("127.0.1.%d", i+1), 100*i, 20)
	}
	if n := ask.asked.Load(); n != 200 {
		t.Errorf("%d questions, want 200", n)
	}
}

func TestNobodyIsAskedOnceTheBudgetOfOrdersIsSpent(t *testing.T) {
	m, _, ask, clock, address := startDemand(t, nil)
	for i := range domainPerWeek {
		if err := m.budget.spend(clock.Now(), fmt.Sprintf("x%d.customers.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	askFor(t, address, "127.0.0.2", 0, 5)
	if n := ask.asked.Load(); n != 0 {
		t.Errorf("%d questions about names that cannot be ordered", n)
	}
}

func TestMemoryOfClientsThatAskIsBounded(t *testing.T) {
	var q questions
	now := time.Now()
	for i := range 3 * maxAskers {
		q.permit(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(q.clients) > maxAskers {
		t.Errorf("%d clients", len(q.clients))
	}
}
