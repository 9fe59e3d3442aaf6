package config

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Compress says which answers are compressed for clients that accept that: with zstd, br or gzip.
type Compress struct {
	On bool
	// Types are media types; one that ends in /* means all of its kind. Default: text and what is much like it.
	Types []string
	// MinSize is the length of the shortest answer that is compressed, where that is known. Default 1 KiB.
	MinSize int64
	// Level is from 1, the fastest, to 9, the smallest. Default 4.
	Level int
}

// defaultCompressTypes are types of text, and of data that are as good as.
var defaultCompressTypes = []string{
	"text/*", "application/javascript", "application/json", "application/ld+json", "application/manifest+json", "application/xml",
	"application/atom+xml", "application/rss+xml", "application/xhtml+xml", "application/geo+json", "application/wasm", "application/graphql-response+json",
	"application/problem+json", "image/svg+xml", "image/x-icon", "font/ttf", "font/otf", "application/vnd.ms-fontobject",
}

// compress reads true, false or a mapping.
func (d *decoder) compress(n *yaml.Node, c *Compress) {
	*c = Compress{Types: defaultCompressTypes, MinSize: 1 << 10, Level: 4}
	if deref(n).Kind != yaml.MappingNode {
		d.boolean(n, &c.On)
		return
	}
	o, ok := d.object(n, inCompress)
	if !ok {
		return
	}
	c.On = true
	if v := o.get("types"); v != nil {
		c.Types = nil
		for _, s := range d.scalars(v, "a list of media types, such as [text/*, application/json]") {
			kind, sub, found := strings.Cut(strings.ToLower(s.text), "/")
			if !found || kind == "" || sub == "" || strings.Contains(kind, "*") || strings.Contains(sub, "*") && sub != "*" || strings.ContainsAny(sub, "; ") {
				d.add(s.pos, "bad media type "+s.shown(), "a media type such as application/json, or text/* for all of a kind")
				continue
			}
			c.Types = append(c.Types, kind+"/"+sub)
		}
	}
	if v := o.get("min_size"); v != nil {
		d.size(v, &c.MinSize)
	}
	if v := o.get("level"); v != nil {
		if s, ok := d.scalar(v, "a level from 1 to 9"); ok {
			level, err := strconv.Atoi(s.text)
			if err != nil || level < 1 || level > 9 {
				d.add(s.pos, "bad level "+s.shown(), "a level from 1, the fastest, to 9, the smallest")
			} else {
				c.Level = level
			}
		}
	}
}
