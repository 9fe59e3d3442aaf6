package proxy

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/static"
)

// lookup finds out what the path of a request means on a location with PHP, and hands it on to what serves that: [php], or [download].
type lookup struct {
	x     *exchange
	tries []try
	found meaning
	err   error
}

// meaning is what a path leads to.
type meaning struct {
	kind      meaningKind
	name      string // of the script or the file, below the directory
	info      string // what stands behind the script's name in the path
	directory bool   // it stands for a directory
}

type meaningKind int

const (
	meansNothing   meaningKind = iota
	meansScript                // which is to be run
	meansFile                  // which is to be sent
	meansSlash                 // a directory, whose name lacks its slash
	meansForbidden             // a script where none is to be run
	meansKeptBack              // a file that is not to be seen
)

// serve begins.
func (s *lookup) serve() {
	x := s.x
	if strings.ContainsFunc(x.in.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		x.giveLast(textAnswer(http.StatusBadRequest, "control characters in the path"))
		return
	}
	s.tries = x.tries()
	s.look(disk{x.location, reactor.StatFileNow, reactor.RealPathNow})
	if !errors.Is(s.err, reactor.ErrWouldWait) {
		s.handOn()
		return
	}
	x.hold()
	conn := x.client.Conn()
	conn.Loop().Offload(func() {
		s.look(disk{x.location, reactor.StatFile, reactor.RealPath})
	}, func() {
		conn.Do(func() {
			if !x.over {
				s.handOn()
				x.release()
			}
		})
	})
}

func (s *lookup) look(d disk) { s.found, s.err = d.meaning(s.tries, s.x.in.Path) }

// handOn has the request served.
func (s *lookup) handOn() {
	x := s.x
	if s.err != nil {
		x.give(x.answerFileError(s.err))
		return
	}
	switch s.found.kind {
	case meansScript:
		if d, moved := x.goToScript(s.found); moved {
			x.responder = nil
			x.proceed(d)
			return
		}
		x.responder = newPHP(x, s.found)
		x.responder.serve()
	case meansFile:
		x.responder = &download{search: search{x: x, tries: []try{{path: x.location.url(s.found.name), file: true}}}}
		x.responder.serve()
	case meansSlash:
		x.give(x.redirectToDirectory())
	case meansForbidden:
		x.give(textAnswer(http.StatusForbidden, "no script is run here"))
	case meansKeptBack:
		x.give(noSuchFile())
	default:
		s.foundNothing()
	}
}

// goToScript decides anew for a script that stands for a directory, or that more of the path follows, where its own path leads to another location: what is said there of
// it, such as that nobody may run it, holds for every way to it. It reports false where it does not.
func (x *exchange) goToScript(script meaning) (d decision, moved bool) {
	if x.routed >= maxRouted || script.info == "" && !script.directory {
		return decision{}, false
	}
	if here, _, err := x.site.locations.Find(x.in.Path, x.wanted); err != nil || here != x.location {
		return decision{}, false // it was rewritten to stay, or has come here so
	}
	path := x.location.url(script.name)
	own, _, err := x.site.locations.Find(path, x.wanted)
	if err != nil || own == nil || own == x.location {
		return decision{}, false
	}
	x.routed++
	x.location = own
	x.in.Captures = rewrite.Captures{Regexp: own.Match.Regexp, Text: path}
	x.trace.wentToScript(x, path)
	return x.decideAt(own), true
}

// foundNothing answers as a directory without PHP does: by what try_files ends in, by a listing, or by saying so.
func (s *lookup) foundNothing() {
	x := s.x
	d := &download{search: search{x: x}}
	x.responder = d
	if len(x.location.TryFiles) == 0 && x.location.Listing && strings.HasSuffix(x.in.Path, "/") {
		d.serve()
		return
	}
	d.err = fs.ErrNotExist
	d.notFound()
}

// data and whole are not told: the client waits.
func (s *lookup) data([]byte) {}

func (s *lookup) whole(head.Fields) {}

func (s *lookup) drained() {}

func (s *lookup) leave() {}

// disk is what lies below the directory of a location with PHP.
type disk struct {
	l    *location
	stat func(dir, name string) (reactor.FileInfo, error)
	real func(path string) (string, error)
}

// meaning finds out what the first of some paths that leads to anything leads to, for a request of a normalised path.
func (d disk) meaning(tries []try, requested string) (meaning, error) {
	for _, t := range tries {
		m, err := d.find(t.path)
		isAnyKind := !t.file && !t.dir
		switch {
		case err != nil:
			return meaning{}, err
		case m.kind == meansNothing, m.kind == meansKeptBack && !isAnyKind, t.file && m.directory, t.dir && !m.directory && m.kind != meansForbidden:
			continue
		case m.directory && !strings.HasSuffix(requested, "/"):
			m.kind = meansSlash
		}
		return m, nil
	}
	return d.frontController()
}

// find finds out what a normalised path leads to.
func (d disk) find(path string) (meaning, error) {
	name := d.l.below(path)
	if !d.l.ServeSources && static.Hidden(name) {
		return meaning{}, nil
	}
	for rest := name; ; {
		script, ok := cutScript(name, rest)
		if !ok {
			break
		}
		rest = name[len(script):]
		if d.l.denies(d.l.url(script)) {
			return meaning{kind: meansForbidden}, nil
		}
		switch info, err := d.stat(d.l.Directory(), script); {
		case isAbsent(err), err == nil && !info.Dir && !info.Regular:
			return meaning{}, nil
		case err != nil:
			return meaning{}, err
		case info.Regular:
			return d.run(script, rest)
		}
	}
	if strings.HasSuffix(name, "/") || name == "" {
		return d.index(name)
	}
	info, err := d.stat(d.l.Directory(), name)
	switch {
	case isAbsent(err):
		return meaning{}, nil
	case err != nil:
		return meaning{}, err
	case info.Dir:
		return d.index(name + "/")
	case !info.Regular, !d.l.ServeSources && static.KeptBack(name):
		return meaning{kind: meansKeptBack}, nil
	}
	return meaning{kind: meansFile, name: name}, nil
}

// scriptExtension is what the names of scripts end in, in ASCII and in lower case: no other is run, and none is folded.
const scriptExtension = ".php"

func isScript(name string) bool { return strings.HasSuffix(name, scriptExtension) }

// cutScript returns the beginning of a name up to the next segment that is named as a script, of which rest is where the search goes on.
func cutScript(name, rest string) (script string, ok bool) {
	for {
		i := strings.Index(rest, scriptExtension)
		if i < 0 {
			return "", false
		}
		rest = rest[i+len(scriptExtension):]
		if rest == "" || rest[0] == '/' {
			return name[:len(name)-len(rest)], true
		}
	}
}

// run is for a script that exists.
func (d disk) run(script, info string) (meaning, error) {
	denied, err := d.leadsToDenied(script)
	switch {
	case err != nil:
		return meaning{}, err
	case denied:
		return meaning{kind: meansForbidden}, nil
	}
	return meaning{kind: meansScript, name: script, info: info}, nil
}

// index looks for a file that stands for a directory, whose name ends in a slash or is empty.
func (d disk) index(name string) (meaning, error) {
	for _, index := range d.l.Index {
		index = name + index
		if isScript(index) && d.l.denies(d.l.url(index)) {
			continue
		}
		switch info, err := d.stat(d.l.Directory(), index); {
		case isAbsent(err), err == nil && !info.Regular:
		case err != nil:
			return meaning{}, err
		case isScript(index):
			m, err := d.run(index, "")
			m.directory = m.kind == meansScript
			return m, err
		case d.l.ServeSources || !static.KeptBack(index):
			return meaning{kind: meansFile, name: index, directory: true}, nil
		}
	}
	return meaning{}, nil
}

// frontController is for a path that leads to nothing else.
func (d disk) frontController() (meaning, error) {
	name := d.l.PHP.FrontController
	if name == "" {
		return meaning{}, nil
	}
	info, err := d.stat(d.l.Directory(), name)
	if isAbsent(err) || err == nil && !info.Regular {
		return meaning{}, nil
	}
	if err != nil {
		return meaning{}, err
	}
	return meaning{kind: meansScript, name: name}, nil
}

// leadsToDenied reports a script that lies in a directory of deny_scripts_in when its links are followed.
func (d disk) leadsToDenied(script string) (bool, error) {
	if len(d.l.PHP.DenyScriptsIn) == 0 {
		return false, nil
	}
	real, err := d.real(d.l.Directory() + "/" + script)
	if err != nil {
		return false, err
	}
	for _, path := range d.l.PHP.DenyScriptsIn {
		name, ok := d.l.cut(path)
		if !ok {
			continue
		}
		denied, err := d.real(d.l.Directory() + "/" + name)
		if isAbsent(err) {
			continue
		}
		if err != nil || strings.HasPrefix(real, denied+"/") {
			return true, err
		}
	}
	return false, nil
}

// isAbsent reports an error of a name that nothing has.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// below returns the name, below the location's directory, of what a path is for.
func (l *location) below(path string) string {
	name, _ := l.cut(path)
	return name
}

// cut is below for a path that may be another location's.
func (l *location) cut(path string) (name string, ok bool) {
	if l.Root == "" {
		path, ok = strings.CutPrefix(path, strings.TrimSuffix(l.Match.Path, "/"))
		return strings.TrimPrefix(path, "/"), ok
	}
	return strings.TrimPrefix(path, "/"), true
}

// url returns the path by which a name below the location's directory is asked for.
func (l *location) url(name string) string {
	if l.Root == "" {
		return strings.TrimSuffix(l.Match.Path, "/") + "/" + name
	}
	return "/" + name
}

// denies reports a path below one of deny_scripts_in.
func (l *location) denies(path string) bool {
	for _, denied := range l.PHP.DenyScriptsIn {
		if strings.HasPrefix(path, denied) && strings.HasPrefix(path[len(denied):], "/") {
			return true
		}
	}
	return false
}
