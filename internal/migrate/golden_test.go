package migrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"gopkg.in/yaml.v3"
)

// load makes the files of a testdata directory, and of its directory etc, those of a machine's /etc/KIND.
func load(t testing.TB, kind string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	root := filepath.Join("testdata", kind)
	err := filepath.Walk(root, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(root, name)
		rel = strings.TrimPrefix(filepath.ToSlash(rel), "etc/")
		files["etc/"+kind+"/"+rel] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var translators = map[string]func(Input) (*Result, error){"nginx": Nginx, "apache": Apache}

// TestGoldenFiles translates each testdata/nginx/NAME.conf and testdata/apache/NAME.conf and compares the YAML with NAME.yaml. To add a case,
// add the file and run the tests once with UPDATE_GOLDEN=1.
func TestGoldenFiles(t *testing.T) {
	for kind, translate := range translators {
		files := load(t, kind)
		names, _ := filepath.Glob("testdata/" + kind + "/*.conf")
		if len(names) == 0 {
			t.Errorf("no files of %s", kind)
		}
		for _, name := range names {
			base := strings.TrimSuffix(filepath.Base(name), ".conf")
			t.Run(kind+"/"+base, func(t *testing.T) {
				r, err := translate(Input{Files: files, Name: "/etc/" + kind + "/" + base + ".conf", Check: check})
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range r.Mistakes {
					if !m.NoFile {
						t.Errorf("line %d: %s", m.Line, m.Text)
					}
				}
				if strings.Contains(string(r.YAML), "cannot be said: ") {
					t.Error("something had to be taken out that passes no check")
				}
				golden(t, strings.TrimSuffix(name, ".conf")+".yaml", r.YAML)
				var any map[string]any
				if err := yaml.Unmarshal(r.YAML, &any); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestDocsShowWhatIsTested: the page about importing has the files before and after as they are tested, and all wanted differences.
func TestDocsShowWhatIsTested(t *testing.T) {
	page, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"apache/lamp.conf", "apache/lamp.yaml", "nginx/site.conf", "nginx/site.yaml"} {
		shown, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "\n"+string(shown)+"```\n") {
			t.Errorf("docs/import.md does not show %s as it is", name)
		}
	}
	keys := map[string]bool{}
	for _, d := range Differences {
		if row := "| " + d.Of + " | " + d.Theirs + " | " + d.Ours + " | " + d.Why + " |\n"; !strings.Contains(string(page), row) {
			t.Errorf("docs/import.md lacks the row\n%s", row)
		}
		if keys[d.Key] {
			t.Errorf("two differences are called %s", d.Key)
		}
		keys[d.Key] = true
	}
}

// TestReadmeShowsWhatIsWritten: the files before and after, but for the comments that name their places.
func TestReadmeShowsWhatIsWritten(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, word := range map[string]string{"apache": "apacheconf", "nginx": "nginx"} {
		_, rest, found := strings.Cut(string(page), "```"+word+"\n")
		before, rest, _ := strings.Cut(rest, "```")
		_, rest, _ = strings.Cut(rest, "```yaml\n")
		after, _, _ := strings.Cut(rest, "```")
		name := "/etc/" + kind + "/readme.conf"
		r, err := translators[kind](Input{Files: fstest.MapFS{name[1:]: {Data: []byte(before)}}, Name: name, Check: check})
		if err != nil || !found {
			t.Fatal(found, err)
		}
		var lines []string
		for line := range strings.SplitSeq(string(r.YAML), "\n") {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				line, _, _ = strings.Cut(line, " #")
				lines = append(lines, line)
			}
		}
		if got := strings.TrimLeft(strings.Join(lines, "\n"), "\n"); got != after {
			t.Errorf("%s: README.md shows\n%s\nwritten is\n%s", kind, after, got)
		}
	}
}
