package main

import (
	"cmp"
	"errors"
	"maps"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"wstunnel/internal/handover"
	"wstunnel/internal/processes"
)

// everywhere are the tunnels of this process and of those before it.
func (s *service) everywhere() *processes.Everywhere {
	return &processes.Everywhere{
		Here: liveTunnels{s.server, &s.hour}, Older: s.predecessors.processes, Settled: s.predecessors.settled, Leaving: func() bool { return s.told.Load() != nil },
	}
}

// answerCalls lets the process that takes over ask of the tunnels here, and of those of older processes, for which none waits that is for this one.
func (s *service) answerCalls(next *successor) {
	older := make(chan handover.Call, maxForwarded)
	defer close(older)
	go func() {
		for call := range older {
			s.predecessors.call(call)
			unix.Close(call.Descriptor)
		}
	}()
	for {
		select {
		case call := <-next.Calls():
			s.answerCall(call, older)
		case <-next.Gone():
			for len(next.Calls()) > 0 { // whoever asks waits for an answer
				s.answerCall(<-next.Calls(), older)
			}
			return
		}
	}
}

// maxForwarded is how many calls may wait that are for older processes.
const maxForwarded = 64

func (s *service) answerCall(call handover.Call, older chan<- handover.Call) {
	if int(call.PID) != os.Getpid() {
		select {
		case older <- call:
		default: // they take nothing: whoever asks sees the end of the connection
			unix.Close(call.Descriptor)
		}
		return
	}
	file := os.NewFile(uintptr(call.Descriptor), "call")
	defer file.Close()
	if conn, err := net.FileConn(file); err == nil {
		go processes.Answer(conn, liveTunnels{s.server, &s.hour})
	}
}

// processes returns what can be asked of the processes in which something is left, the youngest first.
func (ps *predecessors) processes() []*processes.Older {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	pids := slices.SortedFunc(maps.Keys(ps.statuses), func(a, b uint32) int { return cmp.Compare(b, a) })
	for p := range ps.links {
		pids = append([]uint32{p.pid}, slices.DeleteFunc(pids, func(pid uint32) bool { return pid == p.pid })...)
	}
	var all []*processes.Older
	for _, pid := range pids {
		older := ps.older[pid]
		if older == nil {
			older = processes.NewOlder(int(pid), func() (net.Conn, error) { return ps.connect(pid) }, ps.log)
			ps.older[pid] = older
		}
		all = append(all, older)
	}
	return all
}

// settled reports whether no tunnel comes from another process any more.
func (ps *predecessors) settled() bool {
	for _, p := range ps.list() {
		select {
		case <-p.main:
		default:
			return false
		}
	}
	return true
}

// connect returns a connection to an older process.
func (ps *predecessors) connect(pid uint32) (net.Conn, error) {
	ours, theirs, err := handover.Pair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	if err := ps.call(handover.Call{PID: pid, Descriptor: int(theirs.Fd())}); errors.Is(err, handover.ErrGone) {
		return nil, net.ErrClosed
	} else if err != nil {
		return nil, err
	}
	return net.FileConn(ours)
}

// call passes a connection on to the process before, for itself or for one before it.
func (ps *predecessors) call(call handover.Call) error {
	for _, p := range ps.list() {
		return p.link.Call(call)
	}
	return handover.ErrGone
}
