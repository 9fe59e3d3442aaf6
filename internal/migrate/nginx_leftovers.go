package migrate

import (
	"slices"
	"strings"
)

// accessNames are directives that let clients in or keep them out; answerNames those that answer, or lead elsewhere. None of them is dropped in silence.
var (
	accessNames = []string{"allow", "deny", "auth_basic", "auth_request", "limit_except", "satisfy"}
	answerNames = []string{"if", "return", "rewrite"}
)

// settleGuard tells of a directive of access, or of one that answers, that nothing made use of; siblings are those of its block.
func (n *nginx) settleGuard(d *directive, siblings []*directive) bool {
	isAccess := slices.Contains(accessNames, d.name)
	switch {
	case strings.HasSuffix(d.name, "_next_upstream"):
		return n.nextUpstream(d)
	case !isAccess && !slices.Contains(answerNames, d.name), isAccess && (d.arg(0) == "off" || d.name == "satisfy" && d.arg(0) == "all"):
		return false
	case n.behindReturn(d, siblings, isAccess):
		return true
	}
	does := "answers, or leads elsewhere, which nothing here does"
	if isAccess {
		does = "says who may come in, which nothing here asks for"
	}
	n.doc.notes = append(n.doc.notes, n.ledger.note(d, does, "look which location it is for, and write it there"))
	n.skip(d.block)
	return true
}

// behindReturn advises of a directive that nginx never comes to: a return of its block answers all requests before access is asked for, and before what
// follows it.
func (n *nginx) behindReturn(d *directive, siblings []*directive, isAccess bool) bool {
	at := slices.IndexFunc(siblings, func(o *directive) bool { return o.name == "return" })
	if at < 0 || !isAccess && slices.Index(siblings, d) < at {
		return false
	}
	n.doc.notes = append(n.doc.notes, n.ledger.advise(d, "has no effect, since nginx answers by the return in the same block", "leave it out: all clients have always got that answer"))
	n.skip(d.block)
	return true
}

// unreached advises of what says who may come in to a server that answers without asking for that.
func (n *nginx) unreached(block []*directive) {
	for _, d := range block {
		if slices.Contains(accessNames, d.name) && d.arg(0) != "off" && !n.ledger.seen(d) {
			n.behindReturn(d, block, true)
		}
	}
}

// nextUpstream tells of a rule for asking a second server that is other than ours.
func (n *nginx) nextUpstream(d *directive) bool {
	switch {
	case slices.Contains(d.args, "off"):
		n.doc.notes = append(n.doc.notes, n.ledger.note(d, "never asks a second server", "another one is asked here where the first cannot be reached: name one only, if that must not be"))
	case slices.Contains(d.args, "non_idempotent"):
		n.doc.notes = append(n.doc.notes, n.ledger.note(d, "sends a POST to a second server too, after the first got it", "leave it to the client to ask again"))
	default:
		return false
	}
	return true
}
