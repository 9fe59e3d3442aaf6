package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// errWatched ends a connection that has watched: nothing else is said on it.
var errWatched = errors.New("the watching is over")

// watch writes each event on a line, until the peer goes. What else it says is not read.
func (s *sorter) watch(c *caller, w *bufio.Writer, g *Grant, site string) error {
	watch, err := s.desk.watchers.begin(g, site)
	if err != nil {
		tell(w, 0, err)
		return nil
	}
	defer watch.leave()
	ctx, cancel := context.WithCancel(s.crowd.watching)
	defer cancel()
	c.SetReadDeadline(time.Time{})
	s.all.Go(func() {
		defer cancel()
		io.Copy(io.Discard, c)
	})
	tell(w, s.desk.tunnels.Count(watch.sites), nil)
	lines := json.NewEncoder(w)
	for {
		c.SetWriteDeadline(time.Now().Add(s.desk.watchers.timeout))
		if w.Flush() != nil {
			return errWatched
		}
		some, err := watch.next(ctx)
		if err != nil && !errors.Is(err, errPulse) {
			return errWatched
		}
		for i := range some {
			if lines.Encode(&some[i]) != nil {
				return errWatched
			}
		}
	}
}
