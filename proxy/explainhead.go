package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/tags"
)

// conclude tells what is decided, and what comes of it.
func (e *Explanation) conclude(x *exchange, d decision, script meaning) {
	if l := x.location; l != nil && l.guarded {
		if v, _ := l.judgeAddress(x.in.Client); v == refuse {
			d = refusal(http.StatusForbidden, "access from this address is not allowed")
		}
	}
	e.Status = d.status
	switch d.action {
	case refuseRequest:
		e.Decision = fmt.Sprintf("refused with %d: %s", d.status, d.reason)
		if d.err != nil {
			e.Decision += " (" + d.err.Error() + ")"
		}
	case answerOptions:
		e.Status, e.Decision = http.StatusOK, "OPTIONS * is answered here"
	case giveCA:
		e.Status, e.Decision = http.StatusOK, "the certificate of the local CA"
	case redirect:
		e.Decision = fmt.Sprintf("redirected with %d to %s: %s", d.status, d.location, d.reason)
	case awaitCertificate:
		e.Status, e.Decision = http.StatusServiceUnavailable, "a page that comes again until the first certificate is there"
	case respond:
		e.Status, e.Decision = x.location.Respond.Status, fmt.Sprintf("answered with %d, as the location says", x.location.Respond.Status)
	case giveStatus:
		e.Decision = fmt.Sprintf("answered with %d, which try_files ends in", d.status)
	case serveStatic:
		e.Decision = "a file below " + x.location.Directory()
	case servePHP:
		e.Decision = "the script " + x.location.Directory() + "/" + script.name + ", run by " + x.location.PHP.Target.URL
		e.explainServers(x, x.location.PHP.Target, false)
		e.explainParams(x, script)
	case openTunnel:
		target := x.location.WebSocket
		e.Decision = "a WebSocket of " + target.URL + ", as a " + x.location.Mode.String()
		e.explainServers(x, target, true)
		e.explainHead(x, target, func() head.Request {
			return (&upgrade{reply: reply{exchange: x, upstream: x.location.websocket}}).request(nil)
		})
	case forwardHTTP:
		target := x.location.HTTP
		e.Decision = "asked of " + target.URL
		e.explainServers(x, target, false)
		e.explainHead(x, target, func() head.Request {
			f := &forward{delivery{reply: reply{exchange: x, upstream: x.location.http}}}
			f.upload.x = &f.reply
			return f.request(nil)
		})
	}
	if d.hint != "" {
		e.Notes = append(e.Notes, d.hint)
	}
	e.explainAnswer(x, d)
}

// explainHead tells of each line that a backend is sent where it comes from. The head is made again with one rule more each time, so that what a rule does is seen.
func (e *Explanation) explainHead(x *exchange, target *config.Target, request func() head.Request) {
	configured := x.location
	defer func() { x.location = configured }()
	rules := configured.Headers.Request
	var lines []Line
	for n := range len(rules) + 1 {
		c, l := *configured.Location, *configured
		c.Headers.Request, l.Location = rules[:n], &c
		x.location = &l
		out := request()
		next := headLines(&out)
		for i := range next {
			j := slices.IndexFunc(lines, func(line Line) bool { return line.Text == next[i].Text })
			switch {
			case j >= 0:
				next[i].Reason = lines[j].Reason
			case n == 0:
				next[i].Reason = x.whyLine(next[i].Text, target)
			default:
				next[i].Reason = "headers, request: of the " + configured.level(n-1)
			}
		}
		for _, line := range lines[min(1, len(lines)):] {
			if name, _, _ := strings.Cut(line.Text, ":"); !hasField(next, name) {
				e.Dropped = append(e.Dropped, Line{line.Text, "headers, request: removed by the " + configured.level(n-1)})
			}
		}
		lines = next
	}
	e.Head = lines
	e.explainDropped(x)
}

// level says on which level of the configuration the nth of a location's rules for requests stands.
func (l *location) level(n int) string {
	if n < len(l.site.Headers.Request) {
		return "site, or of the whole file"
	}
	return "location"
}

// headLines are the lines of a head as a backend is sent them.
func headLines(r *head.Request) (lines []Line) {
	for line := range strings.SplitSeq(strings.TrimSuffix(string(http1.AppendRequest(nil, r)), "\r\n\r\n"), "\r\n") {
		lines = append(lines, Line{Text: line})
	}
	return lines
}

// hasField reports whether a head has a field of a name.
func hasField(lines []Line, name string) bool {
	return slices.ContainsFunc(lines[1:], func(line Line) bool {
		other, _, _ := strings.Cut(line.Text, ":")
		return strings.EqualFold(other, name)
	})
}

// whyLine says where a line of a backend's head comes from, rules aside.
func (x *exchange) whyLine(text string, target *config.Target) string {
	name, value, isField := strings.Cut(text, ": ")
	if !isField || strings.Contains(name, " ") {
		return x.whyTarget(target)
	}
	if name == tags.IDField {
		return "what the tunnel is known by, if it opens"
	}
	trusted := "the client is one of trusted_proxies, and believed"
	switch head.IDOf(name) {
	case head.Host:
		if x.location.BackendHost {
			return "host: backend"
		}
		return "as the client asked for it"
	case head.Upgrade:
		return "a WebSocket is asked for"
	case head.Connection:
		if value == "close" {
			return "the connection ends with the answer"
		}
		return "a WebSocket is asked for, on a connection of its own"
	case head.ContentLength, head.TransferEncoding:
		return "how the body is framed"
	case head.CDNLoop:
		return "makes a request that comes back known (RFC 8586)"
	case head.XForwardedFor:
		if x.in.Trusted {
			return trusted + "; its own address is added"
		}
		return "who connected"
	case head.XForwardedHost, head.XForwardedPort, head.XForwardedProto, head.XRealIP:
		if x.in.Trusted {
			return trusted
		}
		return "how the client connected, and to what"
	case head.XClientSubject:
		return "whom the client's certificate names"
	case head.Forwarded:
		if x.location.Forwarded {
			return "forwarded: true"
		}
		return trusted
	}
	return "as the client sent it"
}

// whyTarget says how the request target came about.
func (x *exchange) whyTarget(target *config.Target) string {
	switch {
	case !target.PathTemplate.Empty():
		return "the target's path, with what the location's regex captured"
	case target.Path != "" && x.location.Match.Kind != config.MatchExact && x.location.Match.Path != "":
		return target.Path + " of the target takes the place of " + x.location.Match.Path
	case target.Path != "":
		return "the target's path"
	case x.in.Target != x.in.Request.Target:
		return "rewritten"
	}
	return "as it came: the target has no path"
}

// explainDropped tells of the client's own fields that do not go on.
func (e *Explanation) explainDropped(x *exchange) {
	r := x.in.Request
	protocol := ""
	if len(e.Head) > 0 && hasField(e.Head, "Upgrade") {
		protocol = r.Protocol
	}
	listed := rewrite.ListedIn(r.Fields)
	for i := range r.Fields {
		f := &r.Fields[i]
		why := x.in.WhyDropped(f, listed, x.location.Forwarded, protocol)
		gone := !hasField(e.Head, f.Name) && !hasField(append([]Line{{}}, e.Dropped...), f.Name)
		switch {
		case why == "" && gone && f.ID == head.SecWebSocketExtensions:
			e.Dropped = append(e.Dropped, Line{f.Name + ": " + f.Value, "each side of a relay has extensions of its own"})
		case why == "", f.ID == head.Host, protocol != "" && (f.ID == head.Upgrade || f.ID == head.Connection):
		default:
			e.Dropped = append(e.Dropped, Line{f.Name + ": " + f.Value, why})
		}
	}
}
