package migrate

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// apacheReader reads a configuration of Apache with all that it includes, and resolves what depends on modules, definitions and versions.
type apacheReader struct {
	files   fs.FS
	root    string // ServerRoot
	ledger  *ledger
	defines map[string]string
	env     map[string]string
	// modules are those loaded, each by both names that it has; nil where no line loads any: then all are taken for loaded.
	modules map[string]bool
	loads   bool // a line loads modules
	macros  map[string]*apacheMacro
	budget  int // of files and macros that may yet be read
	lines   int // that may yet come of them
}

type apacheMacro struct {
	params []string
	block  []*apacheLine
}

// builtIn are the modules that Debian's Apache has without loading them.
var builtIn = []string{"core", "http", "so", "log_config", "logio", "version", "watchdog", "unixd"}

func newApacheReader(files fs.FS, l *ledger, dir string) *apacheReader {
	return &apacheReader{
		files: files, root: dir, ledger: l, defines: map[string]string{}, env: map[string]string{}, macros: map[string]*apacheMacro{},
		budget: maxFiles, lines: 200_000,
	}
}

// readEnv reads the variables of a file of shell assignments, as Debian's envvars is.
func (r *apacheReader) readEnv(name string) {
	text, err := readText(r.files, name)
	if err != nil {
		return
	}
	assignment := regexp.MustCompile(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	for line := range strings.SplitSeq(string(text), "\n") {
		if m := assignment.FindStringSubmatch(line); m != nil {
			v := strings.Trim(strings.TrimSpace(m[2]), `"'`)
			r.env[m[1]] = regexp.MustCompile(`\$\{?[A-Z_]+\}?`).ReplaceAllStringFunc(v, func(ref string) string { return r.env[varName(ref)] })
		}
	}
}

// moduleNames are the names by which IfModule knows a module.
func moduleNames(identifier, file string) []string {
	names := []string{identifier}
	if base := strings.TrimSuffix(path.Base(file), ".so"); file != "" {
		names = append(names, base+".c")
		if strings.HasPrefix(base, "libphp") {
			names = append(names, "mod_php.c", "mod_"+strings.TrimRight(strings.TrimPrefix(base, "lib"), ".0123456789")+".c", "mod_php8.c", "mod_php7.c")
		}
	}
	return names
}

func (r *apacheReader) load(identifier, file string) {
	if r.modules == nil {
		r.modules = map[string]bool{}
		for _, m := range builtIn {
			r.modules[m+"_module"], r.modules["mod_"+m+".c"], r.modules[m+".c"] = true, true, true
		}
	}
	for _, name := range moduleNames(identifier, file) {
		r.modules[name] = true
	}
	r.loads = true
}

func (r *apacheReader) loaded(name string) bool { return r.modules == nil || r.modules[name] }

var apacheVar = regexp.MustCompile(`\$\{([^}:]+)\}`)

// resolve replaces ${NAME} by what was defined, or by the environment's.
func (r *apacheReader) resolve(s string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	return apacheVar.ReplaceAllStringFunc(s, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if v, ok := r.defines[name]; ok {
			return v
		}
		if v, ok := r.env[name]; ok {
			return v
		}
		return ref
	})
}

// file returns the directives of a file.
func (r *apacheReader) file(name string, given []byte, depth int) ([]*directive, error) {
	if r.budget--; r.budget < 0 || depth > 50 {
		return nil, fmt.Errorf("%s: too many files include one another", name)
	}
	text := given
	if text == nil {
		var err error
		if text, err = readText(r.files, name); err != nil {
			return nil, err
		}
	}
	lines, err := parseApache(name, text)
	if err != nil {
		return nil, err
	}
	return r.expand(lines, depth)
}

// expand resolves lines in their order.
func (r *apacheReader) expand(lines []*apacheLine, depth int) (out []*directive, err error) {
	for _, line := range lines {
		if r.lines--; r.lines < 0 || depth > 100 {
			return nil, fmt.Errorf("%s: macros or files include one another without end", line.Place)
		}
		more, err := r.line(line, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// line returns what a line comes to.
func (r *apacheReader) line(line *apacheLine, depth int) ([]*directive, error) {
	d := &directive{Place: line.Place, name: strings.ToLower(line.name), section: line.section}
	rest := r.resolve(line.rest)
	d.text = strings.TrimSpace(line.name + " " + rest)
	if line.section {
		d.text = "<" + d.text + ">"
	}
	d.args = apacheArgs(rest)
	switch d.name {
	case "define":
		r.ledger.needless(d)
		r.defines[d.arg(0)] = d.arg(1)
		return nil, nil
	case "undefine":
		r.ledger.needless(d)
		delete(r.defines, d.arg(0))
		return nil, nil
	case "serverroot":
		r.ledger.needless(d)
		r.root = joinName("/", d.arg(0))
		return nil, nil
	case "loadmodule":
		r.load(d.arg(0), d.arg(1))
		return []*directive{d}, nil
	case "include", "includeoptional":
		return r.include(d, depth)
	case "macro":
		if line.section && len(d.args) > 0 {
			r.ledger.needless(d)
			r.macros[strings.ToLower(d.args[0])] = &apacheMacro{params: d.args[1:], block: line.block}
			return nil, nil
		}
	case "use":
		return r.use(d, depth)
	case "ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection":
		if line.section {
			r.ledger.needless(d)
			if r.holds(d) {
				return r.expand(line.block, depth+1)
			}
			return nil, nil
		}
	}
	block, err := r.expand(line.block, depth+1)
	d.block = block
	return []*directive{d}, err
}

// holds reports whether what stands in a conditional section counts.
func (r *apacheReader) holds(d *directive) bool {
	name, not := strings.CutPrefix(d.arg(0), "!")
	var is bool
	switch d.name {
	case "ifmodule":
		is = r.loaded(name)
	case "ifdefine":
		_, is = r.defines[name]
	case "iffile":
		is = exists(r.files, joinName(r.root, name))
	case "ifversion":
		is = versionHolds(d.args)
	default:
		is = true
	}
	return is != not
}

// versionHolds compares the version of Apache 2.4.
func versionHolds(args []string) bool {
	op, version := "=", ""
	switch len(args) {
	case 1:
		version = args[0]
	case 2:
		op, version = args[0], args[1]
	}
	ours := []int{2, 4, 60}
	order := 0
	for i, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return true
		}
		if i < len(ours) && order == 0 {
			order = ours[i] - n
		}
	}
	switch strings.TrimPrefix(op, "!") {
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	}
	return order == 0
}

// use returns the lines of a macro, with its parameters replaced.
func (r *apacheReader) use(d *directive, depth int) ([]*directive, error) {
	m := r.macros[strings.ToLower(d.arg(0))]
	if m == nil || len(d.args)-1 != len(m.params) {
		r.ledger.refuse(d, "uses a macro that is not there, or with another number of arguments", "write what it says by hand")
		return nil, nil
	}
	if r.budget--; r.budget < 0 {
		return nil, fmt.Errorf("%s: too many macros use one another", d.Place)
	}
	r.ledger.needless(d)
	var pairs []string
	order := make([]int, len(m.params))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(m.params[b]) - len(m.params[a]) }) // $names before $name
	for _, i := range order {
		if m.params[i] != "" {
			pairs = append(pairs, m.params[i], d.args[i+1])
		}
	}
	return r.expand(replaceIn(m.block, strings.NewReplacer(pairs...)), depth+1)
}

func replaceIn(lines []*apacheLine, by *strings.Replacer) []*apacheLine {
	out := make([]*apacheLine, len(lines))
	for i, line := range lines {
		replaced := *line
		replaced.rest = by.Replace(line.rest)
		replaced.block = replaceIn(line.block, by)
		out[i] = &replaced
	}
	return out
}

// include returns the directives of the files that one names.
func (r *apacheReader) include(d *directive, depth int) ([]*directive, error) {
	name := joinName(r.root, d.arg(0))
	names := []string{name}
	if strings.ContainsAny(name, "*?[") {
		names = glob(r.files, name)
	}
	r.ledger.took(d)
	var out []*directive
	for _, name := range names {
		files := r.filesIn(name, 0)
		if len(files) == 0 && d.name == "include" {
			r.ledger.refuse(d, "names a file that is not there", "translate on the machine that has it, or add what it says by hand")
		}
		for _, file := range files {
			included, err := r.file(file, nil, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, included...)
		}
	}
	return out, nil
}

// filesIn returns a file, or all files in a directory and those below it.
func (r *apacheReader) filesIn(name string, depth int) []string {
	if isFile(r.files, name) {
		return []string{name}
	}
	entries, err := fs.ReadDir(r.files, fsName(name))
	if err != nil || depth > 20 {
		return nil
	}
	var all []string
	for _, e := range entries {
		all = append(all, r.filesIn(name+"/"+e.Name(), depth+1)...)
	}
	return all
}
