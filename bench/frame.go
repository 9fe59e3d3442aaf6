//go:build linux

package main

import (
	"encoding/binary"
	"math/rand/v2"
)

// payload is that many bytes, always the same ones, which no proxy could compress.
func payload(size int) []byte {
	random := rand.NewChaCha8([32]byte{})
	b := make([]byte, size)
	_, _ = random.Read(b) // never fails
	return b
}

// serverHead is the head of a whole binary message, unmasked (RFC 6455 section 5.2).
func serverHead(size int) []byte {
	switch {
	case size < 126:
		return []byte{0x82, byte(size)}
	case size < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{0x82, 126}, uint16(size))
	default:
		return binary.BigEndian.AppendUint64([]byte{0x82, 127}, uint64(size))
	}
}

// clientHead is the same with the mask 00000000.
func clientHead(size int) []byte {
	head := append(serverHead(size), 0, 0, 0, 0)
	head[1] |= 0x80
	return head
}
