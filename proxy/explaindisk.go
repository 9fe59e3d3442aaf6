package proxy

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/static"
)

// decideOnDisk looks for the files and scripts that are to answer, and decides anew where there are none. A script that is to be run comes with it.
func (x *exchange) decideOnDisk(d decision) (decision, meaning) {
	for {
		var err error
		switch d.action {
		case serveStatic:
			then, missing := x.decideByFile(d)
			if missing == nil {
				return then, meaning{}
			}
			err = missing
		case servePHP:
			m := x.lookForScript()
			switch then := d; m.kind {
			case meansScript:
				next, moved := x.goToScript(m)
				if !moved {
					return d, m
				}
				d = next
				continue
			case meansFile:
				then.action = serveStatic
				return then, meaning{}
			case meansSlash:
				return x.slashDecision(), meaning{}
			case meansForbidden:
				return refusal(http.StatusForbidden, "no script is run here"), meaning{}
			case meansKeptBack:
				return refusal(http.StatusNotFound, "no such file"), meaning{}
			}
			err = fs.ErrNotExist
		default:
			return d, meaning{}
		}
		x.trace.reason = "since there is no file, what try_files ends in"
		next, decided := x.decideWithout(err)
		if !decided {
			return refusal(http.StatusNotFound, "no such file"), meaning{}
		}
		d = next
	}
}

// decideByFile decides where a file is to answer. An error says why none does.
func (x *exchange) decideByFile(d decision) (then decision, missing error) {
	onlyGet := refusal(http.StatusMethodNotAllowed, "there are only files here, to GET")
	if len(x.location.TryFiles) == 0 && !mayBeFile(x.in.Request) {
		return onlyGet, nil
	}
	lacksSlash, err := x.lookForFile()
	switch {
	case err != nil:
		return d, err
	case !mayBeFile(x.in.Request):
		return onlyGet, nil
	case lacksSlash:
		return x.slashDecision(), nil
	}
	return d, nil
}

// slashDecision leads to a directory by its name with a slash.
func (x *exchange) slashDecision() decision {
	a := x.redirectToDirectory()
	return decision{action: redirect, status: a.status, reason: "a directory's name ends in a slash", location: a.fields.Get(head.Location)}
}

// lookForFile looks for the file that answers, and tells of each that could. Where there is none, the error says why.
func (x *exchange) lookForFile() (lacksSlash bool, err error) {
	files := static.NewFiles(16)
	all := search{x: x, tries: x.tries()}
	err = all.find(files.Find)
	lacksSlash = all.lacksSlash
	all.close()
	look := Look{Path: x.in.Path, Reason: "a file below " + x.location.Directory(), File: true}
	for _, t := range all.tries {
		one := search{x: x, tries: []try{t}}
		err := one.find(files.Find)
		c := Candidate{Name: t.path, Matches: true, Chosen: err == nil, Reason: "not there"}
		switch name, ok := x.below(t.path); {
		case !ok:
			c.Reason = "kept back: it looks like source, a dump or a secret"
		case one.listed != "":
			c.Reason = "a directory, which is listed"
		case one.lacksSlash:
			c.Reason = "a directory, which the client is sent to with a slash at its end"
		case err == nil && (strings.HasSuffix(name, "/") || name == ""):
			c.Reason = "a file that stands for the directory"
		case err == nil:
			c.Reason = "the file " + name
		case !errors.Is(err, fs.ErrNotExist):
			c.Reason = err.Error()
		}
		one.close()
		if look.Candidates = append(look.Candidates, c); c.Chosen {
			break
		}
	}
	x.trace.looks = append(x.trace.looks, look)
	return lacksSlash, err
}

// lookForScript finds out what a path leads to on a location with PHP, and tells of each path that could be meant.
func (x *exchange) lookForScript() meaning {
	tries := x.tries()
	on := disk{x.location, reactor.StatFile, reactor.RealPath}
	m, err := on.meaning(tries, x.in.Path)
	look := Look{Path: x.in.Path, Reason: "a script or a file below " + x.location.Directory(), File: true}
	chosen := err != nil
	for _, t := range tries {
		found, err := on.find(t.path)
		c := Candidate{Name: t.path, Matches: true, Reason: toldMeaning(found)}
		if err != nil {
			c.Reason = err.Error()
		}
		c.Chosen = !chosen && found.kind != meansNothing && found.name == m.name
		chosen = chosen || c.Chosen
		look.Candidates = append(look.Candidates, c)
	}
	if !chosen && m.kind == meansScript {
		look.Candidates = append(look.Candidates, Candidate{Name: m.name, Matches: true, Chosen: true, Reason: "front_controller: it is run for all that leads to nothing else"})
	}
	x.trace.looks = append(x.trace.looks, look)
	return m
}

// toldMeaning says what a path leads to.
func toldMeaning(m meaning) string {
	switch m.kind {
	case meansScript:
		if m.info != "" {
			return "the script " + m.name + ", with PATH_INFO " + m.info
		}
		return "the script " + m.name
	case meansFile:
		return "the file " + m.name
	case meansSlash:
		return "a directory, which the client is sent to with a slash at its end"
	case meansForbidden:
		return "a script where none is run: deny_scripts_in"
	case meansKeptBack:
		return "kept back: it looks like source, a dump or a secret"
	}
	return "not there"
}

// explainParams tells of each parameter that a script is run with where it comes from.
func (e *Explanation) explainParams(x *exchange, script meaning) {
	for _, f := range appendParams(nil, x, script, x.in.Request.Length) {
		line := Line{f.Name + ": " + f.Value, "as nginx's fastcgi.conf has it"}
		own := strings.HasPrefix(f.Name, "HTTP_")
		switch {
		case x.location.hasParam(f):
			line.Reason = "params"
		case own && slices.ContainsFunc(x.in.Request.Fields, func(sent head.Field) bool { return rewrite.HeaderParam(&sent) == f.Name }):
			line.Reason = "as the client sent it"
		case own:
			line.Reason = "headers, request"
		}
		e.Head = append(e.Head, line)
	}
	kept := rewrite.FieldsForScript(&x.in)
	listed := rewrite.ListedIn(x.in.Request.Fields)
	for i := range x.in.Request.Fields {
		f := &x.in.Request.Fields[i]
		if slices.Contains(kept, *f) || f.ID == head.Host {
			continue
		}
		why := x.in.WhyDropped(f, listed, x.location.Forwarded, "")
		e.Dropped = append(e.Dropped, Line{f.Name + ": " + f.Value, why})
	}
}

// hasParam reports a parameter that the location has of its own.
func (l *location) hasParam(f head.Field) bool {
	for _, p := range l.PHP.Params {
		if p.Name == f.Name {
			return true
		}
	}
	return false
}
