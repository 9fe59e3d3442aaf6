package config

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// removed stands where something is not shown.
const removed = "(removed)"

// secretIn are keys below which every value may be a secret: fields for backends, variables of PHP, conditions that only those meet who know.
var secretIn = []string{"params", "when"}

// secretKeys are keys whose values are secrets, hashes of them, or what an authority knows one by.
var secretKeys = []string{"hash", "hmac_key", "kid", "secret"}

// secretName are names of a user's own whose values may be secrets.
var secretName = regexp.MustCompile(`(?i)passw|secret|token|credential|authorization|cookie|api.?key`)

// userInfo is who asks in a URL, and urlQuery what is asked with.
var (
	userInfo = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#@]*@`)
	urlQuery = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]*:[^?]*)\?.*$`)
)

// Shown returns the files of the configuration as they were read: YAML (RFC 9512), one document for each, without comments, and with nothing in it that is a secret or
// may be one. Variables of the environment stand as they are written.
func (c *Config) Shown() ([]byte, error) {
	var all bytes.Buffer
	for i, text := range c.texts {
		root, errs := readDocument(c.Files[i], text)
		if len(errs) > 0 {
			return nil, errs // which cannot be, since they were read before
		}
		out, err := yaml.Marshal(shown(root, nil))
		if err != nil {
			return nil, err
		}
		all.WriteString("---\n# " + strings.Map(onOneLine, c.Files[i]) + "\n")
		all.Write(out)
	}
	return all.Bytes(), nil
}

// onOneLine keeps a file's name in its comment.
func onOneLine(r rune) rune {
	if r < ' ' || r == 0x85 || r == 0x2028 || r == 0x2029 {
		return '?'
	}
	return r
}

// shown returns a copy of a node that stands below keys, without what is not to be seen. What it is an alias of stands in its place.
func shown(n *yaml.Node, keys []string) *yaml.Node {
	n = deref(n)
	out := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := deref(n.Content[i])
			below := keys
			if key.ShortTag() != "!!merge" {
				below = append(slices.Clip(keys), key.Value)
			}
			out.Content = append(out.Content, &yaml.Node{Kind: key.Kind, Tag: key.Tag, Value: key.Value, Style: key.Style}, shown(n.Content[i+1], below))
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			out.Content = append(out.Content, shown(item, keys))
		}
	case yaml.ScalarNode:
		if text := shownText(n.Value, keys); text != n.Value {
			*out = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
		}
	}
	return out
}

// shownText returns what is shown of a value that stands below keys.
func shownText(text string, keys []string) string {
	if len(keys) == 0 || text == "" {
		return text
	}
	switch last := keys[len(keys)-1]; {
	case slices.Contains(secretKeys, last) && !slices.Contains(keys, "balance"), // where hash names a field
		last != "cookie" && secretName.MatchString(last), // which names one
		slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(secretIn, k) }),
		slices.Contains(keys, "headers") && slices.Contains(keys, "request"):
		return removed
	}
	text = userInfo.ReplaceAllString(text, "${1}"+removed+"@")
	return urlQuery.ReplaceAllString(text, "${1}?"+removed)
}
