package config

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Admin says how the running server is spoken to, and who may.
type Admin struct {
	Pos
	// Off says that it is not.
	Off bool
	// Socket is the path of the control socket; empty for control.sock in systemd's RUNTIME_DIRECTORY or, without one, beside the directory TLS.Storage.
	Socket string
	// Mode are the socket's permissions, and Group is who owns it as a group, -1 for the process's own.
	Mode  os.FileMode
	Group int
	// Allow are users who may do all, besides root and the one that the process runs as.
	Allow []User
	// Address is where it is spoken to over TCP, with Tokens: host:port, empty for nowhere.
	Address string
	Tokens  []Token
}

// User is a user of the system.
type User struct {
	Name string // as written
	ID   uint32
}

// Token is what a bearer token (RFC 6750) is known by, and what it is for.
type Token struct {
	Pos
	Name string
	// Hash is the token's SHA-256.
	Hash [sha256.Size]byte
	// Sites are the first hosts of those that it is for; nil for all.
	Sites []string
	// Verbs are among [AdminVerbs]. Default list.
	Verbs []string
}

// AdminVerbs are what a token may be for.
var AdminVerbs = []string{"list", "send", "group", "kick", "manage"}

const (
	// groupMode lets the socket's group connect, and openMode everybody: what a peer may do is decided by who it is.
	groupMode = 0o660
	openMode  = 0o666
	hashKind  = "sha256:"
	maxTokens = 1000
)

// admin reads `off`, or a mapping. The sites have been read.
func (d *decoder) admin(n *yaml.Node, cfg *Config) {
	a := &cfg.Admin
	if deref(n).Kind != yaml.MappingNode {
		const allowed = "off, or a mapping, such as {socket: PATH}"
		if s, ok := d.scalar(n, allowed); ok {
			a.Pos, a.Off = s.pos, s.text == "off"
			if !a.Off {
				d.add(s.pos, "unknown value "+s.shown(), allowed)
			}
		}
		return
	}
	o, ok := d.object(n, inAdmin)
	if !ok {
		return
	}
	a.Pos = o.pos
	if v := o.get("socket"); v != nil {
		a.Socket = d.controlSocket(v)
	}
	if v := o.get("mode"); v != nil {
		a.Mode = d.socketMode(v)
	}
	if v := o.get("group"); v != nil {
		a.Group = d.group(v)
		if a.Mode == 0 {
			a.Mode = groupMode
		}
	}
	if v := o.get("allow"); v != nil {
		a.Allow = d.users(v)
	}
	if v := o.get("address"); v != nil {
		taken := cfg.Listen
		if m := cfg.Metrics; m != "" {
			taken = append(slices.Clone(taken), Listener{Address: m, Pos: d.metricsPos})
		}
		a.Address, _ = d.listenAddress(v, taken)
	}
	if v := o.get("tokens"); v != nil {
		a.Tokens = d.tokens(v, cfg.Sites)
	}
	switch has, heard := o.get("tokens") != nil, o.get("address") != nil; {
	case heard && !has:
		d.add(o.keyPos("address"), "an address, but no tokens to ask with", "tokens: with a name and a hash each, as wstunnel token prints it")
	case has && !heard:
		d.add(o.keyPos("tokens"), "tokens, but no address to ask at with them", "address: and host:port, such as 127.0.0.1:9181")
	}
}

// settleMode is the mode of a socket of which none is said: those who are named have to be able to connect.
func (c *Config) settleMode() {
	switch {
	case c.Admin.Mode != 0:
	case len(c.Admin.Allow) > 0 || slices.ContainsFunc(c.Sites, func(s Site) bool { return len(s.Admins) > 0 }):
		c.Admin.Mode = openMode
	default:
		c.Admin.Mode = groupMode
	}
}

func (d *decoder) controlSocket(v *yaml.Node) string {
	const allowed = "the path of a socket in an existing directory"
	f, ok := d.fileName(v, allowed)
	if !ok {
		return ""
	}
	if len(f.path) > maxControlPath {
		d.add(f.pos, "the path "+f.shown()+" is too long", "one of at most "+strconv.Itoa(maxControlPath)+" bytes")
		return ""
	}
	if _, err := os.Stat(filepath.Dir(f.path)); err != nil {
		d.addNoFile(f.pos, "cannot open directory "+quote(filepath.Dir(f.path))+": "+cause(err), allowed)
	}
	return f.path
}

// socketMode reads the permissions of a socket. Without quotes YAML's 0660 is text, too.
func (d *decoder) socketMode(v *yaml.Node) os.FileMode {
	const allowed = `permissions in octal in which the owner may write, such as "0660"`
	s, ok := d.scalar(v, allowed)
	if !ok {
		return 0
	}
	mode, err := strconv.ParseUint(s.text, 8, 32)
	if err != nil || mode > 0o777 || mode&0o200 == 0 {
		d.add(s.pos, "bad mode "+s.shown(), allowed)
		return 0
	}
	return os.FileMode(mode)
}

// group reads a group of the system, by name or number.
func (d *decoder) group(v *yaml.Node) int {
	const allowed = "a group of this machine, by its name or number"
	s, ok := d.scalar(v, allowed)
	if !ok {
		return -1
	}
	if id, err := strconv.ParseUint(s.text, 10, 31); err == nil {
		return int(id)
	}
	g, err := user.LookupGroup(s.text)
	if err == nil {
		if id, err := strconv.ParseUint(g.Gid, 10, 31); err == nil {
			return int(id)
		}
	}
	d.addNoFile(s.pos, "no group "+s.shown(), allowed)
	return -1
}

// users reads users of the system, by names or numbers.
func (d *decoder) users(v *yaml.Node) (all []User) {
	const allowed = "users of this machine, by their names or numbers, such as [www-data, 1001]"
	for _, item := range d.itemsOf(v, allowed) {
		s, ok := d.scalar(item, allowed)
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(s.text, 10, 32)
		if err != nil {
			var found *user.User
			if found, err = user.Lookup(s.text); err == nil {
				id, err = strconv.ParseUint(found.Uid, 10, 32)
			}
		}
		if err != nil {
			d.addNoFile(s.pos, "no user "+s.shown(), allowed)
			continue
		}
		all = append(all, User{s.text, uint32(id)})
	}
	return all
}

// siteAdmins reads who sees and reaches a site's tunnels.
func (d *decoder) siteAdmins(n *yaml.Node) []User {
	o, ok := d.object(n, inSiteAdmin)
	if !ok {
		return nil
	}
	v := o.get("allow")
	if v == nil {
		d.add(o.pos, `no "allow"`, "allow: and users of this machine, such as [www-data]")
		return nil
	}
	return d.users(v)
}

func (d *decoder) tokens(n *yaml.Node, sites []Site) (all []Token) {
	names, hashes := map[string]int{}, map[[sha256.Size]byte]int{}
	items := d.nonEmptyList(n, "a list of tokens, each with a name and a hash, as wstunnel token prints it")
	if len(items) > maxTokens {
		d.add(posOf(deref(n)), strconv.Itoa(len(items))+" tokens", strconv.Itoa(maxTokens)+" at most")
		return nil
	}
	for _, item := range items {
		o, ok := d.object(item, inToken)
		if !ok {
			continue
		}
		t, ok := d.token(o, sites)
		if !ok {
			continue
		}
		if line, twice := names[t.Name]; twice {
			d.add(o.keyPos("name"), "the name "+quote(t.Name)+" is already on "+d.lineText(line), "a name of its own for each token")
		}
		if line, twice := hashes[t.Hash]; twice {
			d.add(o.keyPos("hash"), "the hash is already on "+d.lineText(line), "a token of its own for each name: wstunnel token")
		}
		names[t.Name], hashes[t.Hash] = o.keyPos("name").Line, o.keyPos("hash").Line
		all = append(all, t)
	}
	return all
}

// token reads one. No error text shows what stands for the hash: it may be the token itself.
func (d *decoder) token(o object, sites []Site) (Token, bool) {
	t := Token{Pos: o.pos, Verbs: AdminVerbs[:1]}
	const nameAllowed, hashAllowed = "a word that the log knows it by", "hash: sha256: and 64 hexadecimal digits, as wstunnel token prints it"
	before := len(d.errs)
	if v := o.get("name"); v == nil {
		d.add(o.pos, `no "name"`, nameAllowed)
	} else if s, ok := d.scalar(v, nameAllowed); ok {
		if t.Name = s.text; t.Name == "" || len(t.Name) > 64 || !isText(t.Name) {
			d.add(s.pos, "bad name "+s.shown(), nameAllowed)
		}
	}
	if v := o.get("hash"); v == nil {
		d.add(o.pos, `no "hash"`, hashAllowed)
	} else if s, ok := d.scalar(v, hashAllowed); ok {
		digits, ok := strings.CutPrefix(s.text, hashKind)
		hash, err := hex.DecodeString(digits)
		if !ok || err != nil || len(hash) != sha256.Size {
			d.add(s.pos, "a hash that is none", hashAllowed)
		}
		copy(t.Hash[:], hash)
	}
	if v := o.get("sites"); v != nil {
		t.Sites = d.tokenSites(v, sites)
	}
	if v := o.get("verbs"); v != nil {
		t.Verbs = d.verbs(v)
	}
	return t, len(d.errs) == before
}

// tokenSites reads sites, each by one of its hosts.
func (d *decoder) tokenSites(v *yaml.Node, sites []Site) (first []string) {
	const allowed = "a host of each site, such as [example.com]"
	for _, item := range d.itemsOf(v, allowed) {
		s, ok := d.scalar(item, allowed)
		if !ok {
			continue
		}
		host, p := parseHost(s)
		if p != nil {
			d.addProblem(s.pos, *p)
			continue
		}
		i := slices.IndexFunc(sites, func(site Site) bool { return slices.Contains(site.Hosts, host) })
		if i < 0 {
			d.add(s.pos, "no site has the host "+s.shown(), allowed)
			continue
		}
		first = append(first, sites[i].Hosts[0])
	}
	return first
}

func (d *decoder) verbs(v *yaml.Node) (verbs []string) {
	allowed := "any of " + strings.Join(AdminVerbs, ", ")
	for _, item := range d.itemsOf(v, "a list of "+allowed) {
		if s, ok := d.scalar(item, allowed); ok {
			if !slices.Contains(AdminVerbs, s.text) {
				d.add(s.pos, "unknown verb "+s.shown(), allowed+misspelt(s.written, AdminVerbs...))
			}
			verbs = append(verbs, s.text)
		}
	}
	return verbs
}
