package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// shortKeys are those of a site that stand for a location `/` with them.
var shortKeys = []string{"proxy", "static", "root", "redirect", "respond", "php", "index", "listing", "try_files", "front_controller", "params", "deny_scripts_in"}

// locations reads a site's locations: those of its list, and the one that it stands for itself.
func (d *decoder) locations(site object, above inherited) []Location {
	const allowed = "a list with at least one location"
	var items []*yaml.Node
	if n := site.get("locations"); n != nil {
		items = d.nonEmptyList(n, allowed)
	}
	for _, root := range d.include(site) {
		items = append(items, d.nonEmptyList(root, "a list of locations")...)
	}
	if short := d.shortLocation(site); short != nil {
		items = append(slices.Clip(items), short)
	} else if site.get("locations") == nil && site.get("include") == nil {
		d.add(site.pos, `no "locations"`, "at least one location for each site, or one of "+strings.Join(shortKeys[:6], ", "))
	}
	var locations []Location
	var shadows shadowFinder
	for _, item := range items {
		o, ok := d.object(item, inLocation)
		if !ok {
			continue
		}
		loc, path, matchOK := d.location(takeOverPHP(o, site), above)
		d.checkDeniedPaths(o, &loc)
		locations = append(locations, loc)
		if matchOK {
			shadows.add(loc, path)
		}
	}
	for _, s := range shadows.find(d.lineText) {
		d.errs = append(d.errs, Error{Line: s.pos.Line, Col: s.pos.Col, Found: s.problem.found, Allowed: s.problem.allowed, Unreachable: true})
	}
	return locations
}

// shortLocation returns the location `/` that a site stands for itself, or nil.
func (d *decoder) shortLocation(site object) *yaml.Node {
	var location *yaml.Node
	if !slices.ContainsFunc(site.entries, func(e entry) bool { return slices.Contains(shortKeys, e.key) && !slices.Contains(phpKeys, e.key) }) {
		return nil // what the site says of PHP is for its locations
	}
	for _, e := range site.entries {
		if !slices.Contains(shortKeys, e.key) {
			continue
		}
		if location == nil {
			place := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Line: e.keyNode.Line, Column: e.keyNode.Column}
			key, path := place, place
			key.Value, path.Value = "path", "/"
			location = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: place.Line, Column: place.Column, Content: []*yaml.Node{&key, &path}}
		}
		location.Content = append(location.Content, e.keyNode, e.value)
	}
	return location
}

// location reads one location; it tells its path as written, and whether that was good.
func (d *decoder) location(o object, above inherited) (loc Location, path scalar, matchOK bool) {
	loc = Location{
		Pos: o.pos, RewriteResponses: true, Timeouts: above.timeouts, AccessLog: above.accessLog,
		SlowClients: above.slowClients, Rules: above.rules,
	}
	if n := o.get("path"); n == nil {
		d.add(o.pos, `no "path"`, "a path for each location, such as path: /ws")
	} else {
		loc.Match, path, matchOK = d.match(n)
	}
	d.captures = loc.Match.Regexp
	defer func() { d.captures = nil }()
	if n := o.get("when"); n != nil {
		loc.When = d.when(n)
	}
	d.locationTargets(o, &loc)
	d.locationPHP(o, &loc)
	preferFewTunnels(&loc)
	d.locationAnswers(o, &loc)
	d.rules(o, &loc.Rules)
	d.locationTunnels(o, &loc)
	d.locationBackend(o, &loc)
	if n := o.get("access_log"); n != nil {
		d.accessLog(n, &loc.AccessLog)
	}
	d.slowClients(o, &loc.SlowClients)
	if matchOK && loc.Match.Regexp != nil {
		d.checkRegexLocation(o, &loc)
	}
	if matchOK && loc.Match.Kind == MatchExact && o.get("static") != nil && !strings.HasSuffix(loc.Match.Path, "/") {
		d.add(o.keyPos("static"), "static on the exact path "+quote(loc.Match.Path),
			"static on a prefix, whose rest names the file below the directory; or root, below which the whole path does")
	}
	return loc, path, matchOK
}

// locationAnswers reads what a location answers without asking anybody.
func (d *decoder) locationAnswers(o object, loc *Location) {
	if n := o.get("redirect"); n != nil {
		loc.Redirect = d.redirect(n)
	}
	if n := o.get("respond"); n != nil {
		loc.Respond = d.respond(n)
	}
	if n := o.get("rewrite"); n != nil {
		loc.Rewrites = d.rewrites(n, false)
	}
	for i, key := range answering {
		if o.get(key) == nil {
			continue
		}
		for _, other := range slices.Concat(serving, answering[i+1:]) {
			if o.get(other) != nil {
				d.add(o.keyPos(key), "both "+key+" and "+other+" on one location", "one of them; a location of its own for the other")
			}
		}
	}
}

// locationTunnels reads how a location carries WebSocket connections.
func (d *decoder) locationTunnels(o object, loc *Location) {
	tunnels := o.get("websocket") != nil || o.get("proxy") != nil
	if n := o.get("mode"); n != nil {
		if !tunnels {
			d.add(o.keyPos("mode"), "mode on a location without websocket", "mode only beside websocket")
		}
		if d.word(n, "tunnel", "relay") == 1 {
			loc.Mode = ModeRelay
		}
	}
	d.maxMessage(o, loc)
	if n := o.get("ping"); n != nil {
		if !tunnels || loc.Mode == ModeRelay {
			d.add(o.keyPos("ping"), "ping on a location without a tunnel", "ping only beside websocket, with mode: tunnel")
		}
		d.duration(n, &loc.Ping)
	}
}

// locationBackend reads how a location speaks to its backends.
func (d *decoder) locationBackend(o object, loc *Location) {
	if n := o.get("host"); n != nil {
		loc.BackendHost = d.word(n, "keep", "backend") == 1
	}
	if n := o.get("rewrite_responses"); n != nil {
		d.boolean(n, &loc.RewriteResponses)
	}
	if n := o.get("forwarded"); n != nil {
		d.boolean(n, &loc.Forwarded)
	}
	if n := o.get("timeouts"); n != nil {
		d.timeouts(n, inLocationTimeouts, &loc.Timeouts)
	}
}

// maxMessage reads the size of the longest message of a relay.
func (d *decoder) maxMessage(o object, loc *Location) {
	if loc.Mode == ModeRelay {
		loc.MaxMessage = defaultMaxMessage
	}
	n := o.get("max_message")
	if n == nil {
		return
	}
	if loc.Mode != ModeRelay {
		d.add(o.keyPos("max_message"), "max_message on a location without a relay", "max_message only beside mode: relay")
	}
	if d.size(n, &loc.MaxMessage) && loc.MaxMessage > d.relayMemory/maxMessageShare {
		d.add(posOf(deref(n)), "max_message of "+sizeText(loc.MaxMessage),
			"an eighth of limits.relay_memory at most, which is "+sizeText(d.relayMemory/maxMessageShare))
	}
}

// word reads one of two words, and returns which; 0 also after a mistake.
func (d *decoder) word(n *yaml.Node, first, second string) int {
	s, ok := d.scalar(n, first+" or "+second)
	if ok && s.text == second {
		return 1
	}
	if ok && s.text != first {
		d.add(s.pos, "unknown value "+s.shown(), first+" or "+second+misspelt(s.written, first, second))
	}
	return 0
}

// locationTargets reads where a location leads, and how TLS backends are checked.
func (d *decoder) locationTargets(o object, loc *Location) {
	ws, http, proxy := o.get("websocket"), o.get("http"), o.get("proxy")
	if !slices.ContainsFunc(o.entries, func(e entry) bool { return slices.Contains(leading, e.key) }) {
		d.add(o.pos, "a location that leads nowhere", "at least one of "+strings.Join(leading, ", "))
	}
	check := d.tlsCheck(o)
	switch {
	case ws != nil:
		loc.WebSocket = d.target(ws, check, "ws", "wss")
	case proxy != nil:
		loc.HTTP, loc.WebSocket = d.proxyTarget(proxy, check)
	}
	if http != nil {
		loc.HTTP = d.target(http, check, "http", "https")
	}
	for _, key := range []string{"websocket", "http"} {
		if proxy != nil && o.get(key) != nil {
			d.add(o.keyPos(key), "both proxy and "+key+" on one location", "proxy, which is for pages and sockets, or http and websocket")
		}
	}
	d.servedFiles(o, &loc.Files)
	unsure := ws != nil && loc.WebSocket == nil || (http != nil || proxy != nil) && loc.HTTP == nil
	usesTLS := loc.WebSocket != nil && loc.WebSocket.TLS || loc.HTTP != nil && loc.HTTP.TLS
	if !unsure && !usesTLS {
		d.checkNoTLSKeys(o, "a location without a wss or https target")
	}
}

// The keys by which a location leads somewhere.
var (
	serving   = []string{"proxy", "websocket", "http", "static", "root", "php"}
	answering = []string{"redirect", "respond"}
	leading   = slices.Concat(serving, answering, []string{"rewrite"})
)

// checkNoTLSKeys reports tls_verify and tls_ca where no TLS is spoken to a backend.
func (d *decoder) checkNoTLSKeys(o object, where string) {
	for _, key := range []string{"tls_verify", "tls_ca"} {
		if o.get(key) != nil {
			d.add(o.keyPos(key), key+" on "+where, key+" only for wss:// and https:// targets")
		}
	}
}

// checkRegexLocation reports what needs a literal prefix, on a location that has none.
func (d *decoder) checkRegexLocation(o object, loc *Location) {
	for _, t := range []*Target{loc.WebSocket, loc.HTTP} {
		if t != nil && t.Path != "" && t.PathTemplate.Empty() {
			d.add(t.Pos, "target "+quote(t.URL)+" with a path on a regex location",
				"a target without a path, or one with a part of the regex in it, such as /$1: a regex has no prefix that the path could replace")
		}
	}
	if o.get("static") != nil {
		d.add(o.keyPos("static"), "static on a regex location", "static on a literal path, whose prefix is cut off; or root, below which the whole path names a file")
	}
}
