package migrate

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// durationText writes a duration in its largest unit that holds it in whole numbers.
func durationText(d time.Duration) word {
	const day = 24 * time.Hour
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.unit && d%u.unit == 0 {
			return word(strconv.FormatInt(int64(d/u.unit), 10) + u.name)
		}
	}
	return word(strconv.FormatInt(d.Milliseconds(), 10) + "ms")
}

// sizeText writes a number of bytes in its largest unit, at least in KiB, of which there may be some bytes more.
func sizeText(n int64) word {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n>>u.shift > 0 && n&(1<<u.shift-1) == 0 {
			return word(strconv.FormatInt(n>>u.shift, 10) + u.name)
		}
	}
	return word(strconv.FormatInt((n+1023)>>10, 10) + "KiB")
}

// nginxSize reads 10m, 512k, 1g.
func nginxSize(s string) (int64, bool) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			shift = 10
		case 'm', 'M':
			shift = 20
		case 'g', 'G':
			shift = 30
		}
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>(shift+1) {
		return 0, false
	}
	return n << shift, true
}

var nginxTimePart = regexp.MustCompile(`^(\d{1,9})(ms|[smhdwMy]?)`)

// nginxTime reads 60, 60s, 1h30m, 30d.
func nginxTime(s string) (time.Duration, bool) {
	const day = 24 * time.Hour
	units := map[string]time.Duration{
		"ms": time.Millisecond, "": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day, "M": 30 * day, "y": 365 * day,
	}
	var total time.Duration
	for s = strings.ReplaceAll(s, " ", ""); s != ""; {
		m := nginxTimePart.FindStringSubmatch(s)
		if m == nil {
			return 0, false
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		unit := units[m[2]]
		if err != nil || n > int64(10*365*day/unit) {
			return 0, false
		}
		total += time.Duration(n) * unit
		s = s[len(m[0]):]
	}
	return total, total > 0
}

// hostOf returns a name as a site's hosts are written, if it can be one: a name, *.name, an address, or _.
func hostOf(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "_" {
		return name, true
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if addr, err := netip.ParseAddr(bare); err == nil && addr.Zone() == "" {
		return addr.String(), true
	}
	plain, wild := strings.CutPrefix(name, "*.")
	plain, open := strings.CutSuffix(plain, ".*")
	ascii, err := idna.Lookup.ToASCII(plain)
	switch {
	case err != nil, !isHost(ascii), wild && open:
		return "", false
	case wild:
		ascii = "*." + ascii
	case open:
		ascii += ".*"
	}
	return ascii, true
}

// isHost reports a DNS name.
func isHost(s string) bool {
	if len(s) > 253 || s == "" {
		return false
	}
	label := ""
	for label = range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return strings.Trim(label, "0123456789") != ""
}

// isPlainPath reports a path as our locations take it: decoded, normalised, without signs that mean something.
func isPlainPath(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "*?#\x00") || hasEscape(p) {
		return false
	}
	return normalised(p) == p
}

func hasEscape(p string) bool {
	for i := 0; i+2 < len(p); i++ {
		if p[i] == '%' && isHex(p[i+1]) && isHex(p[i+2]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

// normalised resolves empty, "." and ".." segments, and keeps a slash at the end.
func normalised(p string) string {
	clean := path.Clean(p)
	if last := p[strings.LastIndexByte(p, '/')+1:]; clean != "/" && (last == "" || last == "." || last == "..") {
		clean += "/"
	}
	return clean
}

// below reports whether a path is in what a prefix covers, on segment boundaries.
func below(p, prefix string) bool {
	if p == prefix {
		return true
	}
	return strings.HasPrefix(p, strings.TrimSuffix(prefix, "/")+"/")
}

// network reads an address or a network, with its bits behind the mask cleared.
func network(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	return netip.Prefix{}, false
}

// networkText writes a network, a single address without its bits.
func networkText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// statusWord writes a status.
func statusWord(n int) word { return word(fmt.Sprint(n)) }
