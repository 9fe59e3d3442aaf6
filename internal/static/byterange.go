package static

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"wstunnel/internal/head"
)

// maxRanges is how many ranges of a file are sent at a time. Who asks for more gets the file.
const maxRanges = 16

// byteRange is a stretch of a file, of one byte at least.
type byteRange struct{ first, length int64 }

// of returns the Content-Range of a file of a size.
func (r byteRange) of(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", r.first, r.first+r.length-1, size)
}

// parseRange takes a Range header apart (RFC 9110, section 14.2). There are no ranges where the whole file is to be sent: for a unit that is not bytes, for an
// empty file, and where more than maxRanges are asked for or some that overlap (section 14.2: a server may ignore those). It reports false
// where the file has none of the ranges, or one is malformed.
func parseRange(value string, size int64) (ranges []byteRange, satisfiable bool) {
	unit, set, ok := strings.Cut(value, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || size == 0 {
		return nil, true
	}
	specs := 0
	for spec := range strings.SplitSeq(set, ",") {
		if spec = head.Trim(spec); spec == "" {
			continue
		}
		if specs++; specs > maxRanges {
			return nil, true
		}
		first, last, ok := parseSpec(spec, size)
		switch {
		case !ok:
			return nil, false
		case first <= last:
			ranges = append(ranges, byteRange{first, last - first + 1})
		}
	}
	if overlapping(ranges) {
		return nil, true
	}
	return ranges, specs == 0 || len(ranges) > 0
}

// parseSpec returns the first and the last byte that one range of a file means; the last is less than the first where it means none. It reports
// false for a malformed one.
func parseSpec(spec string, size int64) (first, last int64, ok bool) {
	from, to, dash := strings.Cut(spec, "-")
	from, to = head.Trim(from), head.Trim(to)
	begin, beginOK := parsePosition(from)
	end, endOK := parsePosition(to)
	switch {
	case !dash:
		return 0, 0, false
	case from == "":
		return size - min(end, size), size - 1, endOK
	case to == "":
		return begin, size - 1, beginOK
	}
	return begin, min(end, size-1), beginOK && endOK && begin <= end
}

// parsePosition parses digits; what is more than any file has is that.
func parsePosition(digits string) (n int64, ok bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// overlapping reports whether two ranges share a byte.
func overlapping(ranges []byteRange) bool {
	if len(ranges) < 2 {
		return false
	}
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b byteRange) int { return int(min(max(a.first-b.first, -1), 1)) })
	for i, r := range sorted[1:] {
		if sorted[i].first+sorted[i].length > r.first {
			return true
		}
	}
	return false
}
