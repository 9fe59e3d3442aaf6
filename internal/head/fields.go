package head

import "strings"

// Limits on what a head may hold, so that the work on it stays in proportion to its length.
const (
	MaxFields           = 1000
	MaxConnectionTokens = 100
	// FieldCharge is what a field is charged beside its bytes (RFC 9113, section 6.5.2).
	FieldCharge = 32
)

// Field is a line of a head: a name as it was spelt, and a value without the blanks around it.
type Field struct {
	Name, Value string
	ID          ID
}

// Fields are the lines of a head, in order.
type Fields []Field

// Add appends a field.
func (f *Fields) Add(id ID, value string) {
	*f = append(*f, Field{Name: id.String(), Value: value, ID: id})
}

// Get returns the value of the first field of a name, or nothing.
func (f Fields) Get(id ID) string {
	for i := range f {
		if f[i].ID == id {
			return f[i].Value
		}
	}
	return ""
}

// Has reports whether there is a field of a name.
func (f Fields) Has(id ID) bool {
	for i := range f {
		if f[i].ID == id {
			return true
		}
	}
	return false
}

// Count returns how many fields of a name there are.
func (f Fields) Count(id ID) int {
	n := 0
	for i := range f {
		if f[i].ID == id {
			n++
		}
	}
	return n
}

// Values returns the values of all fields of a name.
func (f Fields) Values(id ID) (values []string) {
	for i := range f {
		if f[i].ID == id {
			values = append(values, f[i].Value)
		}
	}
	return values
}

// Lookup returns the value of the first field of a name in any spelling, for names that have no [ID].
func (f Fields) Lookup(name string) (value string, ok bool) {
	for i := range f {
		if strings.EqualFold(f[i].Name, name) {
			return f[i].Value, true
		}
	}
	return "", false
}

// Joined returns the values of all fields of a name as one list (RFC 9110, section 5.3).
func (f Fields) Joined(id ID) string {
	first, joined, several := "", []string(nil), false
	for i := range f {
		switch {
		case f[i].ID != id:
		case first == "" && !several:
			first, several = f[i].Value, true
		case joined == nil:
			joined = []string{first, f[i].Value}
		default:
			joined = append(joined, f[i].Value)
		}
	}
	if joined == nil {
		return first
	}
	return strings.Join(joined, ", ")
}

// HasToken reports whether the lists of a name's fields hold a token in any case.
func (f Fields) HasToken(id ID, token string) bool {
	for i := range f {
		if f[i].ID != id {
			continue
		}
		for part := range strings.SplitSeq(f[i].Value, ",") {
			if strings.EqualFold(Trim(part), token) {
				return true
			}
		}
	}
	return false
}

// Tokens returns how many elements the lists of a name's fields have at most.
func (f Fields) Tokens(id ID) int {
	n := 0
	for i := range f {
		if f[i].ID == id {
			n += 1 + strings.Count(f[i].Value, ",")
		}
	}
	return n
}

// Trim cuts the blanks around a value (RFC 9110, section 5.6.3).
func Trim(s string) string { return strings.Trim(s, " \t") }
