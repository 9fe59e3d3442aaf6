package proxy

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"wstunnel/internal/config"
)

const (
	// stickyKeyFile is where below tls.storage the key is that names servers in sticky cookies.
	stickyKeyFile = "sticky.key"
	// stickyKeyLength is that of a new one, in bytes, and leastStickyKey what is believed to be one.
	stickyKeyLength, leastStickyKey = 32, 16
)

// loadStickyKey finds the key for sticky cookies, if a configuration needs one and it is not known. It is called with mu held.
func (s *Server) loadStickyKey(cfg *config.Config) {
	needed := slices.ContainsFunc(cfg.Upstreams, func(u config.Upstream) bool { return u.Sticky != nil && u.Sticky.Secret == "" })
	if !needed || s.stickyKeyIn == cfg.TLS.Storage {
		return
	}
	s.stickyKeyIn = cfg.TLS.Storage
	key, err := readStickyKey(cfg.TLS.Storage)
	if err != nil {
		s.log.Warn("clients lose their servers when this process ends: the key of sticky cookies can't be kept; write a secret: below sticky:", "error", err)
		return
	}
	s.upstreams.SetStickyKey(key)
}

// readStickyKey returns the key that a directory keeps, and makes one where there is none. Of several processes that do so at a time all get the same.
func readStickyKey(dir string) ([]byte, error) {
	file := filepath.Join(dir, stickyKeyFile)
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = writeStickyKey(dir, file); err == nil {
			key, err = os.ReadFile(file)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case len(key) < leastStickyKey:
		return nil, fmt.Errorf("%s has %d bytes, and should have %d", file, len(key), stickyKeyLength)
	}
	return key, nil
}

// writeStickyKey makes a key, unless another process has made one meanwhile.
func writeStickyKey(dir, file string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	draft, err := os.CreateTemp(dir, stickyKeyFile+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	defer draft.Close()
	key := make([]byte, stickyKeyLength)
	rand.Read(key)
	if _, err := draft.Write(key); err != nil {
		return err
	}
	if err := draft.Sync(); err != nil {
		return err
	}
	if err := os.Link(draft.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
