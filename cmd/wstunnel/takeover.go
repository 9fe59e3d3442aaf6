package main

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/admin"
	"wstunnel/internal/handover"
	"wstunnel/internal/processes"
	"wstunnel/proxy"
)

// linkedPredecessor returns the link to the process that this one takes over from, or nil where it takes over from none.
func linkedPredecessor() (*handover.Taker, error) {
	text := os.Getenv(handoverVariable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(handoverVariable)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q and no descriptor", handoverVariable, text)
	}
	unix.CloseOnExec(fd)
	taker, err := handover.NewTaker(os.NewFile(uintptr(fd), "handover"))
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", handoverVariable, text, err)
	}
	return taker, nil
}

// takeOver takes what the older process has before any tunnel. It returns what is closed when this is the main process.
func (s *service) takeOver(from *handover.Taker) (main <-chan struct{}, err error) {
	them, err := from.Greet(hello())
	if err != nil {
		return nil, err
	}
	offer, err := from.Offered()
	if err != nil {
		return nil, err
	}
	s.log.Info("taking over", "process", them.PID, "version", them.Program, "listeners", len(offer.Listeners))
	given := proxy.Inheritance{Listeners: map[string]net.Listener{}, LastID: offer.LastID}
	for _, scope := range offer.Drains {
		given.Drains = append(given.Drains, proxy.DrainScope(scope))
	}
	for _, l := range offer.Listeners {
		file := os.NewFile(uintptr(l.Descriptor), l.Address)
		listener, err := net.FileListener(file)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("taking over %s: %w", l.Address, err)
		}
		given.Listeners[l.Address] = listener
	}
	for _, secret := range offer.Secrets {
		if secret.Name == ticketKeys {
			s.certificates.SetTicketKeys(secret.Value)
		}
	}
	s.server.Inherit(given)
	return s.predecessors.add(from, them.PID, offer.Left, s.server), nil // before anybody asks here for their tunnels
}

// predecessors are the processes that have handed over to this one, and those that have handed over to them, as far as they are not gone.
type predecessors struct {
	// pass tells the process that takes over from this one, if there is one, what is left in another.
	pass    func(*handover.Status)
	log     *slog.Logger
	passing sync.Mutex // held while what is known changes and is passed on, so that the last word is the newest

	mu       sync.Mutex
	links    map[*predecessor]bool
	statuses map[uint32]handover.Status // by process
	older    map[uint32]*processes.Older
}

// predecessor is one that has handed over to this one.
type predecessor struct {
	*proxy.Server // adopts its tunnels
	pid           uint32
	link          *handover.Taker
	main          chan struct{} // closed when this process is the main one
	isMain        func()
	gone          chan struct{}
	among         *predecessors
}

// Main implements [handover.Host].
func (p *predecessor) Main() { p.isMain() }

// Left implements [handover.Host].
func (p *predecessor) Left(status handover.Status) {
	ps := p.among
	ps.passing.Lock()
	defer ps.passing.Unlock()
	ps.mu.Lock()
	if status.Tunnels+status.Connections > 0 {
		ps.statuses[status.PID] = status
	} else {
		delete(ps.statuses, status.PID)
	}
	ps.mu.Unlock()
	ps.pass(&status)
}

// add takes what comes over a link until that process is gone. It returns what is closed when this process is the main one.
func (ps *predecessors) add(link *handover.Taker, pid uint32, left []handover.Status, server *proxy.Server) (main <-chan struct{}) {
	p := &predecessor{Server: server, pid: pid, link: link, main: make(chan struct{}), gone: make(chan struct{}), among: ps}
	p.isMain = sync.OnceFunc(func() { close(p.main) })
	ps.mu.Lock()
	ps.links, ps.statuses, ps.older = map[*predecessor]bool{p: true}, map[uint32]handover.Status{}, map[uint32]*processes.Older{}
	for _, status := range left {
		ps.statuses[status.PID] = status
	}
	ps.mu.Unlock()
	go func() {
		if err := link.Run(p); err != nil {
			ps.log.Error("the process that has handed over is not understood", "error", err)
		}
		ps.forget(p)
		p.isMain()
		close(p.gone)
		ps.log.Info("the old process is gone")
	}()
	return p.main
}

// known returns what is left in processes other than the one that this one has taken over from.
func (ps *predecessors) known() []handover.Status {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Collect(maps.Values(ps.statuses))
}

// passAll begins to pass on what is left, to a process that was told of it before.
func (ps *predecessors) passAll(told []handover.Status, begin func()) {
	ps.passing.Lock()
	defer ps.passing.Unlock()
	begin()
	news := map[uint32]handover.Status{}
	for _, status := range told {
		news[status.PID] = handover.Status{PID: status.PID} // unless there is something still
	}
	for _, status := range ps.known() {
		news[status.PID] = status
	}
	for _, status := range news {
		ps.pass(&status)
	}
}

// forget notes that a process is gone, and with it all that it told of.
func (ps *predecessors) forget(p *predecessor) {
	ps.passing.Lock()
	defer ps.passing.Unlock()
	ps.mu.Lock()
	told := slices.Collect(maps.Keys(ps.statuses))
	ps.statuses, ps.older = map[uint32]handover.Status{}, map[uint32]*processes.Older{}
	delete(ps.links, p)
	ps.mu.Unlock()
	for _, pid := range told {
		ps.pass(&handover.Status{PID: pid})
	}
}

// list returns those that are not gone.
func (ps *predecessors) list() []*predecessor {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Collect(maps.Keys(ps.links))
}

// status tells what is left in them.
func (ps *predecessors) status() []admin.Predecessor {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	all := []admin.Predecessor{}
	for _, left := range ps.statuses {
		all = append(all, admin.Predecessor{
			PID: int(left.PID), Version: left.Program, Tunnels: int(left.Tunnels), Secure: int(left.Secure), Streams: int(left.Streams),
			Relayed: int(left.Relayed), Connections: int(left.Connections),
		})
	}
	slices.SortFunc(all, func(a, b admin.Predecessor) int { return a.PID - b.PID })
	return all
}

// drain has them end what they have left, within a time.
func (ps *predecessors) drain(within time.Duration) {
	for _, p := range ps.list() {
		p.link.Drain(within)
	}
}

// drainScope has them drain a part of what they have left.
func (ps *predecessors) drainScope(scope handover.Drain) {
	for _, p := range ps.list() {
		p.link.DrainScope(scope)
	}
}

// gone returns what is closed when all of them are gone.
func (ps *predecessors) gone() <-chan struct{} {
	all, over := ps.list(), make(chan struct{})
	go func() {
		defer close(over)
		for _, p := range all {
			<-p.gone
		}
	}()
	return over
}
