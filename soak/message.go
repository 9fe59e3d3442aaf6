//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"

	"wstunnel/internal/ws"
)

// A message is its number, a checksum and filling.
const (
	messageHead = 12
	longest     = 4 << 10
)

// appendMessage makes the message of a number, of any length.
func appendMessage(dst []byte, number uint64) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, number)
	dst = append(dst, 0, 0, 0, 0)
	for range rand.IntN(longest / 8) {
		dst = binary.BigEndian.AppendUint64(dst, rand.Uint64())
	}
	binary.BigEndian.PutUint32(dst[start+8:], sum(dst[start:]))
	return dst
}

func sum(message []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(message[:8]), crc32.IEEETable, message[messageHead:])
}

// check says what is wrong with a message that is to have a number.
func check(message []byte, number uint64) error {
	switch {
	case len(message) < messageHead || binary.BigEndian.Uint32(message[8:]) != sum(message):
		return fmt.Errorf("message %d is damaged", number)
	case binary.BigEndian.Uint64(message) != number:
		return fmt.Errorf("message %d came instead of %d", binary.BigEndian.Uint64(message), number)
	}
	return nil
}

// readFrame reads a frame that is whole, of either side.
func readFrame(br *bufio.Reader) (op ws.Opcode, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(br, head[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1] & 0x7f)
	if extended := map[uint64]int{126: 2, 127: 8}[length]; extended > 0 {
		var wide [8]byte
		if _, err := io.ReadFull(br, wide[8-extended:]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(wide[:])
	}
	if length > 1<<20 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", length)
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(br, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(br, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return ws.Opcode(head[0] & 0xf), payload, nil
}
