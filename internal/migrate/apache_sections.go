package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// apacheLevels are the directives that hold at a place: what comes later counts more.
type apacheLevels [][]*directive

// last returns the directive with a name that counts, or nil.
func (ls apacheLevels) last(name string) *directive {
	for _, level := range slices.Backward(ls) {
		if d := lastOf(level, name); d != nil {
			return d
		}
	}
	return nil
}

// every returns all directives with one of the names, in the order of the levels.
func (ls apacheLevels) every(names ...string) (found []*directive) {
	for _, level := range ls {
		for _, d := range level {
			if slices.Contains(names, d.name) && !d.section {
				found = append(found, d)
			}
		}
	}
	return found
}

// innermost returns those of the last level that has any; sections count too.
func (ls apacheLevels) innermost(names ...string) (found []*directive) {
	for _, level := range slices.Backward(ls) {
		for _, d := range level {
			if slices.Contains(names, d.name) {
				found = append(found, d)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// sectionPattern returns what a section is for: a path, or a regex.
func (h *apacheHost) sectionPattern(d *directive) (prefix, regex string, ok bool) {
	arg := d.arg(0)
	if arg == "~" {
		regex, ok = toRE2(d.arg(1))
		return "", regex, ok
	}
	if strings.HasSuffix(d.name, "match") {
		regex, ok = toRE2(arg)
		return "", regex, ok
	}
	if d.name == "files" {
		return "", globRegex(arg, true), arg != ""
	}
	if plain, any := strings.CutSuffix(arg, "*"); any && strings.HasSuffix(plain, "/") && !strings.ContainsAny(plain, "*?[") && d.name == "location" {
		return plain, "", true
	}
	if strings.ContainsAny(arg, "*?[") {
		return "", globRegex(arg, false), true
	}
	return normalPath(arg), "", arg != ""
}

// globRegex is a regex for a pattern of a shell; of a file's name the whole is meant.
func globRegex(glob string, file bool) string {
	quoted := regexp.QuoteMeta(glob)
	quoted = strings.NewReplacer(`\*`, `[^/]*`, `\?`, `[^/]`, `\[`, `[`, `\]`, `]`).Replace(quoted)
	if !compiles(quoted) {
		quoted = strings.NewReplacer(`\*`, `[^/]*`, `\?`, `[^/]`).Replace(regexp.QuoteMeta(glob))
	}
	if file {
		return "^" + quoted + "$"
	}
	return "^" + quoted
}

// levels returns what holds for a path; dir is the directory that its files are in, empty if it is passed on.
func (h *apacheHost) levels(at, dir string) apacheLevels {
	ls := apacheLevels{plainLines(h.global), plainLines(h.own)}
	if dir != "" {
		ls = append(ls, h.directoryLevels(dir)...)
	} else {
		for _, s := range h.sections {
			if (s.name == "proxy" || s.name == "proxymatch") && !strings.HasPrefix(s.arg(0), "balancer:") {
				ls = append(ls, s.block)
			}
		}
	}
	for _, s := range h.sections {
		if s.name != "location" && s.name != "locationmatch" {
			continue
		}
		prefix, regex, ok := h.sectionPattern(s)
		if ok && (regex == "" && below(at, prefix) || regex != "" && matchesAll(regex)) {
			ls = append(ls, s.block)
		}
	}
	return ls
}

func plainLines(all []*directive) (lines []*directive) {
	for _, d := range all {
		if !d.section {
			lines = append(lines, d)
		}
	}
	return lines
}

// directoryLevels returns the sections for a directory and those above it, with the .htaccess files that count.
func (h *apacheHost) directoryLevels(dir string) apacheLevels {
	type level struct {
		length int
		block  []*directive
	}
	var found []level
	overrides := false
	for _, s := range h.sections {
		if s.name != "directory" && s.name != "directorymatch" {
			continue
		}
		covers, length := h.coversDirectory(s, dir)
		if covers {
			found = append(found, level{length, s.block})
		}
	}
	slices.SortStableFunc(found, func(a, b level) int { return a.length - b.length })
	var ls apacheLevels
	for _, f := range found {
		ls = append(ls, f.block)
		if d := lastOf(f.block, "allowoverride"); d != nil {
			overrides = !strings.EqualFold(d.arg(0), "none")
		}
	}
	if overrides {
		ls = append(ls, h.htaccess(dir)...)
	}
	return ls
}

// coversDirectory reports a section that is for a directory, with how long its path is.
func (h *apacheHost) coversDirectory(s *directive, dir string) (bool, int) {
	prefix, regex, ok := h.sectionPattern(s)
	if !ok {
		return false, 0
	}
	if regex != "" {
		re := regexp.MustCompile(regex)
		return re.MatchString(dir) || re.MatchString(dir+"/"), len(dir) + 1
	}
	return below(dir, path.Clean(prefix)), len(path.Clean(prefix))
}

// htaccess reads the .htaccess files of a directory and of those above it, down from the document root.
func (h *apacheHost) htaccess(dir string) (ls apacheLevels) {
	var dirs []string
	for d := dir; ; d = path.Dir(d) {
		dirs = append(dirs, d)
		if d == h.docroot || d == "/" || !below(d, h.docroot) {
			break
		}
	}
	for _, d := range slices.Backward(dirs) {
		if block := h.htaccessOf(d); block != nil {
			ls = append(ls, block)
		}
	}
	return ls
}

// htaccessOf reads one; nil if there is none.
func (h *apacheHost) htaccessOf(dir string) []*directive {
	if block, known := h.hidden[dir]; known {
		return block
	}
	h.hidden[dir] = nil
	name := dir + "/.htaccess"
	if !isFile(h.in.Files, name) {
		return nil
	}
	block, err := h.reader.file(name, nil, 0)
	if err != nil {
		d := &directive{Place: Place{name, 1}, name: ".htaccess", text: name}
		h.note(h.ledger.refuse(d, "cannot be read: "+err.Error(), "add what it says by hand"))
		return nil
	}
	h.hidden[dir] = block
	return block
}

// urlOf returns the path under which a directory is served.
func (h *apacheHost) urlOf(dir string) (string, bool) {
	best, found := "", false
	try := func(url, root string) {
		if root != "" && below(dir, root) && !found {
			best, found = path.Join(url, strings.TrimPrefix(dir, root)), true
		}
	}
	for _, a := range h.all("alias") {
		try(normalPath(a.arg(0)), joinName(h.reader.root, a.arg(1)))
	}
	try("/", h.docroot)
	return best, found
}
