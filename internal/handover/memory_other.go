//go:build !linux

package handover

import (
	"errors"
	"os"
)

// memoryFile returns a file that is in memory, which only Linux has.
func memoryFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }
