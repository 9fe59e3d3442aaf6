//go:build !portable

package main_test

// buildTags are those that the binary is built with, as the tests are.
const buildTags = ""
