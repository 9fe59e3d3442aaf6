package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestSmallHeapIsGivenRoomToGrow(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	debug.FreeOSMemory()
	pace.Store(0)
	paceCollector()
	expect := func(what string, ok func(percent uint64) bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			runtime.GC()
			set := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(set)
			percent := set[0].Value.Uint64()
			if ok(percent) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d percent", what, percent)
			}
		}
	}
	expect("a small heap", func(percent uint64) bool { return percent > 100 })
	large := make([]byte, 2*paceHeap)
	expect("a large one", func(percent uint64) bool { return percent == 100 })
	runtime.KeepAlive(large)
	large = nil
	expect("a small one again", func(percent uint64) bool { return percent > 100 })
}
