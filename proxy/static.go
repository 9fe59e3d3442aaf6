package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/textproto"
	"path"
	"strconv"
	"strings"
)

// static serves a location's directory, the matched prefix stripped: files with ranges and conditions
// (RFC 9110, sections 13 and 14), index.html for a directory, no listings, no source and no dot-files, nothing outside.
func (x *exchange) static(w *responseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		x.answer(w, http.StatusMethodNotAllowed, "only GET and HEAD are served here")
		return
	}
	name := strings.TrimPrefix(x.in.path, strings.TrimSuffix(x.location.Match.Path, "/"))
	name = strings.TrimPrefix(name, "/")
	if !x.location.ServeSources && keptBack(name) {
		x.answer(w, http.StatusNotFound, "no such file")
		return
	}
	x.serveFile(w, r, name)
}

func (x *exchange) serveFile(w *responseWriter, r *http.Request, name string) {
	directory := strings.HasSuffix(x.in.path, "/")
	if directory {
		name += "index.html"
	}
	file, err := x.server.files.find(x.location.Static, name)
	switch {
	case err != nil:
		x.fileError(w, err)
		return
	case file.info.IsDir() && !directory:
		x.redirectToDirectory(w, r)
		return
	case file.content == nil:
		x.answer(w, http.StatusNotFound, "no such file")
		return
	}
	defer file.close()
	info := file.info
	kind := contentType(name)
	if kind == unknownType {
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	if asked := r.Header["Range"]; len(asked) > 0 {
		r.Header["Range"] = []string{rangeFor(asked[0], info.Size())}
	}
	http.ServeContent(w, r, path.Base(name), info.ModTime(), file.content)
}

// rangeFor makes of a Range header one that http.ServeContent understands rightly: none for a unit that is not bytes, which is to be
// ignored, and one behind the file's end where no byte can be meant (RFC 9110, sections 14.1.2 and 14.2).
func rangeFor(value string, size int64) string {
	unit, set, ok := strings.Cut(value, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return ""
	}
	var specs []string
	for spec := range strings.SplitSeq(set, ",") {
		first, last, _ := strings.Cut(spec, "-")
		first, last = textproto.TrimString(first), textproto.TrimString(last)
		begin, errBegin := strconv.ParseInt(first, 10, 64)
		end, errEnd := strconv.ParseInt(last, 10, 64)
		switch {
		case first == "" && errEnd == nil && end == 0:
			continue // the last 0 bytes
		case errors.Is(errBegin, strconv.ErrRange):
			continue // behind any file's end
		case errors.Is(errEnd, strconv.ErrRange) && first == "":
			spec = "0-" // more than there is
		case errors.Is(errEnd, strconv.ErrRange):
			spec = first + "-"
		case errBegin == nil && errEnd == nil && end < begin:
			return fmt.Sprintf("bytes=%d-", size)
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return fmt.Sprintf("bytes=%d-", size)
	}
	return "bytes=" + strings.Join(specs, ",")
}

// redirectToDirectory sends the client to the directory's name with its slash, on which relative links depend.
func (x *exchange) redirectToDirectory(w *responseWriter, r *http.Request) {
	_, query := splitTarget(r.RequestURI)
	w.Header().Set("Location", escapePath(x.in.path)+"/"+query)
	x.answer(w, http.StatusMovedPermanently, "a directory's name ends in a slash")
}

// fileError answers for a file that can't be opened. What lies outside the root, or behind a file, does not exist.
func (x *exchange) fileError(w *responseWriter, err error) {
	if errors.Is(err, fs.ErrPermission) {
		x.err = err
		x.answer(w, http.StatusForbidden, "the file may not be read")
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		x.err = err
	}
	if isTrouble(err) {
		w.Header().Set("Retry-After", "1")
		x.answer(w, http.StatusServiceUnavailable, "the file can't be read now")
		return
	}
	x.answer(w, http.StatusNotFound, "no such file")
}
