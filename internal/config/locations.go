package config

import (
	"strings"

	"gopkg.in/yaml.v3"
)

func (d *decoder) locations(n *yaml.Node, above inherited) []Location {
	var locations []Location
	var shadows shadowFinder
	for _, item := range d.nonEmptyList(n, "a list with at least one location") {
		o, ok := d.object(item, inLocation)
		if !ok {
			continue
		}
		loc, path, matchOK := d.location(o, above)
		locations = append(locations, loc)
		if matchOK {
			shadows.add(loc.Match, path)
		}
	}
	for _, s := range shadows.find() {
		d.addProblem(s.pos, s.problem)
	}
	return locations
}

// location reads one location; it tells its path as written, and whether that was good.
func (d *decoder) location(o object, above inherited) (loc Location, path scalar, matchOK bool) {
	loc = Location{
		Pos: o.pos, RewriteResponses: true, Timeouts: above.timeouts, AccessLog: above.accessLog,
		SlowClients: above.slowClients,
	}
	if n := o.get("path"); n == nil {
		d.add(o.pos, `no "path"`, "a path for each location, such as path: /ws")
	} else {
		loc.Match, path, matchOK = d.match(n)
	}
	d.locationTargets(o, &loc)
	d.staticSwitch(o, "serve_sources", &loc.ServeSources)
	d.staticSwitch(o, "precompressed", &loc.Precompressed)
	if n := o.get("mode"); n != nil {
		if o.get("websocket") == nil {
			d.add(o.keyPos("mode"), "mode on a location without websocket", "mode only beside websocket")
		}
		if d.word(n, "tunnel", "relay") == 1 {
			loc.Mode = ModeRelay
		}
	}
	d.maxMessage(o, &loc)
	if n := o.get("ping"); n != nil {
		if o.get("websocket") == nil || loc.Mode == ModeRelay {
			d.add(o.keyPos("ping"), "ping on a location without a tunnel", "ping only beside websocket, with mode: tunnel")
		}
		d.duration(n, &loc.Ping)
	}
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
	if n := o.get("access_log"); n != nil {
		d.accessLog(n, &loc.AccessLog)
	}
	d.slowClients(o, &loc.SlowClients)
	if matchOK && loc.Match.Regexp != nil {
		d.checkRegexLocation(o, &loc)
	}
	if matchOK && loc.Match.Kind == MatchExact && o.get("static") != nil && !strings.HasSuffix(loc.Match.Path, "/") {
		d.add(o.keyPos("static"), "static on the exact path "+quote(loc.Match.Path),
			"static on a prefix, whose rest names the file below the directory")
	}
	return loc, path, matchOK
}

// staticSwitch reads a boolean that says something of a location's directory.
func (d *decoder) staticSwitch(o object, key string, on *bool) {
	n := o.get(key)
	if n == nil {
		return
	}
	if o.get("static") == nil {
		d.add(o.keyPos(key), key+" on a location without static", key+" only beside static")
	}
	d.boolean(n, on)
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

// locationTargets reads websocket, http and static, and how TLS backends are checked.
func (d *decoder) locationTargets(o object, loc *Location) {
	ws, http, static := o.get("websocket"), o.get("http"), o.get("static")
	if ws == nil && http == nil && static == nil {
		d.add(o.pos, "a location that leads nowhere", "at least one of websocket, http and static")
	}
	check := d.tlsCheck(o)
	if ws != nil {
		loc.WebSocket = d.target(ws, check, "ws", "wss")
	}
	if http != nil {
		loc.HTTP = d.target(http, check, "http", "https")
	}
	if static != nil {
		loc.Static = d.directory(static)
	}
	if http != nil && static != nil {
		pos := o.keyPos("static")
		if other := o.keyPos("http"); other.Line > pos.Line || other.Line == pos.Line && other.Col > pos.Col {
			pos = other
		}
		d.add(pos, "both http and static on one location", "one of them")
	}
	unsure := ws != nil && loc.WebSocket == nil || http != nil && loc.HTTP == nil
	usesTLS := loc.WebSocket != nil && loc.WebSocket.TLS || loc.HTTP != nil && loc.HTTP.TLS
	if !unsure && !usesTLS {
		d.checkNoTLSKeys(o, "a location without a wss or https target")
	}
}

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
		if t != nil && t.Path != "" {
			d.add(t.Pos, "target "+quote(t.URL)+" with a path on a regex location",
				"a target without a path: a regex has no prefix that the path could replace")
		}
	}
	if o.get("static") != nil {
		d.add(o.keyPos("static"), "static on a regex location", "static on a literal path, whose prefix is cut off")
	}
}
