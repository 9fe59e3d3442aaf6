package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	crossplane "github.com/nginxinc/nginx-go-crossplane"
)

// nginxReader reads a configuration of nginx with all that it includes.
type nginxReader struct {
	files  fs.FS
	dir    string // of the main file; relative names start there
	ledger *ledger
	budget int // of files that may yet be read
}

// maxFiles bounds the files of one configuration, each time that one is included.
const maxFiles = 5000

// maxNesting bounds how deep sections may stand in one another.
const maxNesting = 200

// read returns the directives of a file.
func (r *nginxReader) read(name string, given []byte, depth int) ([]*directive, error) {
	if r.budget--; r.budget < 0 || depth > 50 {
		return nil, fmt.Errorf("%s: too many files include one another", name)
	}
	data := given
	if data == nil {
		var err error
		if data, err = readText(r.files, name); err != nil {
			return nil, err
		}
	}
	parsed, err := parseNginx(name, data)
	if err != nil {
		return nil, err
	}
	return r.convert(name, parsed, depth)
}

// parseNginx parses one file.
func parseNginx(name string, data []byte) (crossplane.Directives, error) {
	if len(data) > maxText || bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("%s: no configuration of nginx", name)
	}
	if nesting(data) > maxNesting {
		return nil, fmt.Errorf("%s: sections are nested deeper than %d", name, maxNesting)
	}
	data = bytes.ToValidUTF8(data, []byte("?")) // comments may be in Latin-1
	lua := &crossplane.Lua{}
	payload, err := crossplane.Parse(name, &crossplane.ParseOptions{
		SingleFile:                true,
		SkipDirectiveContextCheck: true,
		SkipDirectiveArgsCheck:    true,
		StopParsingOnError:        true,
		Open:                      func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		LexOptions:                crossplane.LexOptions{Lexers: []crossplane.RegisterLexer{lua.RegisterLexer()}},
	})
	var parseErr *crossplane.ParseError
	switch {
	case errors.As(err, &parseErr) && parseErr.Line != nil:
		return nil, fmt.Errorf("%s:%d: %s", name, *parseErr.Line, parseErr.What)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(payload.Config) == 0:
		return nil, nil
	}
	return payload.Config[0].Parsed, nil
}

// nesting returns how deep braces stand in one another at most.
func nesting(data []byte) (deepest int) {
	depth := 0
	for _, c := range data {
		switch c {
		case '{':
			depth++
			deepest = max(deepest, depth)
		case '}':
			depth = max(depth-1, 0)
		}
	}
	return deepest
}

// convert returns the directives of a file with those of the files that they include.
func (r *nginxReader) convert(file string, parsed crossplane.Directives, depth int) ([]*directive, error) {
	var out []*directive
	for _, p := range parsed {
		if p.IsComment() {
			continue
		}
		d := &directive{Place: Place{file, p.Line}, name: nginxText(p.Directive), section: p.Block != nil}
		for _, a := range p.Args {
			d.args = append(d.args, nginxText(a))
		}
		d.text = strings.TrimSpace(p.Directive + " " + strings.Join(p.Args, " "))
		if d.name == "if" {
			d.text = "if (" + strings.Join(p.Args, " ") + ")"
		}
		if d.name == "include" && !p.IsMapBlockParameter {
			included, err := r.include(d, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, included...)
			continue
		}
		block, err := r.convert(file, p.Block, depth)
		if err != nil {
			return nil, err
		}
		d.block = block
		out = append(out, d)
	}
	return out, nil
}

// include returns the directives of the files that one names.
func (r *nginxReader) include(d *directive, depth int) ([]*directive, error) {
	name := joinName(r.dir, d.arg(0))
	if path.Base(name) == "mime.types" { // our own types
		r.ledger.needless(d)
		return nil, nil
	}
	names := []string{name}
	if strings.ContainsAny(name, "*?[") {
		names = glob(r.files, name)
	} else if !isFile(r.files, name) {
		r.ledger.refuse(d, "names a file that is not there", "translate on the machine that has it, or add what it says by hand")
		return nil, nil
	}
	r.ledger.took(d)
	var out []*directive
	for _, name := range names {
		if !isFile(r.files, name) {
			continue
		}
		included, err := r.read(name, nil, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, included...)
	}
	return out, nil
}

// nginxText resolves the backslashes that nginx resolves in arguments; others belong to regexes.
func nginxText(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch s[i+1] {
			case '"', '\'', '\\':
				i++
			case 't':
				b.WriteByte('\t')
				i++
				continue
			case 'r', 'n':
				b.WriteByte(map[byte]byte{'r': '\r', 'n': '\n'}[s[i+1]])
				i++
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
