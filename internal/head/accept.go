package head

import (
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
