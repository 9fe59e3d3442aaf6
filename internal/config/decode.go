package config

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder turns the YAML nodes of one file into a Config and gathers the mistakes.
type decoder struct {
	files     []string // the main one, and those that it includes
	texts     [][]byte // what stands in each
	lookupEnv func(string) (string, bool)
	errs      Errors

	upstreams     map[string]*Upstream
	upstreamNames []string // in file order
	hostLines     map[string]int
	backends      []backendPlace
	relayMemory   int64          // limits.relay_memory
	metricsPos    Pos            // of the address of metrics
	captures      *regexp.Regexp // of the location that is being read; nil for none
}

// add notes a mistake.
func (d *decoder) add(pos Pos, found, allowed string) {
	d.errs = append(d.errs, Error{Line: pos.Line, Col: pos.Col, Found: found, Allowed: allowed})
}

// addNoFile reports a file or directory that cannot be opened.
func (d *decoder) addNoFile(pos Pos, found, allowed string) {
	d.errs = append(d.errs, Error{Line: pos.Line, Col: pos.Col, Found: found, Allowed: allowed, NoFile: true})
}

func (d *decoder) addProblem(pos Pos, p problem) {
	d.add(pos, p.found, p.allowed)
}

// posOf returns where a node stands.
func posOf(n *yaml.Node) Pos {
	return Pos{Line: max(n.Line, 1), Col: max(n.Column, 1)}
}

// deref returns the node that n is an alias of, or n. checkNodes has found no cycles.
func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 && n.ShortTag() == "!!null"
}

// describe names a node's kind for an error text.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n) && n.Value == "~":
		return "no value (an unquoted ~ means null)"
	case isNull(n):
		return "no value"
	}
	return quote(n.Value)
}

// entry is one key of a mapping.
type entry struct {
	key     string
	keyNode *yaml.Node
	value   *yaml.Node
}

// mapping returns the entries of a mapping in file order, with merge keys resolved: a key
// of the mapping's own wins over a merged one, an earlier merged mapping over a later one.
func (d *decoder) mapping(n *yaml.Node, allowed string) ([]entry, bool) {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		d.add(posOf(n), describe(n), allowed)
		return nil, false
	}
	var own, merged []entry
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		keyNode, value := deref(n.Content[i]), n.Content[i+1]
		switch {
		case keyNode.Kind != yaml.ScalarNode:
			d.add(posOf(n.Content[i]), describe(keyNode)+" as a key", "a plain word as a key")
		case keyNode.ShortTag() == "!!merge":
			merged = append(merged, d.merge(value)...)
		default:
			e := entry{keyNode.Value, n.Content[i], value}
			if line, dup := lines[e.key]; dup {
				d.add(posOf(e.keyNode), "duplicate key "+quote(e.key),
					"once in a mapping; the first is on "+d.lineText(line))
				continue
			}
			lines[e.key] = e.keyNode.Line
			own = append(own, e)
		}
	}
	for _, e := range merged {
		if _, dup := lines[e.key]; !dup {
			lines[e.key] = e.keyNode.Line
			own = append(own, e)
		}
	}
	return own, true
}

// merge returns the entries that a merge key brings in.
func (d *decoder) merge(value *yaml.Node) []entry {
	const allowed = "<< takes a mapping, or a list of mappings"
	n := deref(value)
	if n.Kind != yaml.SequenceNode {
		entries, _ := d.mapping(n, allowed)
		return entries
	}
	var all []entry
	for _, item := range n.Content {
		entries, _ := d.mapping(item, allowed)
		all = append(all, entries...)
	}
	return all
}

func indexKey(entries []entry, key string) int {
	return slices.IndexFunc(entries, func(e entry) bool { return e.key == key })
}

// object is a mapping whose keys are known.
type object struct {
	pos     Pos
	entries []entry
}

// object reads a mapping of the given kind; unknown keys are mistakes.
func (d *decoder) object(n *yaml.Node, kind string) (object, bool) {
	keys := keysOf(kind)
	entries, ok := d.mapping(n, kind+" is a mapping with keys "+strings.Join(keys, ", "))
	if !ok {
		return object{}, false
	}
	for _, e := range entries {
		if !slices.Contains(keys, e.key) {
			d.addProblem(posOf(e.keyNode), unknownKey(e.key, kind))
		}
	}
	return object{posOf(deref(n)), entries}, true
}

// get returns a key's value, or nil.
func (o object) get(key string) *yaml.Node {
	if i := indexKey(o.entries, key); i >= 0 {
		return o.entries[i].value
	}
	return nil
}

// keyPos returns where a key stands.
func (o object) keyPos(key string) Pos {
	if i := indexKey(o.entries, key); i >= 0 {
		return posOf(o.entries[i].keyNode)
	}
	return o.pos
}

// list returns the items of a list.
func (d *decoder) list(n *yaml.Node, allowed string) []*yaml.Node {
	n = deref(n)
	if n.Kind != yaml.SequenceNode {
		d.add(posOf(n), describe(n), allowed)
		return nil
	}
	return n.Content
}

// nonEmptyList returns the items of a list that must have some.
func (d *decoder) nonEmptyList(n *yaml.Node, allowed string) []*yaml.Node {
	if n = deref(n); n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.add(posOf(n), "an empty list", allowed)
	}
	return d.list(n, allowed)
}

// scalar is a single value.
type scalar struct {
	pos     Pos
	text    string // with the variables replaced
	written string // as it stands in the file
	env     bool   // a variable was replaced: text may be a secret
}

// shown returns the scalar for an error text.
func (s scalar) shown() string { return quote(s.written) }

// scalar reads a single value and replaces its variables.
func (d *decoder) scalar(n *yaml.Node, allowed string) (scalar, bool) {
	n = deref(n)
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.add(posOf(n), describe(n), allowed)
		return scalar{}, false
	}
	s := scalar{pos: posOf(n), written: n.Value}
	var problems []problem
	s.text, s.env, problems = expand(n.Value, d.lookupEnv)
	for _, p := range problems {
		d.addProblem(s.pos, p)
	}
	return s, len(problems) == 0
}

// boolean reads true or false into b, and tells whether it could.
func (d *decoder) boolean(n *yaml.Node, b *bool) bool {
	s, ok := d.scalar(n, "true or false")
	if !ok {
		return false
	}
	switch s.text {
	case "true", "false":
		*b = s.text == "true"
		return true
	}
	d.add(s.pos, s.shown(), "true or false")
	return false
}

// duration reads a positive duration into v.
func (d *decoder) duration(n *yaml.Node, v *time.Duration) {
	const allowed = `a duration such as "500ms", "60s", "5m", "1h30m" or "2d"`
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	got, err := parseDuration(s.text)
	number, notNumber := strconv.ParseFloat(s.text, 64)
	switch {
	case notNumber == nil && (s.env || number <= 0):
		d.add(s.pos, s.shown()+" has no unit", `a duration above zero with its unit, such as "60s"`)
	case notNumber == nil:
		d.add(s.pos, s.shown()+" has no unit", "a duration with its unit: "+quote(s.text+"s"))
	case err != nil:
		d.add(s.pos, "bad duration "+s.shown(), allowed)
	case got <= 0:
		d.add(s.pos, "duration "+s.shown(), "a duration above zero")
	default:
		*v = got
	}
}

// parseDuration reads a duration as Go writes it, which may begin with a whole number of days: 180d, 1d12h.
func parseDuration(s string) (time.Duration, error) {
	const day, most = 24 * time.Hour, 36500 // days; a hundred years
	digits, rest, ok := strings.Cut(s, "d")
	days, err := strconv.Atoi(digits)
	if !ok || err != nil || days < 0 || days > most {
		return time.ParseDuration(s)
	}
	if rest == "" {
		return time.Duration(days) * day, nil
	}
	hours, err := time.ParseDuration(rest)
	if err == nil && (hours < 0 || hours >= day) {
		err = errors.New("a day has 24 hours")
	}
	return time.Duration(days)*day + hours, err
}

// count reads a whole number above zero.
func (d *decoder) count(n *yaml.Node, v *int) {
	const allowed = "a whole number above zero"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	got, err := strconv.ParseInt(s.text, 10, 32)
	if err != nil || got <= 0 {
		d.add(s.pos, "bad number "+s.shown(), allowed)
		return
	}
	*v = int(got)
}

// The units of sizes, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// size reads a number of bytes above zero, written with its unit, into v, and tells whether it could.
func (d *decoder) size(n *yaml.Node, v *int64) bool {
	const allowed = `a size such as "512KiB", "10MiB" or "1GiB"`
	s, ok := d.scalar(n, allowed)
	if !ok {
		return false
	}
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(s.text, unit.name)
		if number, err := strconv.ParseInt(digits, 10, 32); ok && err == nil && number > 0 {
			*v = number * unit.bytes
			return true
		}
	}
	d.add(s.pos, "bad size "+s.shown(), allowed)
	return false
}

// sizeText writes a size as it stands in the configuration.
func sizeText(bytes int64) string {
	for _, unit := range sizeUnits {
		if bytes%unit.bytes == 0 {
			return strconv.FormatInt(bytes/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10) + " bytes"
}
