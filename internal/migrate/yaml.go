package migrate

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// value is a piece of a configuration of ours: a text, a word, a list or a *mapping.
type value interface {
	// flow returns it in one line.
	flow() string
}

// text is a string, quoted where YAML would read something else.
type text string

// word is a number, a boolean, a size, a duration: what needs no quotes.
type word string

type list []value

// mapping keeps its keys in order.
type mapping struct {
	entries []entry
}

type entry struct {
	key   string
	value value
	// comment stands behind the value.
	comment string
}

func (m *mapping) find(key string) *entry {
	for i := range m.entries {
		if m.entries[i].key == key {
			return &m.entries[i]
		}
	}
	return nil
}

func (m *mapping) has(key string) bool { return m.find(key) != nil }

func (m *mapping) get(key string) value {
	if e := m.find(key); e != nil {
		return e.value
	}
	return nil
}

// set puts a value under a key, in place of another.
func (m *mapping) set(key string, v value) {
	if e := m.find(key); e != nil {
		e.value = v
		return
	}
	m.entries = append(m.entries, entry{key: key, value: v})
}

func (m *mapping) remove(key string) {
	m.entries = slices.DeleteFunc(m.entries, func(e entry) bool { return e.key == key })
}

func (m *mapping) clone() *mapping { return &mapping{slices.Clone(m.entries)} }

func (m *mapping) empty() bool { return len(m.entries) == 0 }

// sortKeys puts the keys into the order of the documentation; others follow.
func (m *mapping) sortKeys(order []string) {
	rank := func(key string) int {
		if i := slices.Index(order, key); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(m.entries, func(a, b entry) int { return rank(a.key) - rank(b.key) })
}

func texts(values ...string) list {
	l := make(list, len(values))
	for i, v := range values {
		l[i] = text(v)
	}
	return l
}

// plainText needs no quotes, as long as it is no word of YAML's.
var plainText = regexp.MustCompile(`^[A-Za-z/._][A-Za-z0-9/._+@-]*(:[A-Za-z0-9/._+@-]+)*$|^\d+\.\d+\.\d+\.\d+(:\d+|/\d+)?$`)

// words are read by YAML as something else than a text.
var words = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", ".inf", ".nan", "~", "."}

func (t text) flow() string {
	s := string(t)
	if plainText.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	if strings.ContainsFunc(s, func(r rune) bool { return printable(r) != r }) || strings.Contains(s, "'") {
		return doubleQuoted(s)
	}
	if strings.ContainsAny(s, `\"`) || s == "" {
		return "'" + s + "'"
	}
	return `"` + s + `"`
}

// doubleQuoted writes what has control characters or quotes in it.
func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "?") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case printable(r) != r:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (w word) flow() string { return string(w) }

func (l list) flow() string {
	items := make([]string, len(l))
	for i, v := range l {
		items[i] = v.flow()
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (m *mapping) flow() string {
	items := make([]string, len(m.entries))
	for i, e := range m.entries {
		items[i] = keyText(e.key) + ": " + e.value.flow()
	}
	return "{" + strings.Join(items, ", ") + "}"
}

// keyText quotes a key where it must be; numbers are keys of error_pages.
func keyText(key string) string {
	if strings.Trim(key, "0123456789") == "" && key != "" {
		return key
	}
	return text(key).flow()
}

// maxFlow is how long a line with a list or a mapping in it may be.
const maxFlow = 100

// yamlWriter writes values as a document.
type yamlWriter struct {
	bytes.Buffer
	marks []mark
}

func (w *yamlWriter) line(indent int, s string) {
	w.WriteString(strings.Repeat(" ", indent))
	w.WriteString(s)
	w.WriteByte('\n')
}

// maxComment is how long a line with a comment may be.
const maxComment = 110

// comment writes a text as comment lines, with what follows the first one indented by two more.
func (w *yamlWriter) comment(indent int, s string) {
	prefix := "# "
	line := ""
	for _, field := range strings.Fields(strings.Map(printable, s)) {
		if line != "" && indent+len(prefix)+len(line)+1+len(field) > maxComment {
			w.line(indent, prefix+line)
			prefix, line = "#   ", ""
		}
		if line != "" {
			line += " "
		}
		line += field
	}
	w.line(indent, prefix+line)
}

// entries writes a mapping's entries; first stands before the first of them instead of the indentation.
func (w *yamlWriter) entries(indent int, m *mapping, first string) {
	w.owned(nil, indent, m, first)
}

// owned is entries for the options of something, whose lines are marked.
func (w *yamlWriter) owned(owner any, indent int, m *mapping, first string) {
	for i, e := range m.entries {
		if owner != nil {
			w.mark(owner, e.key)
		}
		lead := strings.Repeat(" ", indent)
		if i == 0 && first != "" {
			lead = first
		}
		w.entry(indent, lead+keyText(e.key)+":", e)
	}
}

func (w *yamlWriter) entry(indent int, lead string, e entry) {
	comment := ""
	if e.comment != "" {
		comment = " # " + e.comment
	}
	flow := e.value.flow()
	switch v := e.value.(type) {
	case *mapping:
		if len(lead)+1+len(flow) > maxFlow && !v.empty() {
			w.WriteString(lead + comment + "\n")
			w.entries(indent+2, v, "")
			return
		}
	case list:
		if len(lead)+1+len(flow) > maxFlow && len(v) > 0 {
			w.WriteString(lead + comment + "\n")
			w.items(indent+2, v)
			return
		}
	}
	w.WriteString(lead + " " + flow + comment + "\n")
}

// items writes a list, an item a line.
func (w *yamlWriter) items(indent int, l list) {
	lead := strings.Repeat(" ", indent) + "- "
	for _, v := range l {
		m, isMapping := v.(*mapping)
		if isMapping && len(lead)+len(m.flow()) > maxFlow && !m.empty() {
			w.entries(indent+2, m, lead)
			continue
		}
		w.WriteString(lead + v.flow() + "\n")
	}
}
