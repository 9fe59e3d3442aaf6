package proxy

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/route"
	"wstunnel/internal/static"
)

// fileName returns the name, below a location's directory, of the file that is asked for: the path with the matched prefix stripped, and index.html for a
// directory. No source and no dot-file has one.
func (x *exchange) fileName() (name string, refused *answer) {
	method := x.in.request.Method
	if method != http.MethodGet && method != http.MethodHead {
		a := textAnswer(http.StatusMethodNotAllowed, "only GET and HEAD are served here")
		a.add("Allow", "GET, HEAD")
		return "", a
	}
	name = strings.TrimPrefix(x.in.path, strings.TrimSuffix(x.location.Match.Path, "/"))
	name = strings.TrimPrefix(name, "/")
	if !x.location.ServeSources && static.KeptBack(name) {
		return "", noSuchFile()
	}
	switch {
	case strings.HasSuffix(x.in.path, "/"):
		name += "index.html"
	case name == "":
		name = "."
	}
	return name, nil
}

// answerFile answers with what was found, or refuses.
func (x *exchange) answerFile(file *static.File) (a static.Answer, refused *answer) {
	switch {
	case file.Info.Dir && !strings.HasSuffix(x.in.path, "/"):
		return a, x.redirectToDirectory()
	case !file.Info.Regular:
		return a, noSuchFile()
	}
	fields := x.answerFields()
	if x.location.Precompressed {
		fields.Add(head.Vary, "Accept-Encoding")
	}
	if a = file.Representation(time.Now()).Answer(fields, x.in.request, x.start); a.Refusal != "" {
		refused = textAnswer(a.Status, a.Refusal)
		refused.fields = append(refused.fields, a.Fields...)
	}
	return a, refused
}

// redirectToDirectory sends the client to the directory's name with its slash, on which relative links depend.
func (x *exchange) redirectToDirectory() *answer {
	_, query := route.Split(x.in.target)
	a := textAnswer(http.StatusMovedPermanently, "a directory's name ends in a slash")
	a.fields.Add(head.Location, route.Escape(x.in.path)+"/"+query)
	return a
}

func noSuchFile() *answer { return textAnswer(http.StatusNotFound, "no such file") }

// answerFileError answers for a file that can't be opened. What lies outside the root, or behind a file, does not exist.
func (x *exchange) answerFileError(err error) *answer {
	if errors.Is(err, fs.ErrPermission) {
		x.err = err
		return textAnswer(http.StatusForbidden, "the file may not be read")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		x.err = err
	}
	if static.IsTrouble(err) {
		a := textAnswer(http.StatusServiceUnavailable, "the file can't be read now")
		a.fields.Add(head.RetryAfter, "1")
		return a
	}
	return noSuchFile()
}
