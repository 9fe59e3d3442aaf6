package config

import (
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// ErrorPage is what is answered instead of a page of this front end's own.
type ErrorPage struct {
	File string
	// Content is what the file held when the configuration was read.
	Content []byte
	// Type is its Content-Type by the file's name: HTML, JSON or plain text.
	Type string
}

// errorPages reads a mapping of statuses to files, over those above.
func (d *decoder) errorPages(n *yaml.Node, pages *map[int]ErrorPage) {
	const allowed = "a mapping of statuses to files, such as {404: FILE, 5xx: FILE}"
	entries, ok := d.mapping(n, allowed)
	if !ok {
		return
	}
	own := maps.Clone(*pages)
	if own == nil {
		own = map[int]ErrorPage{}
	}
	said := map[int]bool{} // by its own number, which goes before 4xx and 5xx
	for _, e := range entries {
		first, last := statuses(e.key)
		if first == 0 {
			d.add(posOf(e.keyNode), "bad status "+quote(e.key), "a status from 400 to 599, 4xx or 5xx")
			continue
		}
		page, ok := d.errorPage(e.value)
		if !ok {
			continue
		}
		for status := first; status <= last; status++ {
			if first == last || !said[status] {
				own[status] = page
			}
		}
		said[first] = said[first] || first == last
	}
	*pages = own
}

// statuses returns what a key of error_pages stands for, or 0.
func statuses(key string) (first, last int) {
	switch strings.ToLower(key) {
	case "4xx":
		return 400, 499
	case "5xx":
		return 500, 599
	}
	status, err := strconv.Atoi(key)
	if err != nil || status < 400 || status > 599 {
		return 0, 0
	}
	return status, status
}

func (d *decoder) errorPage(n *yaml.Node) (page ErrorPage, ok bool) {
	const allowed = "a file with the page"
	f, ok := d.fileName(n, allowed)
	if !ok {
		return page, false
	}
	content, err := readSmallFile(f.path)
	if err != nil {
		d.addNoFile(f.pos, "cannot read file "+f.shown()+": "+cause(err), allowed)
		return page, false
	}
	page = ErrorPage{File: f.path, Content: content, Type: "text/plain; charset=utf-8"}
	switch strings.ToLower(filepath.Ext(f.path)) {
	case ".html", ".htm", ".shtml", ".xhtml":
		page.Type = "text/html; charset=utf-8"
	case ".json":
		page.Type = "application/json"
	}
	return page, true
}
