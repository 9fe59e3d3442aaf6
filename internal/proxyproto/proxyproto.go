// Package proxyproto reads and writes the header by which a proxy tells, at the beginning of a connection, who has connected to it: the
// PROXY protocol, versions 1 and 2, as HAProxy's proxy-protocol.txt describes it. It knows bytes and does no I/O.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

// Header is who connected to whom. The zero Header is that of a connection that the proxy has made for itself, to ask whether the server is alive
// for instance.
type Header struct {
	Source, Destination netip.AddrPort
}

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"

	maxLine   = 107     // of version 1, with its line end
	shortest1 = 15      // "PROXY UNKNOWN" and its line end
	fixed2    = 16      // what version 2 begins with
	maxBlock  = 4 << 10 // of addresses and extensions behind it
)

// ErrNoHeader says that a connection begins with something else.
var ErrNoHeader = errors.New("it does not begin with a PROXY header")

// Parse takes a header from p, which is what a connection begins with. While it is not whole, need is how many bytes more belong to it at
// least, so that whoever reads no more than these never reads behind it.
func Parse(p []byte) (h Header, need int, err error) {
	switch {
	case bytes.HasPrefix([]byte(signature1), p[:min(len(p), len(signature1))]):
		return parse1(p)
	case bytes.HasPrefix([]byte(signature2), p[:min(len(p), len(signature2))]):
		return parse2(p)
	}
	return Header{}, 0, ErrNoHeader
}

func parse1(p []byte) (h Header, need int, err error) {
	line, rest, ended := bytes.Cut(p, []byte("\n"))
	switch {
	case !ended && len(p) < shortest1:
		return h, shortest1 - len(p), nil
	case !ended && len(p) < maxLine:
		return h, 1, nil
	case !ended:
		return h, 0, fmt.Errorf("a PROXY header of more than %d bytes", maxLine)
	case len(rest) > 0 || !bytes.HasSuffix(line, []byte("\r")):
		return h, 0, malformed(line)
	}
	words := strings.Split(string(line[:len(line)-1]), " ")
	if words[1] == "UNKNOWN" {
		return h, 0, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return h, 0, malformed(line)
	}
	var ok1, ok2 bool
	h.Source, ok1 = addrPort(words[2], words[4], words[1] == "TCP4")
	h.Destination, ok2 = addrPort(words[3], words[5], words[1] == "TCP4")
	if !ok1 || !ok2 {
		return Header{}, 0, malformed(line)
	}
	return h, 0, nil
}

func malformed(line []byte) error {
	return fmt.Errorf("a malformed PROXY header: %.120q", line)
}

func addrPort(address, port string, v4 bool) (netip.AddrPort, bool) {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Is4() != v4 || addr.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port[0] == '+' || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), true
}

// What version 2's bytes say.
const (
	commandLocal = 0x20
	commandProxy = 0x21

	overTCP4 = 0x11
	overTCP6 = 0x21
	overUnix = 0x31

	checksum = 0x03 // the extension that holds a CRC-32C of the whole header
)

func parse2(p []byte) (h Header, need int, err error) {
	if len(p) < fixed2 {
		return h, fixed2 - len(p), nil
	}
	command, family, length := p[12], p[13], int(binary.BigEndian.Uint16(p[14:]))
	switch {
	case command != commandLocal && command != commandProxy:
		return h, 0, fmt.Errorf("a PROXY header of version 2 with the command %#x", command)
	case length > maxBlock:
		return h, 0, fmt.Errorf("a PROXY header of %d bytes, where %d are taken", length, maxBlock)
	case len(p) < fixed2+length:
		return h, fixed2 + length - len(p), nil
	}
	if command == commandLocal {
		return h, 0, nil
	}
	block := p[fixed2:]
	size := map[byte]int{0: 0, overTCP4: 4, overTCP6: 16, overUnix: 108}
	n, known := size[family]
	addresses := 2 * n
	if n == 4 || n == 16 {
		addresses += 4
	}
	if !known || len(block) < addresses {
		return h, 0, fmt.Errorf("a PROXY header of version 2 with %d bytes for the family %#x", len(block), family)
	}
	if n == 4 || n == 16 {
		source, _ := netip.AddrFromSlice(block[:n])
		destination, _ := netip.AddrFromSlice(block[n : 2*n])
		h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(block[2*n:]))
		h.Destination = netip.AddrPortFrom(destination.Unmap(), binary.BigEndian.Uint16(block[2*n+2:]))
	}
	if err := checkExtensions(p, fixed2+addresses); err != nil {
		return Header{}, 0, err
	}
	return h, 0, nil
}

// checkExtensions passes over what stands behind the addresses, and verifies the checksum if there is one.
func checkExtensions(p []byte, at int) error {
	for at < len(p) {
		if len(p)-at < 3 {
			return errors.New("a PROXY header of version 2 whose extensions are cut short")
		}
		kind, length := p[at], int(binary.BigEndian.Uint16(p[at+1:]))
		at += 3
		if length > len(p)-at {
			return errors.New("a PROXY header of version 2 whose extensions are cut short")
		}
		if kind == checksum {
			if length != 4 {
				return errors.New("a PROXY header of version 2 with a malformed checksum")
			}
			whole := bytes.Clone(p)
			clear(whole[at : at+4])
			if crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(p[at:]) {
				return errors.New("a PROXY header of version 2 with a wrong checksum")
			}
		}
		at += length
	}
	return nil
}

// Append1 appends the header of version 1. Addresses of two kinds go as IPv6; the zero Header is UNKNOWN.
func Append1(dst []byte, h Header) []byte {
	if !h.Source.IsValid() || !h.Destination.IsValid() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	source, destination := h.Source.Addr(), h.Destination.Addr()
	dst = append(dst, "PROXY TCP4 "...)
	if !source.Is4() || !destination.Is4() {
		dst[len(dst)-2] = '6'
		source, destination = wide(source), wide(destination)
	}
	dst = append(source.AppendTo(dst), ' ')
	dst = append(destination.AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(h.Source.Port()), 10), ' ')
	return append(strconv.AppendUint(dst, uint64(h.Destination.Port()), 10), '\r', '\n')
}

// wide is an address as IPv6, without a zone.
func wide(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

// Append2 appends the header of version 2. Addresses of two kinds go as IPv6; the zero Header is that of the proxy itself.
func Append2(dst []byte, h Header) []byte {
	dst = append(dst, signature2...)
	if !h.Source.IsValid() || !h.Destination.IsValid() {
		return append(dst, commandLocal, 0, 0, 0)
	}
	source, destination := h.Source.Addr(), h.Destination.Addr()
	if source.Is4() && destination.Is4() {
		a, b := source.As4(), destination.As4()
		dst = append(dst, commandProxy, overTCP4, 0, 12)
		dst = append(append(dst, a[:]...), b[:]...)
	} else {
		a, b := source.As16(), destination.As16()
		dst = append(dst, commandProxy, overTCP6, 0, 36)
		dst = append(append(dst, a[:]...), b[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
	return binary.BigEndian.AppendUint16(dst, h.Destination.Port())
}
