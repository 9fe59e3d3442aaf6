//go:build linux && !portable

package reactor

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// userTimeout is that of [KeepAlive] where it is set.
func userTimeout(ms int) int { return ms }

func TestSpliceMovesExactlyWhatItIsTold(t *testing.T) {
	g, _ := startGroup(t)
	ours, sender := accept(t, g, "tcp")
	l := ours.loop
	dst, receiver := dial(t, l, "tcp")
	start(t, dst, &script{})
	want := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{1}).Read(want)
	const odd = 12<<20 + 77 // moved by the kernel; the rest is read
	left := odd
	var pipe *Pipe
	src := &script{}
	src.readable = func(c *Conn) {
		if left == 0 {
			p, err := c.Read()
			if err == io.EOF {
				dst.CloseWrite()
				c.Close()
				return
			}
			if dst.Write(p); dst.Pending() > 0 {
				c.Pause()
			}
			return
		}
		pipe, _ = l.Pipe()
		n, err := pipe.Fill(c, left)
		if err != nil {
			t.Error(err)
		}
		left -= n
		pipe.Drain(dst)
		if pipe.Held() > 0 {
			c.Pause()
			dst.WaitWritable()
			return
		}
		l.PutPipe(pipe)
	}
	start(t, ours, src)
	on(t, l, func() {
		dst.Handle(&script{drained: func(d *Conn) {
			if pipe.Held() > 0 {
				if pipe.Drain(d); pipe.Held() > 0 {
					d.WaitWritable()
					return
				}
				l.PutPipe(pipe)
			}
			ours.Resume()
		}})
	})
	go func() { sender.Write(want); sender.Close() }()
	eventually(t, "stopped", func() bool {
		reading := true
		on(t, l, func() { reading = ours.reading })
		return !reading
	})
	if got, err := io.ReadAll(receiver); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(want), err)
	}
	on(t, l, func() {
		if len(l.pipes) != 1 {
			t.Errorf("%d pipes in the pool", len(l.pipes))
		}
		dst.Close()
	})
}

func TestConnIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 64 {
		t.Errorf("a Conn has %d bytes", size)
	}
}
