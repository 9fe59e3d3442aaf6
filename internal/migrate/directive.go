package migrate

import (
	"cmp"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// directive is a line of a configuration, of Apache's or of nginx's, or a section with what stands in it.
type directive struct {
	Place
	name string // Apache's in lower case
	args []string
	// text is how it was written, in one line.
	text    string
	section bool
	block   []*directive
}

func (d *directive) arg(i int) string {
	if i >= 0 && i < len(d.args) {
		return d.args[i]
	}
	return ""
}

// shown is the directive's text in a note.
func (d *directive) shown() string {
	const limit = 90
	text := strings.Join(strings.Fields(strings.Map(printable, d.text)), " ")
	if r := []rune(text); len(r) > limit {
		text = string(r[:limit]) + "..."
	}
	return text
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r == '\u0085' || r == '\ufeff' || r == '\ufffd' || 0xd800 <= r && r <= 0xdfff ||
		r == '\ufffe' || r == '\uffff' || 0x80 <= r && r <= 0x9f {
		return ' '
	}
	return r
}

// fate is what became of a directive. Of several, where it stands for several servers, the greatest counts.
type fate int

const (
	unseen fate = iota
	notNeeded
	translated
	noted
	refused
)

// ledger knows what became of each directive.
type ledger struct {
	fates map[ledgerKey]fate
	notes map[Note]bool
}

type ledgerKey struct {
	Place
	name string
}

func newLedger() *ledger {
	return &ledger{fates: map[ledgerKey]fate{}, notes: map[Note]bool{}}
}

func (l *ledger) set(d *directive, f fate) {
	key := ledgerKey{d.Place, d.name}
	l.fates[key] = max(l.fates[key], f)
}

// took says that the YAML says what a directive does.
func (l *ledger) took(ds ...*directive) {
	for _, d := range ds {
		l.set(d, translated)
	}
}

// needless says that a directive is not needed here.
func (l *ledger) needless(ds ...*directive) {
	for _, d := range ds {
		l.set(d, notNeeded)
	}
}

func (l *ledger) seen(d *directive) bool { return l.fates[ledgerKey{d.Place, d.name}] != unseen }

// note says that a directive has no counterpart.
func (l *ledger) note(d *directive, does, do string) Note {
	l.set(d, noted)
	n := Note{Place: d.Place, Directive: d.shown(), Does: does, Do: do}
	l.notes[n] = true
	return n
}

// refuse says that what depends on a directive is left out or closed.
func (l *ledger) refuse(d *directive, does, do string) Note {
	l.set(d, refused)
	n := Note{Place: d.Place, Directive: d.shown(), Does: does, Do: do, Refused: true}
	l.notes[n] = true
	return n
}

// advise tells of a directive what its owner should know, though nothing is missing.
func (l *ledger) advise(d *directive, does, do string) Note {
	l.set(d, notNeeded)
	n := Note{Place: d.Place, Directive: d.shown(), Does: does, Do: do, Advice: true}
	l.notes[n] = true
	return n
}

// adviseTaken is advise for a directive that the YAML says.
func (l *ledger) adviseTaken(d *directive, does, do string) Note {
	n := l.advise(d, does, do)
	l.took(d)
	return n
}

func (l *ledger) counts() (c Counts) {
	for _, f := range l.fates {
		switch f {
		case notNeeded:
			c.NotNeeded++
		case translated:
			c.Translated++
		case noted:
			c.Noted++
		case refused:
			c.Refused++
		}
	}
	return c
}

// sorted returns the notes in the order of the files.
func (l *ledger) sorted() []Note {
	var notes []Note
	for n := range l.notes {
		notes = append(notes, n)
	}
	slices.SortFunc(notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, cmp.Compare(a.Directive, b.Directive), cmp.Compare(a.Does, b.Does), cmp.Compare(a.Do, b.Do))
	})
	return notes
}

// fsName is a file's name within Files.
func fsName(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}

// joinName makes a name absolute, in a directory.
func joinName(dir, name string) string {
	if !strings.HasPrefix(name, "/") {
		name = dir + "/" + name
	}
	return path.Clean(name)
}

// glob returns the files that a pattern names, sorted.
func glob(files fs.FS, pattern string) []string {
	matches, _ := fs.Glob(files, fsName(pattern)) // a bad pattern names none
	for i := range matches {
		matches[i] = "/" + matches[i]
	}
	slices.Sort(matches)
	return matches
}

func isFile(files fs.FS, name string) bool {
	info, err := fs.Stat(files, fsName(name))
	return err == nil && info.Mode().IsRegular()
}

func exists(files fs.FS, name string) bool {
	_, err := fs.Stat(files, fsName(name))
	return err == nil
}
