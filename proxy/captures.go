package proxy

import (
	"regexp"
	"strconv"
)

// captures are the groups of a regex that matched a text. They are looked for when one is asked for.
type captures struct {
	regexp *regexp.Regexp // nil for none
	text   string
	groups []string
}

// value returns the text of a group, by its number or its name.
func (c *captures) value(name string) string {
	if c.regexp == nil {
		return ""
	}
	if c.groups == nil {
		c.groups = c.regexp.FindStringSubmatch(c.text)
	}
	group, err := strconv.Atoi(name)
	if err != nil {
		group = c.regexp.SubexpIndex(name)
	}
	if group < 0 || group >= len(c.groups) {
		return ""
	}
	return c.groups[group]
}
