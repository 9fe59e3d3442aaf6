package migrate

import (
	"path"
	"slices"
	"strings"
)

// nginx translates a configuration of nginx.
type nginx struct {
	in        Input
	dir       string
	ledger    *ledger
	doc       *document
	http      *scope
	upstreams map[string]*upstream // by nginx's name
	maps      map[string]*directive
	geos      map[string]*directive
	logs      map[string]string // the formats of access logs, by their names
	servers   []*server
}

// Nginx translates nginx's configuration: a whole one, a file of servers, or a file of locations.
func Nginx(in Input) (*Result, error) {
	n := &nginx{
		in: in, dir: path.Dir(in.Name), ledger: newLedger(), doc: &document{file: in.Name, opts: &mapping{}},
		upstreams: map[string]*upstream{}, maps: map[string]*directive{}, geos: map[string]*directive{}, logs: map[string]string{},
	}
	r := &nginxReader{files: in.Files, dir: n.dir, ledger: n.ledger, budget: maxFiles}
	all, err := r.read(in.Name, in.Text, 0)
	if err != nil {
		return nil, err
	}
	n.main(all)
	n.settle(all)
	return finish(in, n.doc, n.servers, n.ledger, "nginx's "+shownFile(in.Name)), nil
}

// main finds what the file is: a whole configuration, servers, or locations.
func (n *nginx) main(all []*directive) {
	top := &scope{own: all}
	var block []*directive
	for _, d := range top.here("http") {
		n.ledger.took(d)
		block = append(block, d.block...)
	}
	if block != nil {
		for _, d := range top.here("stream", "mail") {
			n.doc.notes = append(n.doc.notes, n.ledger.note(d, "serves other protocols than HTTP", "leave it to nginx, on ports of its own"))
			n.skip(d.block)
		}
		n.httpBlock(&scope{own: block})
		return
	}
	if len(top.here("server", "upstream")) > 0 {
		n.httpBlock(top)
		return
	}
	n.httpBlock(&scope{})
	n.declare(top)
	if len(all) > 0 {
		d := &directive{Place: Place{n.in.Name, all[0].Line}, name: "server", section: true, block: all}
		n.servers = append(n.servers, n.server(d)...)
	}
}

// httpBlock translates what stands in http.
func (n *nginx) httpBlock(sc *scope) {
	n.http = sc
	n.declare(sc)
	n.trusted(sc)
	n.fileLog(sc)
	for _, d := range sc.here("server") {
		n.ledger.took(d)
		n.servers = append(n.servers, n.server(d)...)
	}
	for _, u := range n.upstreams {
		n.doc.upstreams = append(n.doc.upstreams, u)
	}
	slices.SortFunc(n.doc.upstreams, func(a, b *upstream) int { return strings.Compare(a.name, b.name) })
}

// declare takes in what is named for others to use.
func (n *nginx) declare(sc *scope) {
	for _, d := range sc.own {
		switch d.name {
		case "upstream":
			n.upstream(d)
		case "map":
			n.maps[strings.TrimPrefix(d.arg(1), "$")] = d
		case "geo":
			n.geos[strings.TrimPrefix(d.arg(len(d.args)-1), "$")] = d
		case "log_format":
			n.logs[d.arg(0)] = strings.Join(d.args[min(1, len(d.args)):], "")
		}
	}
}

// trusted takes in whose word is believed about clients.
func (n *nginx) trusted(sc *scope) {
	ds := sc.here("set_real_ip_from")
	for _, s := range sc.here("server") {
		ds = append(ds, (&scope{own: s.block}).here("set_real_ip_from")...)
	}
	var from list
	for _, d := range ds {
		p, ok := network(d.arg(0))
		if !ok {
			n.doc.notes = append(n.doc.notes, n.ledger.note(d, "names proxies by no address", "put their addresses into trusted_proxies"))
			continue
		}
		if v := text(networkText(p)); !slices.Contains(from, value(v)) {
			from = append(from, v)
		}
		n.ledger.took(d)
	}
	if len(from) > 0 {
		n.doc.opts.set("trusted_proxies", from)
	}
}

// settle gives those directives a fate that nobody has looked at.
func (n *nginx) settle(all []*directive) {
	for _, d := range all {
		if !n.ledger.seen(d) && !n.settleGuard(d, all) {
			n.settleOne(d)
		}
		if slices.Contains(tables, d.name) {
			n.skip(d.block)
			continue
		}
		n.settle(d.block)
	}
}

// tables are sections whose lines are no directives.
var tables = []string{"map", "geo", "types", "split_clients", "charset_map"}

func (n *nginx) settleOne(d *directive) {
	if missing, ok := nginxMissing[d.name]; ok {
		n.doc.notes = append(n.doc.notes, n.ledger.note(d, missing.does, missing.do))
		return
	}
	if isNginxNeedless(d.name) || slices.Contains(nginxKnown, d.name) {
		n.ledger.needless(d)
		return
	}
	n.doc.notes = append(n.doc.notes, n.ledger.note(d, "is not known here", "look up what it is for"))
}

// skip says that a section's directives go with it.
func (n *nginx) skip(block []*directive) {
	for _, d := range block {
		if !n.ledger.seen(d) {
			n.ledger.needless(d)
		}
		n.skip(d.block)
	}
}
