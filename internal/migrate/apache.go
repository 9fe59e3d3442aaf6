package migrate

import (
	"path"
	"slices"
	"strings"
)

// apache translates a configuration of Apache.
type apache struct {
	in     Input
	ledger *ledger
	doc    *document
	reader *apacheReader
	global []*directive // what stands in no virtual host
	// upstreams are the sections <Proxy balancer://NAME> by their names.
	upstreams map[string]*apacheBalancer
	// hidden are the .htaccess files that were read, by their directories.
	hidden map[string][]*directive
}

// Apache translates Apache's configuration: a whole one, a file of virtual hosts, or lines of one.
func Apache(in Input) (*Result, error) {
	a := &apache{in: in, doc: &document{file: in.Name, opts: &mapping{}}, upstreams: map[string]*apacheBalancer{}, hidden: map[string][]*directive{}}
	all, err := a.read()
	if err != nil {
		return nil, err
	}
	var hosts []*directive
	for _, d := range all {
		if d.name == "virtualhost" && d.section {
			hosts = append(hosts, d)
			continue
		}
		a.global = append(a.global, d)
	}
	a.balancers(all)
	a.fileOptions()
	var servers []*server
	for _, d := range hosts {
		a.ledger.took(d)
		servers = append(servers, a.host(d)...)
	}
	if len(hosts) == 0 {
		servers = a.host(&directive{Place: Place{in.Name, 1}, name: "virtualhost"})
	}
	a.timeouts(servers)
	a.settle(all)
	for _, block := range a.hidden {
		a.settle(block)
	}
	for _, b := range a.upstreams {
		a.doc.upstreams = append(a.doc.upstreams, b.upstream)
	}
	slices.SortFunc(a.doc.upstreams, func(x, y *upstream) int { return strings.Compare(x.name, y.name) })
	return finish(in, a.doc, servers, a.ledger, "Apache's "+shownFile(in.Name)), nil
}

// read reads the files. Where none of their lines loads a module, all modules count as loaded.
func (a *apache) read() ([]*directive, error) {
	dir := path.Dir(a.in.Name)
	var loads bool
	for _, assume := range []bool{false, true} {
		a.ledger = newLedger()
		a.reader = newApacheReader(a.in.Files, a.ledger, dir)
		a.reader.root = serverRoot(dir)
		a.reader.readEnv(a.reader.root + "/envvars")
		if !assume {
			a.reader.modules = map[string]bool{}
			for _, m := range builtIn {
				a.reader.modules[m+"_module"], a.reader.modules["mod_"+m+".c"] = true, true
			}
		}
		all, err := a.reader.file(a.in.Name, a.in.Text, 0)
		loads = a.reader.loads
		if err != nil || assume || loads {
			return all, err
		}
	}
	return nil, nil
}

// serverRoot is the directory that relative names start in where no line says so: of a file in one of Debian's directories, the one above.
func serverRoot(dir string) string {
	switch path.Base(dir) {
	case "sites-available", "sites-enabled", "conf-available", "conf-enabled", "mods-available", "mods-enabled", "conf.d", "conf":
		return path.Dir(dir)
	}
	return dir
}

// apacheHost is a virtual host while it is translated.
type apacheHost struct {
	*apache
	*server
	own []*directive
	// sections are those of the configuration around it and its own, in the order in which Apache merges them within a kind.
	sections []*directive
	proxied  []*apachePass
	docroot  string
	rootLine *directive
	extra    []*server
	first    []*location
	gates    []methodGate // of conditions for all methods but some
	// sockets are where requests for WebSockets go below a prefix, by rewrites.
	sockets  []apacheSocket
	patterns []apachePattern
	// controller is where what is no file leads to by the host's own rules.
	controller string
	// done are the rules of directories that were translated, with their paths.
	done map[string]bool
	// regexes are locations that go behind all others with a regex.
	regexes []*location
}

// host translates a virtual host. What it does for some of its names only makes servers of their own.
func (a *apache) host(d *directive) []*server {
	h := &apacheHost{apache: a, server: &server{Place: d.Place, opts: &mapping{}}, own: d.block, done: map[string]bool{}}
	for _, all := range [][]*directive{a.global, d.block} {
		for _, s := range all {
			if s.section {
				h.sections = append(h.sections, s)
			}
		}
	}
	h.readNames()
	h.readListens(d)
	h.readTLS()
	h.readRoot()
	h.readPasses()
	h.readRewrites()
	h.readRedirects()
	if !h.redirectsAll && len(h.locations) == 0 {
		h.allLocations()
	}
	for _, g := range slices.Backward(h.gates) {
		h.locations = g.close(h.locations)
	}
	h.onlyLoopback()
	h.logs()
	if len(h.names) == 0 && len(h.extra) > 0 && h.redirects {
		return h.extra
	}
	return append([]*server{h.server}, h.extra...)
}

// find returns a directive of the host, or of the configuration around it; the last one counts.
func (h *apacheHost) find(name string) *directive {
	for _, all := range [][]*directive{h.own, h.global} {
		if d := lastOf(all, name); d != nil {
			return d
		}
	}
	return nil
}

// all returns the directives with a name: those of the host, then those of the configuration around it.
func (h *apacheHost) all(names ...string) (found []*directive) {
	for _, all := range [][]*directive{h.own, h.global} {
		for _, d := range all {
			if slices.Contains(names, d.name) && !d.section {
				found = append(found, d)
			}
		}
	}
	return found
}

func lastOf(all []*directive, name string) (last *directive) {
	for _, d := range all {
		if d.name == name && !d.section {
			last = d
		}
	}
	return last
}

// on reports a switch.
func on(d *directive) bool { return d != nil && strings.EqualFold(d.arg(0), "on") }

func (h *apacheHost) readNames() {
	add := func(name string) bool {
		if _, rest, ok := strings.Cut(name, "://"); ok {
			name = rest
		}
		if host, port, ok := splitPort(name); ok && port != "" {
			name = host
		}
		if name == "*" {
			return true
		}
		host, ok := hostOf(name)
		if ok && !slices.Contains(h.names, host) && host != "_" {
			h.names = append(h.names, host)
		}
		return ok
	}
	for _, d := range h.own {
		if d.name != "servername" && d.name != "serveralias" {
			continue
		}
		h.ledger.took(d)
		for _, name := range d.args {
			if !add(name) {
				h.note(h.ledger.note(d, "matches hosts by "+name, "list the hosts"))
			}
		}
	}
	if d := lastOf(h.global, "servername"); d != nil {
		h.ledger.needless(d)
		if len(h.own) == 0 && add(d.arg(0)) {
			h.ledger.took(d)
		}
	}
}

// readListens finds the listeners of a host.
func (h *apacheHost) readListens(d *directive) {
	secure := on(h.find("sslengine"))
	add := func(address string) {
		if !slices.ContainsFunc(h.listens, func(l listen) bool { return l.address == address }) {
			h.listens = append(h.listens, listen{address: address, tls: secure})
		}
	}
	var listened []string
	for _, l := range h.global {
		if l.name == "listen" {
			if address, ok := listenAddress(l.arg(0)); ok {
				h.ledger.took(l)
				listened = append(listened, address)
			}
		}
	}
	for _, arg := range d.args {
		if !strings.Contains(arg, ":") || strings.HasSuffix(arg, "]") || strings.HasSuffix(arg, ":*") {
			for _, address := range listened {
				add(address)
			}
			if len(listened) == 0 {
				add(":80")
			}
			continue
		}
		_, port, _ := strings.Cut(arg[strings.LastIndexByte(arg, ':'):], ":")
		address, ok := listenAddress(arg)
		if !ok || len(listened) > 0 && !slices.Contains(listened, address) && slices.Contains(listened, ":"+port) {
			address = ":" + port // a name, or an address of a port that is listened on as a whole
		}
		for _, a := range openAt(listened, address, port) {
			add(a)
		}
	}
	if len(d.args) == 0 {
		for _, address := range listened {
			add(address)
		}
	}
	if len(h.listens) == 0 {
		add(map[bool]string{true: ":443", false: ":80"}[secure])
	}
}

// openAt returns where a host of an address and a port is reached: of all addresses it is only at those that are listened on.
func openAt(listened []string, address, port string) []string {
	var open []string
	for _, l := range listened {
		if address == ":"+port && l != address && strings.HasSuffix(l, ":"+port) {
			open = append(open, l)
		}
	}
	if slices.Contains(listened, address) || len(open) == 0 {
		open = []string{address}
	}
	return slices.DeleteFunc(open, func(a string) bool {
		_, ok := listenAddress(a)
		return !ok
	})
}

func (h *apacheHost) readTLS() {
	for _, d := range h.all("sslengine") {
		h.ledger.took(d)
	}
	if !h.secure() {
		return
	}
	certs, keys := h.tlsFiles("sslcertificatefile"), h.tlsFiles("sslcertificatekeyfile")
	for i, c := range certs {
		key := c
		if i < len(keys) {
			key = keys[i]
		}
		h.ledger.took(c, key)
		h.certs = append(h.certs, certPair{joinName(h.reader.root, c.arg(0)), joinName(h.reader.root, key.arg(0))})
	}
	if d := h.find("sslcertificatechainfile"); d != nil {
		h.note(h.ledger.note(d, "holds the chain of the certificate", "append it to the file of cert"))
	}
	if d := h.find("sslprotocol"); d != nil {
		h.ledger.took(d)
		args := strings.ToLower(strings.Join(d.args, " "))
		if args == "tlsv1.3" || args == "-all +tlsv1.3" || strings.Contains(args, "-tlsv1.2") {
			h.opts.set("min_version", text("1.3"))
		}
	}
	verify, ca := h.find("sslverifyclient"), h.find("sslcacertificatefile")
	if verify == nil || strings.EqualFold(verify.arg(0), "none") {
		return
	}
	if !strings.EqualFold(verify.arg(0), "require") || ca == nil {
		h.note(h.ledger.note(verify, "asks clients for a certificate that they need not have", "client_ca asks for one and refuses clients without"))
		return
	}
	h.ledger.took(verify, ca)
	h.opts.set("client_ca", text(joinName(h.reader.root, ca.arg(0))))
}

// tlsFiles returns the directives of the nearest level with a name.
func (h *apacheHost) tlsFiles(name string) (found []*directive) {
	for _, all := range [][]*directive{h.own, h.global} {
		for _, d := range all {
			if d.name == name {
				found = append(found, d)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// logs translates CustomLog and TransferLog.
func (h *apacheHost) logs() {
	for _, d := range h.own {
		if d.name == "customlog" || d.name == "transferlog" {
			if v := h.logOf(d, &h.notes); v != nil && !h.opts.has("access_log") && !h.redirectsAll {
				h.opts.set("access_log", v)
			}
		}
	}
}

func (a *apache) logOf(d *directive, notes *[]Note) value {
	to := d.arg(0)
	if strings.HasPrefix(to, "|") || strings.HasPrefix(to, "syslog") || len(d.args) > 2 {
		*notes = append(*notes, a.ledger.note(d, "writes a log to a program, or only some lines", "access_log writes to stderr or to a file"))
		return nil
	}
	a.ledger.took(d)
	if strings.HasPrefix(to, "/dev/std") || strings.HasPrefix(to, "/proc/self/fd/") {
		return word("stderr")
	}
	if to == "/dev/null" {
		return word("off")
	}
	m := &mapping{}
	m.set("to", text(joinName(a.reader.root, to)))
	m.set("format", word("combined"))
	return m
}

// fileOptions translates what holds for all hosts.
func (a *apache) fileOptions() {
	for _, d := range a.global {
		switch d.name {
		case "customlog", "transferlog":
			if v := a.logOf(d, &a.doc.notes); v != nil && !a.doc.opts.has("access_log") {
				a.doc.opts.set("access_log", v)
			}
		case "remoteipinternalproxy", "remoteiptrustedproxy":
			var from list
			if old, ok := a.doc.opts.get("trusted_proxies").(list); ok {
				from = old
			}
			for _, arg := range d.args {
				p, ok := network(arg)
				if !ok {
					a.doc.notes = append(a.doc.notes, a.ledger.note(d, "names proxies by no address", "put their addresses into trusted_proxies"))
					continue
				}
				from = append(from, text(networkText(p)))
			}
			a.ledger.took(d)
			if len(from) > 0 {
				a.doc.opts.set("trusted_proxies", from)
			}
		}
	}
}

// settle gives those directives a fate that nobody has looked at.
func (a *apache) settle(all []*directive) {
	for _, d := range all {
		if !a.ledger.seen(d) {
			a.settleOne(d)
		}
		a.settle(d.block)
	}
}

func (a *apache) settleOne(d *directive) {
	if m, ok := apacheMissing[d.name]; ok {
		a.doc.notes = append(a.doc.notes, a.ledger.note(d, m.does, m.do))
		return
	}
	if slices.Contains(apacheKnown, d.name) || isApacheNeedless(d.name) {
		a.ledger.needless(d)
		return
	}
	a.doc.notes = append(a.doc.notes, a.ledger.note(d, "is not known here", "look up what it is for"))
}
