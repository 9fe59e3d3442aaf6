package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func header(source, destination string) Header {
	return Header{netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)}
}

// v2 is a header of version 2.
func v2(command, family byte, block string) string {
	return signature2 + string([]byte{command, family, byte(len(block) >> 8), byte(len(block))}) + block
}

const block4 = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb"

// withChecksum is a header with an extension that holds its CRC-32C, plus d.
func withChecksum(d uint32) string {
	p := []byte(v2(commandProxy, overTCP4, block4+"\x04\x00\x02ab\x03\x00\x04\x00\x00\x00\x00"))
	binary.BigEndian.PutUint32(p[len(p)-4:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))+d)
	return string(p)
}

func TestParse(t *testing.T) {
	four := header("192.0.2.1:12345", "198.51.100.2:443")
	for _, tt := range []struct {
		text string
		want Header
		bad  string // in the error
	}{
		{"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", four, ""},
		{"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", header("[2001:db8::1]:1", "[::1]:65535"), ""},
		{"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 12345 443\r\n", four, ""},
		{"PROXY UNKNOWN\r\n", Header{}, ""},
		{"PROXY UNKNOWN whatever stands here\r\n", Header{}, ""},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\n", Header{}, "malformed"},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443 \r\n", Header{}, "malformed"},
		{"PROXY TCP4 192.0.2.1  198.51.100.2 12345 443\r\n", Header{}, "malformed"},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 12345 65536\r\n", Header{}, "malformed"},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 012345 443\r\n", Header{}, "malformed"},
		{"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", Header{}, "malformed"},
		{"PROXY TCP4 192.0.2.1 ::1 12345 443\r\n", Header{}, "malformed"},
		{"PROXY TCP6 fe80::1%eth0 ::1 12345 443\r\n", Header{}, "malformed"},
		{"PROXY TCP5 192.0.2.1 198.51.100.2 12345 443\r\n", Header{}, "malformed"},
		{"PROXY UNKNOWN " + strings.Repeat("x", 200), Header{}, "more than 107 bytes"},
		{"GET / HTTP/1.1\r\n", Header{}, "does not begin"},
		{"PROXIED", Header{}, "does not begin"},
		{v2(commandProxy, overTCP4, block4), four, ""},
		{v2(commandProxy, overTCP4, block4+"\x04\x00\x03abc"), four, ""},
		{
			v2(commandProxy, overTCP6, "\x20\x01\x0d\xb8"+strings.Repeat("\x00", 11)+"\x01"+strings.Repeat("\x00", 15)+"\x01"+"\x00\x01\xff\xff"),
			header("[2001:db8::1]:1", "[::1]:65535"), "",
		},
		{v2(commandProxy, overUnix, strings.Repeat("\x00", 216)), Header{}, ""},
		{v2(commandProxy, 0, ""), Header{}, ""},
		{v2(commandLocal, 0, ""), Header{}, ""},
		{v2(commandLocal, overTCP4, block4), Header{}, ""},
		{withChecksum(0), four, ""},
		{withChecksum(1), Header{}, "wrong checksum"},
		{v2(commandProxy, overTCP4, block4[:11]), Header{}, "11 bytes for the family 0x11"},
		{v2(commandProxy, 0x12, block4), Header{}, "family 0x12"}, // over UDP
		{v2(0x22, overTCP4, block4), Header{}, "command 0x22"},
		{v2(0x11, overTCP4, block4), Header{}, "command 0x11"},
		{v2(commandProxy, overTCP4, block4+"\x04\x00\x04abc"), Header{}, "cut short"},
		{v2(commandProxy, overTCP4, block4+"\x04\x00"), Header{}, "cut short"},
		{v2(commandProxy, overTCP4, block4+strings.Repeat("\x00", 5000)), Header{}, "where 4096 are taken"},
	} {
		got, err := parseByNeed(t, tt.text)
		switch {
		case tt.bad == "" && (err != nil || got != tt.want):
			t.Errorf("%q: %v, %v", tt.text, got, err)
		case tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)):
			t.Errorf("%q: %v, want an error with %q", tt.text, err, tt.bad)
		}
	}
}

// parseByNeed parses a text that comes as Parse asks for it, with something behind it that it must not ask for.
func parseByNeed(t *testing.T, text string) (Header, error) {
	t.Helper()
	for n := 0; ; {
		h, need, err := Parse([]byte(text[:n]))
		if err != nil || need == 0 {
			if err == nil && n != len(text) {
				t.Errorf("%q: whole after %d bytes of %d", text, n, len(text))
			}
			return h, err
		}
		if n == len(text) {
			t.Fatalf("%q: asks for %d bytes more", text, need)
		}
		n = min(n+need, len(text))
	}
}

func TestAppendedHeadersAreParsed(t *testing.T) {
	for _, h := range []Header{
		{},
		header("192.0.2.1:12345", "198.51.100.2:443"),
		header("[2001:db8::1]:1", "[::1]:65535"),
	} {
		for version, text := range []string{string(Append1(nil, h)), string(Append2(nil, h))} {
			if got, err := parseByNeed(t, text); err != nil || got != h {
				t.Errorf("version %d of %v: %q, %v, %v", version+1, h, text, got, err)
			}
		}
	}
	mixed := header("192.0.2.1:1", "[2001:db8::1]:2")
	if got := string(Append1(nil, mixed)); got != "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n" {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\nGET /"))
	f.Add([]byte(withChecksum(0) + "GET /"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for n := 0; n <= len(text); {
			h, need, err := Parse(text[:n])
			if err != nil {
				return
			}
			if need == 0 {
				for _, again := range [][]byte{Append1(nil, h), Append2(nil, h)} {
					if got, left, err := Parse(again); err != nil || left != 0 || got != h {
						t.Fatalf("%v became %q: %v, %v", h, again, got, err)
					}
				}
				return
			}
			if need < 0 || need > maxBlock {
				t.Fatalf("asks for %d bytes", need)
			}
			n += need
		}
	})
}
