package rewrite

import (
	"regexp"
	"strconv"
)

// Captures are the groups of a regex that matched a text. They are looked for when one is asked for.
type Captures struct {
	Regexp *regexp.Regexp // nil for none
	Text   string
	groups []string
}

// Value returns the text of a group, by its number or its name.
func (c *Captures) Value(name string) string {
	if c.Regexp == nil {
		return ""
	}
	if c.groups == nil {
		c.groups = c.Regexp.FindStringSubmatch(c.Text)
	}
	group, err := strconv.Atoi(name)
	if err != nil {
		group = c.Regexp.SubexpIndex(name)
	}
	if group < 0 || group >= len(c.groups) {
		return ""
	}
	return c.groups[group]
}
