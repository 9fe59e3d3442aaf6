package migrate

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings translates what holds for a location whatever it serves.
func (h *apacheHost) settings(l *location, c apacheContent, levels apacheLevels) {
	if l.opts.has("respond") || l.opts.has("redirect") {
		h.headers(l, levels, false)
		return
	}
	h.access(l, levels)
	if deny := l.opts.get("deny"); deny != nil && deny.flow() == "[all]" && !l.opts.has("allow") && !l.opts.has("basic_auth") {
		l.closed("403")
		h.headers(l, levels, false)
		h.errorPages(l, levels)
		return
	}
	if d := levels.last("limitrequestbody"); d != nil {
		if n, err := strconv.ParseInt(d.arg(0), 10, 64); err == nil {
			h.ledger.took(d)
			if n > 0 {
				l.opts.set("max_body", sizeText(n))
			}
		}
	}
	h.compress(l, levels)
	h.headers(l, levels, c.pass != nil)
	h.expires(l, levels)
	h.errorPages(l, levels)
}

// compress translates the filter DEFLATE.
func (h *apacheHost) compress(l *location, levels apacheLevels) {
	var types []string
	for _, d := range levels.every("addoutputfilterbytype", "setoutputfilter", "filterprovider") {
		filter := strings.ToUpper(d.arg(0))
		if filter != "DEFLATE" && filter != "BROTLI_COMPRESS" && filter != "BROTLI_COMPRESS;DEFLATE" {
			continue
		}
		h.ledger.took(d)
		types = append(types, d.args[1:]...)
		if d.name == "setoutputfilter" {
			types = append(types, "text/html")
		}
	}
	if len(types) > 0 {
		l.opts.set("compress", compressed(types))
	}
}

// expires translates ExpiresActive and what stands with it.
func (h *apacheHost) expires(l *location, levels apacheLevels) {
	if !on(levels.last("expiresactive")) {
		return
	}
	d := levels.last("expiresdefault")
	for _, by := range levels.every("expiresbytype") {
		l.note(h.ledger.note(by, "says by type how long files may be kept", "write expires on a location for their names, such as ~* \\.(css|js)$"))
	}
	if d == nil {
		return
	}
	age, ok := expiresAge(strings.Join(d.args, " "))
	if !ok {
		l.note(h.ledger.note(d, "says how long files may be kept in a way that cannot be said", "write expires"))
		return
	}
	h.ledger.took(d)
	if l.opts.has("root") || l.opts.has("static") {
		l.opts.set("expires", durationText(age))
		return
	}
	rules := newHeaderRules()
	rules.set.set("Cache-Control", text("max-age="+strconv.Itoa(int(age.Seconds()))))
	if !l.opts.has("headers") {
		responseHeaders(l.opts, headerRules{set: &mapping{}, add: &mapping{}}, rules)
	}
}

// expiresAge reads A3600 or "access plus 1 month".
func expiresAge(s string) (time.Duration, bool) {
	const day = 24 * time.Hour
	if rest, ok := strings.CutPrefix(s, "A"); ok {
		if n, err := strconv.ParseInt(rest, 10, 32); err == nil && n > 0 {
			return time.Duration(n) * time.Second, true
		}
	}
	words := strings.Fields(strings.ToLower(s))
	if len(words) < 3 || words[0] != "access" && words[0] != "now" {
		return 0, false
	}
	words = words[1:]
	if words[0] == "plus" {
		words = words[1:]
	}
	units := map[string]time.Duration{
		"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": day, "week": 7 * day, "month": 30 * day, "year": 365 * day,
	}
	var total time.Duration
	for ; len(words) >= 2; words = words[2:] {
		n, err := strconv.ParseInt(words[0], 10, 16)
		unit := units[strings.TrimSuffix(words[1], "s")]
		if err != nil || unit == 0 || n < 0 {
			return 0, false
		}
		total += time.Duration(min(n, 10*365)) * unit
	}
	return total, total > 0 && len(words) == 0
}

// errorPages translates ErrorDocument with files.
func (h *apacheHost) errorPages(l *location, levels apacheLevels) {
	pages := &mapping{}
	for _, d := range levels.every("errordocument") {
		to := d.arg(1)
		if !strings.HasPrefix(to, "/") || strings.ContainsAny(to, "?%$") || strings.Contains(to, "/cgi-bin/") {
			if to != "default" && len(d.args) > 1 {
				l.note(h.ledger.note(d, "answers errors by other means than a file", "write error_pages with a file"))
			}
			continue
		}
		c := h.content(to)
		if c.dir == "" || strings.HasSuffix(to, ".php") {
			l.note(h.ledger.note(d, "answers errors with what a program makes", "write error_pages with a file"))
			continue
		}
		h.ledger.took(d)
		pages.set(d.arg(0), text(c.dir))
	}
	if !pages.empty() {
		l.opts.set("error_pages", pages)
	}
}

// access translates who is let in.
func (h *apacheHost) access(l *location, levels apacheLevels) {
	var rules []*directive
	for _, level := range slices.Backward(levels) {
		for _, d := range level {
			if d.name == "require" || strings.HasPrefix(d.name, "require") && d.section {
				rules = append(rules, d)
			}
		}
		if len(rules) > 0 {
			break
		}
	}
	if len(rules) == 0 {
		h.oldAccess(l, levels)
		return
	}
	need, problem := h.requires(rules, true, levels)
	if problem != nil {
		l.note(h.ledger.refuse(problem, "lets in those whom allow, deny, basic_auth cannot name", "nobody is let in here until you say who"))
		setAccess(l.opts, nil, []string{"all"})
		return
	}
	if need.everyone && len(need.but) == 0 {
		h.oldAccess(l, levels) // both have to let a client in
		return
	}
	if need.some != nil && !need.everyone {
		setAccess(l.opts, need.some, need.but)
	} else if len(need.but) > 0 {
		setAccess(l.opts, nil, need.but)
	}
	if need.user && !h.basicAuth(l, levels, need) {
		return
	}
	if need.user && need.any && (need.some != nil || len(need.but) > 0) {
		l.opts.set("satisfy", word("any"))
	}
	if d := levels.last("satisfy"); d != nil && strings.EqualFold(d.arg(0), "any") && l.opts.has("basic_auth") && (l.opts.has("allow") || l.opts.has("deny")) {
		l.opts.set("satisfy", word("any"))
	}
}

// requirement is who is let in: some addresses, all but some, users.
type requirement struct {
	everyone bool
	some     []string // addresses; not nil where only they are let in
	but      []string
	user     bool
	users    []string // whom of the users; nil for all
	any      bool     // a user or an address is enough
}

// requires reads Require lines; any says that one of them is enough. It returns the first that cannot be said.
func (h *apacheHost) requires(rules []*directive, any bool, levels apacheLevels) (r requirement, problem *directive) {
	r.any = any
	denied := false
	for _, d := range rules {
		if d.section {
			inner, problem := h.requires(d.block, d.name == "requireany", levels)
			if problem != nil || d.name == "requirenone" || len(rules) > 1 && (inner.user || inner.some != nil || len(inner.but) > 0) {
				return r, d
			}
			h.ledger.took(d)
			if len(rules) == 1 {
				return inner, nil
			}
			r.everyone = r.everyone || inner.everyone
			continue
		}
		args := d.args
		not := len(args) > 0 && strings.EqualFold(args[0], "not")
		if not {
			args = args[1:]
		}
		if len(args) == 0 {
			return r, d
		}
		h.ledger.took(d)
		switch kind := strings.ToLower(args[0]); {
		case kind == "all" && len(args) > 1:
			granted := strings.EqualFold(args[1], "granted") != not
			r.everyone = r.everyone || granted
			denied = denied || !granted
		case kind == "ip" || kind == "local":
			list, ok := requiredAddresses(args)
			if !ok {
				return r, d
			}
			if not {
				r.but = append(r.but, list...)
			} else {
				r.some = append(r.some, list...)
			}
		case (kind == "valid-user" || kind == "user") && !not:
			r.user = true
			if kind == "user" {
				r.users = append(r.users, args[1:]...)
			}
		case kind == "method" && !not:
			return r, d
		default:
			return r, d
		}
	}
	switch {
	case denied && (!any || !r.everyone && !r.user && r.some == nil):
		r = requirement{some: []string{}, but: []string{"all"}}
	case any && r.everyone && len(r.but) == 0:
		r = requirement{everyone: true}
	}
	return r, nil
}

// requiredAddresses reads what stands behind Require ip, or Require local.
func requiredAddresses(args []string) (list []string, ok bool) {
	if strings.EqualFold(args[0], "local") {
		return []string{"127.0.0.0/8", "::1"}, true
	}
	for _, a := range args[1:] {
		p, ok := apacheNetwork(a)
		if !ok {
			return nil, false
		}
		list = append(list, networkText(p))
	}
	return list, len(list) > 0
}

var partialAddress = regexp.MustCompile(`^(\d{1,3}\.){0,2}\d{1,3}\.?$`)

// apacheNetwork reads an address, a network, one with a mask, or the beginning of an address.
func apacheNetwork(s string) (netip.Prefix, bool) {
	if p, ok := network(s); ok {
		return p, true
	}
	if address, mask, ok := strings.Cut(s, "/"); ok {
		a, err1 := netip.ParseAddr(address)
		m, err2 := netip.ParseAddr(mask)
		if err1 != nil || err2 != nil || !a.Is4() || !m.Is4() {
			return netip.Prefix{}, false
		}
		bits := 0
		for _, b := range m.As4() {
			for ; b&0x80 != 0; b <<= 1 {
				bits++
			}
		}
		return netip.PrefixFrom(a, bits).Masked(), true
	}
	if !partialAddress.MatchString(s) {
		return netip.Prefix{}, false
	}
	parts := strings.Split(strings.TrimSuffix(s, "."), ".")
	bits := 8 * len(parts)
	for len(parts) < 4 {
		parts = append(parts, "0")
	}
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	return netip.PrefixFrom(a, bits), err == nil
}

// oldAccess translates Order, Allow and Deny.
func (h *apacheHost) oldAccess(l *location, levels apacheLevels) {
	var allows, denies []accessRule
	open := true
	if len(levels.innermost("order", "allow", "deny")) == 0 {
		return
	}
	for _, d := range levels.innermost("order", "allow", "deny") {
		h.ledger.took(d)
		if d.name == "order" {
			open = !strings.EqualFold(strings.Join(d.args, ""), "allow,deny")
			continue
		}
		for _, a := range d.args[min(1, len(d.args)):] {
			r := accessRule{allow: d.name == "allow", all: strings.EqualFold(a, "all")}
			var ok bool
			if r.network, ok = apacheNetwork(a); !ok && !r.all {
				l.note(h.ledger.refuse(d, "names clients by no address", "nobody is let in here until you say who"))
				setAccess(l.opts, nil, []string{"all"})
				return
			}
			if r.allow {
				allows = append(allows, r)
			} else {
				denies = append(denies, r)
			}
		}
	}
	rules := append(denies, allows...)
	if open {
		rules = append(allows, denies...)
	}
	allow, deny := accessLists(rules, open)
	setAccess(l.opts, allow, deny)
}

// basicAuth translates AuthType Basic; where it cannot, nobody is let in.
func (h *apacheHost) basicAuth(l *location, levels apacheLevels, need requirement) bool {
	kind, name, file := levels.last("authtype"), levels.last("authname"), levels.last("authuserfile")
	at := kind
	if at == nil {
		at = &directive{Place: l.Place, name: "require", text: "Require valid-user"}
	}
	if kind == nil || !strings.EqualFold(kind.arg(0), "basic") || file == nil {
		l.note(h.ledger.refuse(at, "asks for users in a way that is not known here", "nobody is let in here: write basic_auth or auth_request"))
		setAccess(l.opts, nil, []string{"all"})
		return false
	}
	users := joinName(h.reader.root, file.arg(0))
	if others := h.otherUsers(users, need.users); others != "" {
		l.note(h.ledger.refuse(file, "holds other users than those who are let in ("+others+")", "nobody is let in here: write basic_auth with a file of those users only"))
		setAccess(l.opts, nil, []string{"all"})
		return false
	}
	h.ledger.took(kind, file)
	m := &mapping{}
	if name != nil {
		h.ledger.took(name)
		m.set("realm", text(strings.Join(name.args, " ")))
	} else {
		m.set("realm", text("Restricted"))
	}
	m.set("users", text(users))
	l.opts.set("basic_auth", m)
	return true
}

// otherUsers names a user of a file who is none of those let in; "" if there is none. Of a file that is not there nothing is known: then it names it.
func (h *apacheHost) otherUsers(file string, users []string) string {
	if users == nil {
		return ""
	}
	data, err := readText(h.in.Files, file)
	if err != nil {
		return "it cannot be read"
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		name, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && !strings.HasPrefix(name, "#") && !slices.Contains(users, name) {
			return name
		}
	}
	return ""
}
