package rewrite

import (
	"strings"
	"testing"

	"wstunnel/internal/head"
)

// TestPrivateFieldsPassNowhere: neither from a client, be it a trusted proxy, to backends and scripts, nor from a backend to a client.
func TestPrivateFieldsPassNowhere(t *testing.T) {
	private := []string{"X-Wstunnel-Id", "1", "x-wstunnel-user", "root", "X-WSTUNNEL-Later", "1", "grip-channel", "all"}
	fields := fieldsFrom(append(private, "X-Wstunnel", "mine", "Grip-Channels", "mine")...)
	in := inboundOf(true, append(private, "X-Wstunnel", "mine", "Grip-Channels", "mine")...)
	for name, got := range map[string]head.Fields{
		"a request":            Request(nil, in, locationOf("/"), targetOf("h:9000"), "").Fields,
		"a script's request":   FieldsForScript(in),
		"an answer":            Response(nil, fields, 200, in, locationOf("/"), targetOf("h:9000"), false),
		"an answer of its own": Informational(fields),
		"trailers":             Trailers(fields, nil),
	} {
		mine := 0
		for _, f := range got {
			switch {
			case f.Value == "mine":
				mine++
			case strings.HasPrefix(strings.ToLower(f.Name), "x-wstunnel") || strings.EqualFold(f.Name, "Grip-Channel"):
				t.Errorf("%s has %s", name, f.Name)
			}
		}
		if mine != 2 {
			t.Errorf("%s lacks what is no field of ours: %v", name, got)
		}
	}
}
