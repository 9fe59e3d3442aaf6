// Package migrate translates a configuration of Apache or nginx into wstunnel's.
//
// It reads files through an [fs.FS] and writes YAML and notes; it does no I/O of its own. The way of a configuration: its syntax becomes a tree of
// directives (nginx_parse.go, apache_parse.go), with what it includes in its place (apache_expand.go); what they mean becomes servers with locations
// (nginx_*.go, apache_*.go); servers that share their names become sites (sites.go), which are written (write.go).
//
// No directive is lost in silence. Each has a fate in the ledger: it was translated, it is not needed here, it has no counterpart, which is a
// [Note] with its place, or what depends on it was refused. Where an access rule cannot be said, its location is closed, not open.
package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
)

// StandardInput is the last part of Input.Name where Text came from standard input: the rest says only where relative names start, and notes leave it out.
const StandardInput = "standard input"

// Input is a configuration to translate.
type Input struct {
	// Files are all files of the machine, with its root directory as theirs.
	Files fs.FS
	// Name is the absolute name of the configuration's main file.
	Name string
	// Text is the main file's text where it is not to be read from Files, such as that of standard input; otherwise nil.
	Text []byte
	// Check returns the mistakes that wstunnel finds in a configuration, in file order; nil where none can be asked.
	Check func(yaml []byte) []Mistake
}

// Mistake is what is wrong in a line of a configuration of ours.
type Mistake struct {
	Line int
	Text string
	// Unreachable says that no request can reach the location in that line.
	Unreachable bool
	// NoFile says that only a file is missing, which another machine may have.
	NoFile bool
}

// Result is a translated configuration.
type Result struct {
	// YAML is the configuration, with the notes as comments where they belong.
	YAML []byte
	// Notes are in the order of the files.
	Notes []Note
	// Counts say what became of the directives, each line of a file counted once.
	Counts Counts
	// Mistakes are what Input.Check finds in YAML.
	Mistakes []Mistake
}

// Counts say what became of directives.
type Counts struct {
	Translated int // said by the YAML
	NotNeeded  int // without effect here, or what is done anyway
	Noted      int // without a counterpart
	Refused    int // not understood, or such that its location could not be translated without it
}

// Place is a line of a file.
type Place struct {
	File string
	Line int
}

// Note tells of a directive that the YAML does not say in full.
type Note struct {
	Place
	// Directive is as it was written, shortened.
	Directive string
	// Does says what it does, or what is wrong with it.
	Does string
	// Do says what to do about it.
	Do string
	// Refused says that what depends on the directive was left out or closed.
	Refused bool
	// Advice says that nothing is missing.
	Advice bool
}

// cause is an error without the name of its file, which is another one within Files.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// maxText bounds the text of one file: none that people write is so long.
const maxText = 4 << 20

// readText returns the text of a file with its lines ending in \n.
func readText(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(fsName(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxText {
		return nil, fmt.Errorf("read %s: no plain file, or larger than %d MiB", name, maxText>>20)
	}
	text, err := fs.ReadFile(files, fsName(name))
	return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), err
}
