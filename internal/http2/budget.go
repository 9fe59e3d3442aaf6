package http2

import "sync/atomic"

// Budget is memory that many connections share: the windows of streams grow out of it while they carry uploads. It is safe for concurrent use.
type Budget struct{ left atomic.Int64 }

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int64) *Budget {
	b := &Budget{}
	b.left.Store(bytes)
	return b
}

// take takes up to n bytes and returns how many.
func (b *Budget) take(n int64) int64 {
	for {
		left := b.left.Load()
		n = min(n, left)
		if n <= 0 {
			return 0
		}
		if b.left.CompareAndSwap(left, left-n) {
			return n
		}
	}
}

func (b *Budget) give(n int64) { b.left.Add(n) }

// Left returns how many bytes are left.
func (b *Budget) Left() int64 { return b.left.Load() }
