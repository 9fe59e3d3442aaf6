package main

import (
	"bytes"
	"os"
	"runtime"
	rtmetrics "runtime/metrics"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"wstunnel/internal/metrics"
)

// reloads counts what became of the configurations that were read since the start.
type reloads struct {
	good, bad atomic.Uint64
	lastBad   atomic.Bool
	lastGood  atomic.Int64 // seconds since 1970
}

// note counts a configuration that was applied, or that could not be.
func (r *reloads) note(err error) {
	r.lastBad.Store(err != nil)
	if err != nil {
		r.bad.Add(1)
		return
	}
	r.good.Add(1)
	r.lastGood.Store(time.Now().Unix())
}

// begin notes the configuration of the start, which is no reload.
func (r *reloads) begin() { r.lastGood.Store(time.Now().Unix()) }

// newEndpoint returns what tells others of the service.
func (s *service) newEndpoint() *metrics.Endpoint {
	return metrics.NewEndpoint(s.log, metrics.Source{Collect: s.collect, Alive: s.server.Alive, Ready: s.server.Ready})
}

// collect writes all there is to tell.
func (s *service) collect(w *metrics.Writer) {
	w.Family("wstunnel_build_info", metrics.Gauge, "The version that runs; always 1.")
	w.Sample(1, "version", version(), "go", runtime.Version())
	s.server.Collect(w)
	s.collectReloads(w)
	s.collectCertificates(w)
	collectProcess(w, s.began)
}

func (s *service) collectReloads(w *metrics.Writer) {
	w.Family("wstunnel_reloads_total", metrics.Counter, "Reloads of the configuration.")
	w.Count(s.reloaded.good.Load(), "result", "ok")
	w.Count(s.reloaded.bad.Load(), "result", "failed")
	good := 1.0
	if s.reloaded.lastBad.Load() {
		good = 0
	}
	w.Only("wstunnel_last_reload_ok", metrics.Gauge, "1: the configuration that was read last is in use; 0: it has mistakes, and an older one is.", good)
	w.Only("wstunnel_config_timestamp_seconds", metrics.Gauge, "When the configuration in use was read.", float64(s.reloaded.lastGood.Load()))
}

func (s *service) collectCertificates(w *metrics.Writer) {
	w.Family("wstunnel_certificate_expiry_timestamp_seconds", metrics.Gauge, "When certificates end, by a host of the configuration; on demand: the first of those that clients asked for.")
	for _, e := range s.certificates.Expiries() {
		name := e.Name
		if name == "" {
			name = "(on demand)"
		}
		w.Sample(float64(e.NotAfter.Unix()), "host", name)
	}
}

// collectProcess writes what monitoring knows of any process, by its usual names, as far as the system tells.
func collectProcess(w *metrics.Writer, started time.Time) {
	w.Only("process_start_time_seconds", metrics.Gauge, "When the process was started.", float64(started.UnixMilli())/1000)
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		seconds := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
		w.Only("process_cpu_seconds_total", metrics.Counter, "Processor time that the process took.", seconds)
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		w.Only("process_max_fds", metrics.Gauge, "Files that the process may have open.", float64(limit.Cur))
	}
	if n, ok := openFiles(); ok {
		w.Only("process_open_fds", metrics.Gauge, "Files that the process has open.", float64(n))
	}
	if n, ok := residentBytes(); ok {
		w.Only("process_resident_memory_bytes", metrics.Gauge, "Memory that the process has.", float64(n))
	}
	heap := []rtmetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	rtmetrics.Read(heap)
	w.Only("go_memstats_heap_alloc_bytes", metrics.Gauge, "Memory of live objects, and of those that are yet to be collected.", float64(heap[0].Value.Uint64()))
	w.Only("go_goroutines", metrics.Gauge, "Goroutines.", float64(runtime.NumGoroutine()))
}

// openFiles counts the open files, where the system has /proc.
func openFiles() (n int, ok bool) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return len(names) - 1, err == nil // the directory itself is open too
}

// residentBytes returns how much memory the process has, where the system has /proc.
func residentBytes() (n int64, ok bool) {
	text, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
