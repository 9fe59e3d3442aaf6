package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// fileLines tells included files apart: the lines of the n-th are counted from n*fileLines on, so that each place in all of them is one number, and those
// of one file stand together.
const fileLines = 1 << 24

// maxIncluded bounds how many files are included.
const maxIncluded = 10_000

// place returns a line as it is counted in its file, with the file's name; the main file is no. 0.
func place(files []string, line int) (file string, inFile int) {
	return files[line/fileLines], line % fileLines
}

// Place returns file:line:column of something in the configuration.
func (c *Config) Place(pos Pos) string {
	files := c.Files
	if len(files) == 0 { // it was not read from any
		files = []string{c.File}
	}
	file, line := place(files, pos.Line)
	return fmt.Sprintf("%s:%d:%d", file, line, pos.Col)
}

// lineText names the line of another place, for a message.
func (d *decoder) lineText(line int) string {
	file, n := place(d.files, line)
	if len(d.files) == 1 {
		return "line " + strconv.Itoa(n)
	}
	return "line " + strconv.Itoa(n) + " of " + file
}

// directoryAt returns where relative file names at a place start: the directory of the file they stand in.
func (d *decoder) directoryAt(pos Pos) string {
	file, _ := place(d.files, pos.Line)
	return directoryOf(file)
}

// include reads the files that an object includes, in the order of their names, and returns what stands in each; a file that is empty brings nothing. Several
// sites may include one file.
func (d *decoder) include(o object) (roots []*yaml.Node) {
	const allowed = "a file's name, or a list of them; * and ? stand for names, as in sites.d/*.yaml"
	n := o.get("include")
	if n == nil {
		return nil
	}
	said := map[string]bool{}
	for _, item := range d.itemsOf(n, allowed) {
		f, ok := d.fileName(item, allowed)
		if !ok {
			continue
		}
		names, err := filepath.Glob(f.path)
		switch {
		case err != nil:
			d.add(f.pos, "bad pattern "+f.shown(), allowed)
		case len(names) == 0 && !strings.ContainsAny(f.path, "*?["):
			d.add(f.pos, "cannot read file "+f.shown()+": no such file or directory", "an existing file, or a pattern")
		}
		for _, name := range names {
			if said[name] || name == d.files[0] {
				d.add(f.pos, "file "+quote(name)+" is included twice", "each file once")
				continue
			}
			said[name] = true
			if root := d.includeFile(f, name); root != nil {
				roots = append(roots, root)
			}
		}
	}
	return roots
}

// includeFile reads one file that is included by another.
func (d *decoder) includeFile(f fileRef, name string) *yaml.Node {
	if len(d.files) > maxIncluded {
		d.add(f.pos, "more than "+strconv.Itoa(maxIncluded)+" included files", "fewer")
		return nil
	}
	data, err := readSmallFile(name)
	if err != nil {
		d.add(f.pos, "cannot read file "+quote(name)+": "+cause(err), "a readable file")
		return nil
	}
	if strings.TrimSpace(string(data)) == "" {
		return nil
	}
	index := len(d.files)
	d.files, d.texts = append(d.files, name), append(d.texts, data)
	root, errs := readDocument(name, data)
	if len(errs) > 0 {
		for _, e := range errs {
			d.add(Pos{index*fileLines + e.Line, e.Col}, e.Found, e.Allowed)
		}
		return nil
	}
	shiftLines(root, index*fileLines)
	if !d.checkNodes(root) {
		return nil
	}
	return root
}

// shiftLines adds to the lines of a node and of all in it.
func shiftLines(n *yaml.Node, by int) {
	n.Line = max(n.Line, 1) + by
	for _, child := range n.Content {
		shiftLines(child, by)
	}
}

// itemsOf returns the items of a list, or a single value as the only one.
func (d *decoder) itemsOf(n *yaml.Node, allowed string) []*yaml.Node {
	if deref(n).Kind == yaml.SequenceNode {
		return d.nonEmptyList(n, allowed)
	}
	return []*yaml.Node{n}
}

// includedFile is what a file may hold that the main one includes.
type includedFile struct{ sites, upstreams []*yaml.Node }

// includeSites reads the files that the main one includes: lists of sites, or mappings with sites and upstreams.
func (d *decoder) includeSites(o object) (all includedFile) {
	for _, root := range d.include(o) {
		if deref(root).Kind == yaml.SequenceNode {
			all.sites = append(all.sites, root)
			continue
		}
		included, ok := d.object(root, inIncluded)
		if !ok {
			continue
		}
		if n := included.get("sites"); n != nil {
			all.sites = append(all.sites, n)
		}
		if n := included.get("upstreams"); n != nil {
			all.upstreams = append(all.upstreams, n)
		}
	}
	return all
}
