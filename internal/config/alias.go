package config

import (
	"strconv"

	"gopkg.in/yaml.v3"
)

// maxExpanded bounds how many nodes a file may stand for once its aliases are followed;
// without it a few lines of aliases to aliases stand for billions.
const maxExpanded = 1_000_000

// checkNodes looks for what would make walking the nodes endless (aliases that contain
// themselves or multiply) and for tags, which nothing here gives a meaning to. It
// returns false if the nodes must not be walked.
func (d *decoder) checkNodes(root *yaml.Node) bool {
	c := nodeChecker{d: d, size: make(map[*yaml.Node]int)}
	total := c.visit(root)
	if total > maxExpanded {
		d.add(posOf(root), "aliases that stand for more than "+strconv.Itoa(maxExpanded)+" values", "fewer aliases to aliases")
		return false
	}
	return !c.cyclic
}

type nodeChecker struct {
	d      *decoder
	size   map[*yaml.Node]int // with aliases followed; 0 while the node is being visited
	cyclic bool
}

// visit returns how many nodes n stands for, at most maxExpanded+1.
func (c *nodeChecker) visit(n *yaml.Node) int {
	if size, seen := c.size[n]; seen {
		return size
	}
	c.size[n] = 0
	c.checkTag(n)
	size := 1
	if n.Kind == yaml.AliasNode {
		if inside, seen := c.size[n.Alias]; seen && inside == 0 {
			c.d.add(posOf(n), "alias *"+n.Value+" inside of what it stands for", "an alias of something else")
			c.cyclic = true
		} else {
			size += c.visit(n.Alias)
		}
	}
	for _, child := range n.Content {
		size = min(size+c.visit(child), maxExpanded+1)
	}
	c.size[n] = size
	return size
}

func (c *nodeChecker) checkTag(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle == 0 {
		return
	}
	switch n.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
	default:
		c.d.add(posOf(n), "tag "+quote(n.ShortTag()), "values without tags")
	}
}
