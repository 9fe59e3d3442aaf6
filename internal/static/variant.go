package static

import (
	"errors"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
)

// coding is a content coding that a file may lie beside itself in.
type coding struct{ name, extension string }

// codings are those that are known, the one that commonly makes files smallest first.
var codings = []coding{{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}}

// Variant is a file that may be sent for a name: the file itself, or one beside it that is compressed already.
type Variant struct {
	dir, name string
	coding    coding // empty for the file itself
}

// Plain is the file of a name below a directory itself.
func Plain(dir, name string) Variant { return Variant{dir: dir, name: name} }

func (v Variant) path() string { return v.name + v.coding.extension }

// Find finds the file to be sent for a name below a directory: of those beside it that are compressed and that the request takes, if they are to be looked for,
// the one that it likes best. Ranges are of the file itself.
func Find(dir, name string, precompressed bool, fields head.Fields, find func(Variant) (*File, error)) (*File, error) {
	v := Variant{dir: dir, name: name}
	if precompressed && fields.Has(head.AcceptEncoding) && !fields.Has(head.Range) {
		for _, v.coding = range acceptedCodings(fields.Joined(head.AcceptEncoding)) {
			file, err := find(v)
			if err == nil && file.Info.Regular || errors.Is(err, reactor.ErrWouldWait) {
				return file, err
			}
		}
		v.coding = coding{}
	}
	return find(v)
}

// acceptedCodings returns the codings that an Accept-Encoding takes rather than none, the best first.
func acceptedCodings(value string) []coding {
	var accepted []coding
	for _, i := range head.Codings(value, "br", "zstd", "gzip") {
		accepted = append(accepted, codings[i])
	}
	return accepted
}
