package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Load reads the configuration file at path, with the process's environment. Mistakes in
// the file are returned as [Errors]; a file that cannot be read is any other error.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data, os.LookupEnv)
}

// Parse reads a configuration from data. The name stands in error texts, and its directory
// is what relative file names in data start from. The files that the configuration names
// are read and checked. lookupEnv finds the variables of ${NAME}; nil finds none.
//
// All mistakes are returned at once, as [Errors]. Only bad YAML hides the mistakes after it.
func Parse(name string, data []byte, lookupEnv func(string) (string, bool)) (*Config, error) {
	root, errs := readDocument(name, data)
	if len(errs) > 0 {
		return nil, errs
	}
	if lookupEnv == nil {
		lookupEnv = func(string) (string, bool) { return "", false }
	}
	d := &decoder{
		files:     []string{name},
		texts:     [][]byte{data},
		lookupEnv: lookupEnv,
		upstreams: make(map[string]*Upstream),
		hostLines: make(map[string]int),
	}
	if !d.checkNodes(root) {
		return nil, d.mistakes()
	}
	cfg := d.config(root)
	if len(d.errs) > 0 {
		return nil, d.mistakes()
	}
	cfg.Files, cfg.texts = d.files, d.texts
	return cfg, nil
}

// mistakes returns all that were found, with the files that they stand in: the main one's first, then those of the files that it includes.
func (d *decoder) mistakes() Errors {
	errs := d.errs.inFileOrder()
	for i := range errs {
		errs[i].File, errs[i].Line = place(d.files, errs[i].Line)
	}
	return errs
}

// directoryOf returns the absolute directory of the configuration file.
func directoryOf(name string) string {
	abs, err := filepath.Abs(name)
	if err != nil {
		abs = name
	}
	return filepath.Dir(abs)
}

// readDocument reads the one YAML document of a configuration file.
func readDocument(name string, data []byte) (*yaml.Node, Errors) {
	fail := func(line, col int, found, allowed string) (*yaml.Node, Errors) {
		return nil, Errors{{File: name, Line: line, Col: col, Found: found, Allowed: allowed}}
	}
	src := &meteredReader{data: data}
	dec := yaml.NewDecoder(src)
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && isNull(doc.Content[0]) {
		return fail(1, 1, "an empty file", `a configuration needs "listen" and "sites"`)
	}
	if err == nil {
		err = dec.Decode(&second)
		if err == nil {
			return fail(second.Line, second.Column, "a second document", "one YAML document in a file")
		}
		if errors.Is(err, io.EOF) {
			return doc.Content[0], nil
		}
	}
	found, line := syntaxError(err, src.line())
	if tabLine, col := findTab(data, line, found); col > 0 {
		return fail(tabLine, col, "a tab in the indentation", "spaces, as many as the lines of the same level have; YAML takes no tabs there")
	}
	return fail(line, 1, found, "check indentation, quotes and brackets of this line and the one before")
}

// findTab returns where a tab stands that yaml.v3 has stumbled over: before the first word of the line that it tells, or of the next
// one. The column is 0 where there is none.
func findTab(data []byte, line int, found string) (tabLine, col int) {
	if !strings.Contains(found, "cannot start any token") && !strings.Contains(found, "tab character") {
		return 0, 0
	}
	lines := bytes.Split(data, []byte("\n"))
	for n := line; n <= min(line+1, len(lines)); n++ {
		text := lines[n-1]
		before := text[:len(text)-len(bytes.TrimLeft(text, " \t-"))]
		if tab := bytes.IndexByte(before, '\t'); tab >= 0 {
			return n, tab + 1
		}
	}
	return 0, 0
}

// syntaxError returns what yaml.v3 found wrong, and in which line. yaml.v3 tells the line
// of its scanner's errors, except for the first line; those of its parser name the start of
// the mapping or list around the error instead, for which the line last read is closer.
func syntaxError(err error, lastRead int) (string, int) {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := lastRead
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(msg); m != nil {
		msg = msg[len(m[0]):]
		if told, err := strconv.Atoi(m[1]); err == nil && !strings.HasPrefix(msg, "did not find expected") {
			line = min(line, told)
		}
	}
	return "bad YAML: " + strings.Join(strings.Fields(msg), " "), max(line, 1)
}

// meteredReader hands out its data byte by byte, so that the place up to which a parser
// has read it is known.
type meteredReader struct {
	data []byte
	read int
}

func (r *meteredReader) Read(p []byte) (int, error) {
	if r.read == len(r.data) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1)], r.data[r.read:])
	r.read += n
	return n, nil
}

// line returns the line of the byte that was read last.
func (r *meteredReader) line() int {
	return 1 + bytes.Count(r.data[:max(r.read-1, 0)], []byte("\n"))
}
