package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryKeyHasItsPlaceInTheReference: a page of its own, or a section on the page of a key that it stands in.
func TestEveryKeyHasItsPlaceInTheReference(t *testing.T) {
	files, err := filepath.Glob("../../docs/reference/*.md")
	if err != nil || len(files) < 50 {
		t.Fatal(len(files), err)
	}
	headings := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			if heading, ok := strings.CutPrefix(line, "# "); ok && heading+".md" == filepath.Base(file) {
				headings[heading] = true
			} else if heading, ok := strings.CutPrefix(line, "## "); ok {
				headings[heading] = true
			}
		}
	}
	for _, kind := range kinds {
		for _, key := range keysOf(kind) {
			if !headings[key] {
				t.Errorf("%q of %s has no place in the reference", key, kind)
			}
			top := slices.Contains([]string{inFile, inSite, inLocation}, kind)
			if _, err := os.Stat("../../docs/reference/" + key + ".md"); top && err != nil {
				t.Errorf("%q of %s has no page", key, kind)
			}
		}
	}
}

// examplesIn are the examples of a page, each with the word that says where it stands.
var examplesIn = regexp.MustCompile("(?s)```yaml ([a-z-]+)\n(.*?)```")

// TestExamplesOfTheReferenceAreRight: each of them is accepted where it is said to stand.
func TestExamplesOfTheReferenceAreRight(t *testing.T) {
	dir := workDir(t)
	for _, name := range []string{"404.html", "sorry.html"} {
		write(t, filepath.Join(dir, name), []byte("x"))
	}
	write(t, filepath.Join(dir, "users"), []byte("alice:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n"))
	cert, _ := certificate(t)
	write(t, filepath.Join(dir, "ca.pem"), cert)
	write(t, filepath.Join(dir, "www", "index.php"), nil)
	files, _ := filepath.Glob("../../docs/reference/*.md")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range examplesIn.FindAllStringSubmatch(string(data), -1) {
			text := wholeExample(m[1], m[2])
			if got := mistakes(t, filepath.Join(dir, "f.yaml"), text, noEnv); got != "" || text == "" {
				t.Errorf("%s:\n%s\nin\n%s", filepath.Base(file), got, text)
			}
		}
	}
}

// wholeExample is a configuration with an example in its place.
func wholeExample(place, text string) string {
	in := func(depth int) string {
		return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+strings.Repeat(" ", depth))
	}
	listen := "listen: [{address: \":80\"}]\n"
	if strings.Contains(text, "tls: self-signed") || strings.Contains(text, "tls: auto") {
		listen = "listen: [{address: \":80\"}, {address: \":443\", tls: true}]\n"
	}
	const ends = "respond: 404\n"
	switch place {
	case "file":
		site := "sites: [{hosts: [a.example], respond: 404}]\n"
		if strings.HasPrefix(text, "listen:") {
			return text + strings.Replace(site, "[a.example]", "[a.example], tls: self-signed", 1)
		}
		return listen + text + site
	case "sites":
		return listen + text
	case "site":
		return listen + "sites:\n  - hosts: [a.example]\n    " + in(4) + "\n    " + ends
	case "site-only":
		return listen + "sites:\n  - hosts: [a.example]\n    " + in(4) + "\n"
	case "wholesite":
		return listen + "sites:\n  - " + in(4) + "\n"
	case "location":
		return listen + "sites:\n  - hosts: [a.example]\n    locations:\n      - path: /x/\n        " + in(8) + "\n        " + ends
	case "location-only":
		return listen + "sites:\n  - hosts: [a.example]\n    locations:\n      - path: /x/\n        " + in(8) + "\n"
	case "wholelocation":
		return listen + "sites:\n  - hosts: [a.example]\n    locations:\n      - " + in(8) + "\n"
	}
	return ""
}
