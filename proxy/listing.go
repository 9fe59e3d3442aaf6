package proxy

import (
	"html"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/route"
	"wstunnel/internal/static"
)

// maxListed bounds how many files of a directory are listed.
const maxListed = 10_000

// listed is a file, or a directory, in a listing.
type listed struct {
	name     string
	dir      bool
	size     int64
	modified time.Time
}

// listDirectory reads a directory below another one, with no way out of that. It may wait for a disk. It is never nil without an error. What is not served is not
// listed: dot-files and source, but where sources says so, and what is no regular file.
func listDirectory(dir, name string, sources bool) ([]listed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	opened, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	files, err := opened.ReadDir(maxListed)
	if err != nil && len(files) == 0 && !isGone(err) {
		return nil, err
	}
	entries := make([]listed, 0, len(files))
	for _, f := range files {
		info, err := root.Stat(name + "/" + f.Name()) // where a link leads to
		if err != nil || !sources && static.KeptBack(f.Name()) || !info.IsDir() && !info.Mode().IsRegular() {
			continue
		}
		entries = append(entries, listed{f.Name(), info.IsDir(), info.Size(), info.ModTime()})
	}
	slices.SortFunc(entries, func(a, b listed) int {
		if a.dir != b.dir {
			if a.dir {
				return -1
			}
			return 1
		}
		return strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name))
	})
	return entries, nil
}

// listing is a page of what is in a directory.
func listing(path string, entries []listed) *answer {
	var b strings.Builder
	b.WriteString(pageStart("Index of "+path, ""))
	b.WriteString("<main>\n<h1>Index of " + html.EscapeString(path) + "</h1>\n<table>\n")
	b.WriteString(`<tr><th>Name<th class="size">Size<th class="time">Last changed` + "\n")
	if path != "/" {
		b.WriteString(`<tr><td><a href="../">../</a><td class="size"><td class="time">` + "\n")
	}
	for _, e := range entries {
		name, size := e.name, sizeText(e.size)
		if e.dir {
			name, size = name+"/", ""
		}
		b.WriteString(`<tr><td><a href="./` + html.EscapeString(route.Escape(name)) + `">` + html.EscapeString(name) + `</a><td class="size">` + size +
			`<td class="time">` + e.modified.UTC().Format("2006-01-02 15:04") + "\n")
	}
	b.WriteString("</table>\n</main>\n")
	a := &answer{status: 200, body: b.String()}
	a.fields.Add(head.ContentType, "text/html; charset=utf-8")
	return a
}

// sizeText is a size for people.
func sizeText(bytes int64) string {
	if bytes < 1000 {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	value, unit := float64(bytes), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB"} {
		if value /= 1000; value < 1000 {
			break
		}
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + unit
}
