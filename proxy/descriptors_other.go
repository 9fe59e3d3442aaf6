//go:build !unix

package proxy

import "math"

func descriptorLimit() int64 { return math.MaxInt32 }
