package roff_test

import (
	"regexp"
	"strings"
	"testing"

	"wstunnel/internal/roff"
)

func TestTextBecomesRequestsOfMan(t *testing.T) {
	for text, want := range map[string]string{
		"Two\nlines.":              ".PP\nTwo lines.\n",
		"One.\n\nOther.":           ".PP\nOne.\n.PP\nOther.\n",
		"Run `wstunnel run -c x`":  ".PP\nRun \\fBwstunnel run \\-c x\\fP\n",
		"*Value:* a [b](c.md).":    ".PP\n\\fIValue:\\fP a b.\n",
		"[`here`](https://a.b)":    ".PP\n\\fBhere\\fP (https://a.b)\n",
		".SH is no request":        ".PP\n\\&.SH is no request\n",
		"'quoted' \\ ~ ^":          ".PP\n\\(aqquoted\\(aq \\e \\(ti \\(ha\n",
		"As:\n\n  one\n  .two\n":   ".PP\nAs:\n.PP\n.RS 4\n.EX\none\n\\&.two\n.EE\n.RE\n",
		"```yaml site\na: b\n```":  ".PP\n.RS 4\n.EX\na: b\n.EE\n.RE\n",
		"```\n\ta\n\n## b\n```":    ".PP\n.RS 4\n.EX\n    a\n\n## b\n.EE\n.RE\n",
		"## \"x\" y\n\nText 2 * 3": ".SS \"\\(dqx\\(dq y\"\n.PP\nText 2 * 3\n",
	} {
		p := roff.NewPage("a-b", 1, "what")
		head := p.String()
		p.Text(text)
		if got := strings.TrimPrefix(p.String(), head); got != want {
			t.Errorf("%q became\n%s\nwant\n%s", text, got, want)
		}
	}
	p := roff.NewPage("a-b", 1, "what")
	p.Item("--x", "'y'")
	if got, want := p.String(), ".TH A\\-B 1 \"\" wstunnel wstunnel\n.SH \"NAME\"\na\\-b \\- what\n.TP\n\\fB\\-\\-x\\fP\n\\(aqy\\(aq\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzText: no text becomes a request or an escape other than those of this package.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"a `b` *c* [d](e)", "```\n.so /etc/passwd\n```", "\\*[x] 'br", "  .de x\n\n.TH", "`\\`*\\*"} {
		f.Add(seed)
	}
	request := regexp.MustCompile(`^(\.(PP|RS 4|RE|EX|EE|TP|S[HS] "[^"]*"|TH A 1 "" wstunnel wstunnel)$|[^.']|$)`)
	escape := regexp.MustCompile(`\\(fB|fI|fP|e|-|&|\(aq|\(ga|\(ha|\(ti|\(dq)`)
	f.Fuzz(func(t *testing.T, text string) {
		p := roff.NewPage("a", 1, "b")
		p.Text(text)
		p.Item(text, text)
		for l := range strings.SplitSeq(p.String(), "\n") {
			if !request.MatchString(l) || strings.Contains(escape.ReplaceAllString(l, ""), `\`) {
				t.Fatalf("%q became %q", text, l)
			}
		}
	})
}
