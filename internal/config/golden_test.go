package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadFiles parses each testdata/err/NAME.yaml, and compares its mistakes with NAME.txt.
// To add a case, add the file and run the tests once with UPDATE_GOLDEN=1.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/err/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	dir := workDir(t)
	for _, file := range files {
		base := filepath.Base(file)
		t.Run(strings.TrimSuffix(base, ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env := envOf("SET", "secret.example")
			got := strings.ReplaceAll(mistakes(t, filepath.Join(dir, base), string(data), env), dir+"/", "") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				write(t, golden, []byte(got))
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) || len(got) < 2 {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
