package host

import "strings"

// Table says what a host belongs to. The zero Table is empty and ready for use.
type Table[T any] struct {
	exact     map[string]T
	wildcards map[string]T // by suffix with its dot: ".example.com"
	prefixes  map[string]T // by prefix with its dot: "mail."
	fallback  T
	falls     bool // there is a fallback
}

// Add enters a host as a configuration has it: a canonical name or address, "*.example.com" for all names below one, "mail.*" for all that
// begin so, or "_" for every host that nothing else is there for. A host that is there already stays what it was.
func (t *Table[T]) Add(host string, v T) {
	if host == "_" {
		if !t.falls {
			t.fallback, t.falls = v, true
		}
		return
	}
	table := &t.exact
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		host, table = suffix, &t.wildcards
	} else if prefix, ok := strings.CutSuffix(host, "*"); ok {
		host, table = prefix, &t.prefixes
	}
	if *table == nil {
		*table = map[string]T{}
	}
	if _, taken := (*table)[host]; !taken {
		(*table)[host] = v
	}
}

// Find returns what a canonical host belongs to: the exact name, else the longest wildcard at its beginning, else the longest at its end, as nginx has it,
// else "_". Without any of these, and for what is longer
// than a name can be, it reports false.
func (t *Table[T]) Find(canonical string) (v T, ok bool) {
	if len(canonical) > maxName {
		return v, false
	}
	if v, ok = t.exact[canonical]; ok {
		return v, true
	}
	for i := 1; i < len(canonical) && len(t.wildcards) > 0; i++ {
		if canonical[i] == '.' {
			if v, ok = t.wildcards[canonical[i:]]; ok {
				return v, true
			}
		}
	}
	for i := len(canonical) - 1; i > 0 && len(t.prefixes) > 0; i-- {
		if canonical[i] == '.' {
			if v, ok = t.prefixes[canonical[:i+1]]; ok {
				return v, true
			}
		}
	}
	return t.fallback, t.falls
}
