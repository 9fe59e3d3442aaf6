//go:build !race

package proxy_test

// raceFactor is how much slower the race detector makes the code.
const raceFactor = 1
