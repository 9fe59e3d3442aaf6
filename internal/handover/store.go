package handover

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"wstunnel/internal/tunnel"
)

// Names of descriptors in a store, by which the process that gets them back knows them.
const (
	storePrefix = "wstunnel-"
	stateName   = storePrefix + "state"
)

func storeName(id uint64, end tunnel.Side) string {
	return storePrefix + "tunnel-" + strconv.FormatUint(id, 10) + "-" + string(end)
}

// IsStored reports whether a descriptor of a name is one of a store's.
func IsStored(name string) bool { return strings.HasPrefix(name, storePrefix) }

// LastStored returns the highest number of the tunnels whose descriptors there are.
func LastStored(files []*os.File) (last uint64) {
	for _, file := range files {
		number, _, _ := strings.Cut(strings.TrimPrefix(file.Name(), storePrefix+"tunnel-"), "-")
		if id, err := strconv.ParseUint(number, 10, 64); err == nil {
			last = max(last, id)
		}
	}
	return last
}

// ErrStoreFull says that a store takes no more descriptors.
var ErrStoreFull = errors.New("the descriptor store is full")

// Store holds tunnels on their way to a process that does not run yet: somebody who outlives this process keeps their descriptors, with names, and a file with their state.
// Its methods are safe for concurrent use.
type Store struct {
	// Keep has a descriptor kept under a name; the descriptor stays the caller's.
	Keep func(name string, fd int) error
	// Drop has that undone.
	Drop func(name string)
	// Room is how many descriptors are kept at most.
	Room int

	mu      sync.Mutex
	records [][]byte
	kept    []stored
}

// stored is a tunnel in a store.
type stored struct {
	id   uint64
	held *tunnel.Held
}

// Move has the descriptors of a held tunnel kept. Where it returns an error, the tunnel goes on where it was; else when Finish fails.
func (s *Store) Move(t *Tunnel, held *tunnel.Held) error {
	defer unix.Close(held.Client)
	defer unix.Close(held.Backend)
	t.State = *held.State
	record, err := t.encode()
	if err == nil {
		err = s.keep(t.ID, held, record)
	}
	if err != nil {
		held.Resume()
	}
	return err
}

func (s *Store) keep(id uint64, held *tunnel.Held, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if 2*(len(s.kept)+1)+1 > s.Room { // the last one is the state's
		return ErrStoreFull
	}
	if err := s.Keep(storeName(id, tunnel.Client), held.Client); err != nil {
		return err
	}
	if err := s.Keep(storeName(id, tunnel.Backend), held.Backend); err != nil {
		s.Drop(storeName(id, tunnel.Client))
		return err
	}
	s.records, s.kept = append(s.records, record), append(s.kept, stored{id, held})
	return nil
}

// Finish has the state kept too, calls settled, which is to make sure that all of it is kept, and ends the tunnels here. It returns how many there are. Where it
// fails, all go on where they were.
func (s *Store) Finish(settled func() error) (tunnels int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == 0 {
		return 0, nil
	}
	if err = s.keepState(); err == nil {
		err = settled()
	}
	var left sync.WaitGroup
	for _, t := range s.kept {
		if err != nil {
			s.Drop(storeName(t.id, tunnel.Client))
			s.Drop(storeName(t.id, tunnel.Backend))
			t.held.Resume()
			continue
		}
		left.Add(1)
		t.held.Leave(func(tunnel.Late, bool) { left.Done() })
	}
	left.Wait()
	if err != nil {
		s.Drop(stateName)
		return 0, fmt.Errorf("the descriptor store: %w", err)
	}
	return len(s.kept), nil
}

// keepState writes the records to a file without a name.
func (s *Store) keepState() error {
	c := &coder{}
	h := Hello{Version: Version}
	h.pass(c)
	list(c, &s.records, maxStored, func(record *[]byte) { c.bytes(record, maxMessage) })
	if err := c.finish(); err != nil {
		return err
	}
	file, err := memoryFile(stateName)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(c.b); err != nil {
		return err
	}
	return s.Keep(stateName, int(file.Fd()))
}

// Bounds of what a store has.
const (
	maxStored = 1 << 20 // tunnels
	maxState  = 1 << 30 // bytes
)

// Restore makes tunnels of the descriptors of a store, all of which it takes over, and has them go on. What belongs to no whole tunnel is closed. It returns how many
// tunnels there were and the errors of those that did not come back.
func Restore(files []*os.File, host Host) (tunnels int, errs []error) {
	byName := map[string]*os.File{}
	for _, file := range files {
		byName[file.Name()] = file
	}
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	records, err := readState(byName[stateName])
	if err != nil {
		return 0, []error{fmt.Errorf("the state of stored tunnels: %w", err)}
	}
	for _, record := range records {
		if err := restore(record, byName, host); err != nil {
			errs = append(errs, err)
			continue
		}
		tunnels++
	}
	return tunnels, errs
}

func restore(record []byte, files map[string]*os.File, host Host) error {
	t, err := decodeTunnel(record)
	if err != nil {
		return err
	}
	client, backend := files[storeName(t.ID, tunnel.Client)], files[storeName(t.ID, tunnel.Backend)]
	if client == nil || backend == nil {
		return fmt.Errorf("tunnel %d: its descriptors are not there", t.ID)
	}
	ours, err := unix.FcntlInt(client.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs, err := unix.FcntlInt(backend.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(ours)
		return err
	}
	adopted, err := host.Adopt(t, ours, theirs)
	if err != nil {
		return fmt.Errorf("tunnel %d: %w", t.ID, err)
	}
	adopted.Begin(tunnel.Late{})
	return nil
}

// readState returns the records in a file.
func readState(file *os.File) ([][]byte, error) {
	if file == nil {
		return nil, errors.New("it is not there")
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxState {
		return nil, errBound
	}
	b := make([]byte, info.Size())
	if _, err := file.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return decodeState(b)
}

func decodeState(b []byte) (records [][]byte, err error) {
	c := &coder{b: b, reading: true}
	var h Hello
	h.pass(c)
	if c.err == nil && h.Version != Version {
		return nil, h.check()
	}
	list(c, &records, maxStored, func(record *[]byte) { c.bytes(record, maxMessage) })
	return records, c.finish()
}
