package proxy

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"

	"wstunnel/internal/reactor"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/route"
	"wstunnel/internal/static"
)

// search looks for the file that answers a request: the one that its path names, or the first of the location's try_files that is there.
type search struct {
	x     *exchange
	tries []try  // nil before it is worked out
	named string // the name, below the location's directory, of a file that an application has named; empty for none

	file       *static.File // what was found, or nil
	lacksSlash bool         // it is a directory, and the path has no slash at its end
	listed     string       // the name of a directory to be listed, or empty
	page       *answer      // with what is in it, when it was read
}

// try is a path to look for.
type try struct {
	path string // decoded
	file bool   // it has to be a file
	dir  bool   // it has to be a directory
}

// finder finds a file by its name.
type finder func(static.Variant) (*static.File, error)

// tries are the paths that are to be looked for.
func (x *exchange) tries() []try {
	l := x.location
	if len(l.TryFiles) == 0 {
		return []try{{path: x.in.Path}}
	}
	files := l.TryFiles
	if l.TryStatus == 0 {
		files = files[:len(files)-1]
	}
	var tries []try
	for _, t := range files {
		path, err := route.Resolve(t.Expand(x.in.Value))
		if err != nil { // it names nothing
			continue
		}
		dir := strings.HasSuffix(t.String(), "/")
		tries = append(tries, try{path, !dir, dir})
	}
	return tries
}

// find looks for each of them in turn.
func (s *search) find(find finder) error {
	s.close()
	if s.named != "" {
		return s.findNamed(find)
	}
	var err error = fs.ErrNotExist
	for _, t := range s.tries {
		if err = s.try(t, find); err == nil || errors.Is(err, reactor.ErrWouldWait) || errors.Is(err, fs.ErrPermission) || static.IsTrouble(err) {
			return err
		}
	}
	return err
}

// findNamed finds the file that an application has named, whatever its name looks like.
func (s *search) findNamed(find finder) error {
	l := s.x.location
	file, err := static.Find(l.Directory(), s.named, l.Precompressed, s.x.in.Request.Fields, find)
	switch {
	case err != nil:
		return err
	case !file.Info.Regular:
		file.Close()
		return fs.ErrNotExist
	}
	s.file = file
	return nil
}

func (s *search) try(t try, find finder) error {
	name, ok := s.x.below(t.path)
	switch {
	case !ok:
		return fs.ErrNotExist
	case strings.HasSuffix(t.path, "/") && t.file:
		return fs.ErrNotExist
	case strings.HasSuffix(t.path, "/") && strings.HasSuffix(s.x.in.Path, "/"):
		return s.tryIndex(name, find)
	}
	l := s.x.location
	if name = strings.TrimSuffix(name, "/"); name == "" {
		name = "."
	}
	file, err := static.Find(l.Directory(), name, l.Precompressed, s.x.in.Request.Fields, find)
	switch {
	case err != nil:
		return err
	case file.Info.Regular && !t.dir:
		s.file = file
		return nil
	case file.Info.Dir && !t.file:
		s.lacksSlash = true
		file.Close()
		return nil
	}
	file.Close()
	return fs.ErrNotExist
}

// tryIndex looks for a file that stands for a directory, or has that listed.
func (s *search) tryIndex(name string, find finder) error {
	l := s.x.location
	index := l.Index
	if index == nil {
		index = []string{"index.html"}
	}
	var err error = fs.ErrNotExist
	for _, i := range index {
		if l.PHP != nil && isScript(i) || !l.ServeSources && static.KeptBack(i) {
			continue
		}
		var file *static.File
		if file, err = static.Find(l.Directory(), name+i, l.Precompressed, s.x.in.Request.Fields, find); err == nil && file.Info.Regular {
			s.file = file
			return nil
		}
		switch {
		case err == nil:
			file.Close()
			err = fs.ErrNotExist
		case errors.Is(err, reactor.ErrWouldWait):
			return err
		}
	}
	if !l.Listing {
		return err
	}
	directory := strings.TrimSuffix(name, "/")
	if directory == "" {
		directory = "."
	}
	file, err := find(static.Plain(l.Directory(), directory))
	if err != nil {
		return err
	}
	defer file.Close()
	if !file.Info.Dir {
		return fs.ErrNotExist
	}
	s.listed = directory
	return nil
}

// close lets go of what was found.
func (s *search) close() {
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.lacksSlash, s.listed, s.page = nil, false, "", nil
}

// below returns the name, below a location's directory, that a path means: all of it for root, what follows the matched prefix for static. No source and
// no dot-file has one.
func (x *exchange) below(path string) (name string, ok bool) {
	name = x.location.below(path)
	return name, x.location.ServeSources || !static.KeptBack(name)
}

// notFound answers where no file was found: by the backend beside the directory, by what try_files ends in, or by saying so.
func (d *download) notFound() {
	x := d.x
	var then decision
	decided := false
	if d.named == "" {
		then, decided = x.decideWithout(d.err)
	}
	switch {
	case !decided:
		x.give(x.answerFileError(d.err))
	case then.action == giveStatus:
		x.give(x.answerStatus(then.status))
	default:
		x.responder = nil
		x.proceed(then)
	}
}

// decideWithout decides anew where the location has no file for the request, for the reason err. It reports false where nothing else is there for it.
func (x *exchange) decideWithout(err error) (d decision, decided bool) {
	l := x.location
	switch {
	case errors.Is(err, fs.ErrPermission) || static.IsTrouble(err):
		return decision{}, false
	case l.TryStatus > 0:
		return decision{action: giveStatus, status: l.TryStatus}, true
	case len(l.TryFiles) > 0 && l.http == nil:
		return x.routeLast(), true
	case l.http != nil:
		return decision{action: forwardHTTP}, true
	}
	return decision{}, false
}

// routeLast routes anew what try_files ends in.
func (x *exchange) routeLast() decision {
	last := x.location.TryFiles[len(x.location.TryFiles)-1]
	x.routed++
	if err := x.goTo(rewrite.URL(last, x.in.Value)); err != nil { // its query is its own, as nginx has it
		return refusal(http.StatusBadRequest, err.Error())
	}
	return x.route()
}
