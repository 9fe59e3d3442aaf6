package reactor

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestAlarmsGoOffInTheirOrderWhenTheClockIsTurned(t *testing.T) {
	c := NewClock()
	var told []string
	for _, a := range []struct {
		name string
		d    time.Duration
	}{{"late", time.Hour}, {"early", time.Minute}, {"never", 2 * time.Hour}} {
		c.AfterFunc(a.d, func() { told = append(told, a.name) })
	}
	stopped := c.AfterFunc(time.Minute, func() { told = append(told, "stopped") })
	moved := c.AfterFunc(time.Minute, func() { told = append(told, "moved") })
	moved.Set(90 * time.Minute)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop does not tell whether the alarm was set")
	}
	for _, step := range []struct {
		skip time.Duration
		want []string
	}{
		{50 * time.Second, nil},
		{time.Hour, []string{"early", "late"}},
		{time.Hour - 2*time.Minute, []string{"early", "late", "moved"}},
	} {
		if c.Skip(step.skip); !slices.Equal(told, step.want) {
			t.Fatalf("told are %v, want %v", told, step.want)
		}
	}
	if moved.Stop() {
		t.Error("an alarm that went off can be stopped")
	}
}

func TestAlarmGoesOffByItself(t *testing.T) {
	c, done := NewClock(), make(chan time.Duration, 1)
	begin := c.Elapsed()
	c.AfterFunc(20*time.Millisecond, func() { done <- c.Elapsed() })
	if took := <-done - begin; took < 20*time.Millisecond {
		t.Errorf("20 ms took %v", took)
	}
}

// TestAlarmThatIsLeftKeepsItsTime though the clock was turned before it.
func TestAlarmThatIsLeftKeepsItsTime(t *testing.T) {
	c, done := NewClock(), make(chan bool, 1)
	c.AfterFunc(time.Minute, func() { done <- true })
	c.Skip(time.Minute - 20*time.Millisecond)
	await(t, done)
}

// TestSkipComesBehindWhatWasSent before it, and timers that were set for it are told.
func TestSkipComesBehindWhatWasSent(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	l := c.loop
	var bytes, at atomic.Int64
	start(t, c, &script{readable: func(c *Conn) {
		p, err := c.Read()
		if err != nil {
			c.Close()
		}
		bytes.Add(int64(len(p)))
		at.Store(int64(l.Elapsed()))
	}})
	ran := make(fired, 1)
	timer := &Timer{On: ran}
	on(t, l, func() { l.Set(timer, time.Hour) })
	for n := range int64(100) {
		before := l.Elapsed()
		peer.Write([]byte("x"))
		g.clock.Skip(10 * time.Second)
		if got := bytes.Load(); got != n+1 {
			t.Fatalf("%d bytes have been read, want %d", got, n+1)
		}
		if took := time.Duration(at.Load()) - before; took >= 10*time.Second {
			t.Fatalf("a byte was read %v later", took)
		}
	}
	if len(ran) > 0 {
		t.Fatal("a timer ran out before its time")
	}
	g.clock.Skip(time.Hour)
	if len(ran) != 1 {
		t.Error("a timer did not run out")
	}
}
