package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse checks that any file gives either a Config or mistakes with positions, in order.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/err/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../../config.example.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(contract))
	f.Add([]byte(siteWith("http: http://127.0.0.1:1", "timeouts: {connect: 1s}")))
	env := envOf("SET", "x")
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("f.yaml", data, env)
		if err == nil {
			if len(cfg.Listen) == 0 || len(cfg.Sites) == 0 || len(cfg.Sites[0].Hosts) == 0 || len(cfg.Sites[0].Locations) == 0 {
				t.Fatalf("incomplete: %+v", cfg)
			}
			return
		}
		var errs Errors
		if cfg != nil || !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("got %v and %v", cfg, err)
		}
		last := Pos{}
		for _, e := range errs {
			pos := Pos{e.Line, e.Col}
			if e.File != "f.yaml" || e.Line < 1 || e.Col < 1 || e.Found == "" || e.Allowed == "" {
				t.Fatalf("incomplete: %+v", e)
			}
			if pos.Line < last.Line || pos.Line == last.Line && pos.Col < last.Col {
				t.Fatalf("out of order: %v", err)
			}
			last = pos
		}
	})
}
