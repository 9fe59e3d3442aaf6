package head

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Weights returns the weights of the elements of a list such as Accept-Encoding, by their names in lower case (RFC 9110, section 12.4.2). Media types may have
// other parameters too, which do not count.
func Weights(list string) map[string]float64 {
	weights := map[string]float64{}
	for element := range strings.SplitSeq(list, ",") {
		name, parameters, _ := strings.Cut(element, ";")
		weights[strings.ToLower(Trim(name))] = weightOf(parameters, strings.Contains(name, "/"))
	}
	return weights
}

// weightOf returns the weight among an element's parameters, 1 where there is none. One that is malformed weighs nothing.
func weightOf(parameters string, others bool) float64 {
	if Trim(parameters) == "" {
		return 1
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(Trim(name), "q") {
			if others {
				continue
			}
			return 0
		}
		weight, err := strconv.ParseFloat(Trim(value), 64)
		if err != nil || weight > 1 || weight < 0 {
			return 0
		}
		return weight
	}
	return 1
}

// Codings returns which of some content codings an Accept-Encoding takes rather than none, by their places in the list, the best first; of equal ones the
// first (RFC 9110, section 12.5.3).
func Codings(accept string, offered ...string) (accepted []int) {
	weights := Weights(accept)
	weigh := func(i int) float64 {
		for _, name := range []string{offered[i], "x-" + offered[i], "*"} { // x-gzip is gzip (section 8.4.1.3)
			if weight, ok := weights[name]; ok {
				return weight
			}
		}
		return 0
	}
	for i := range offered {
		if weigh(i) > 0 && weigh(i) >= weights["identity"] {
			accepted = append(accepted, i)
		}
	}
	slices.SortStableFunc(accepted, func(a, b int) int { return cmp.Compare(weigh(b), weigh(a)) })
	return accepted
}
