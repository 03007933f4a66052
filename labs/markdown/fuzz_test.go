package markdown

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzLoad: whatever the text, loading ends without a panic, the page is safe,
// and every mistake can be printed.
func FuzzLoad(f *testing.F) {
	for _, text := range attacks {
		f.Add([]byte(inStep + text + "\n"))
		f.Add([]byte(inStep + text + "\n\n```sh\necho \"after\" onclick=x\n```\n"))
	}
	names, _ := filepath.Glob("testdata/golden/*.txt")
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	if b, err := os.ReadFile("../../content/container-image/lab.md"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("\xef\xbb\xbf---\r\ntitle: x\r\n---\r\n## a\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, mistakes := load1(string(text))
		failed := false
		for _, m := range mistakes {
			failed = failed || !m.Warn
			if s := m.Error(); strings.ContainsAny(s, "\n\x1b") || !utf8.ValidString(s) {
				t.Errorf("mistake %q", s)
			}
			if m.Line < 0 || m.Line > strings.Count(string(text), "\n")+strings.Count(string(text), "\r")+2 {
				t.Errorf("line %d of %d bytes: %s", m.Line, len(text), m.What)
			}
		}
		if failed != (l == nil) {
			t.Errorf("lesson: %v, mistakes: %v", l != nil, mistakes)
		}
		if l == nil {
			return
		}
		safe(t, l)
		seen := map[string]bool{}
		for _, s := range l.Steps {
			if seen[s.ID] || !stepID.MatchString(s.ID) {
				t.Errorf("step id %q", s.ID)
			}
			seen[s.ID] = true
			for _, c := range s.Commands {
				if c.Code == "" || c.Terminal == "" {
					t.Errorf("command %+v", c)
				}
			}
		}
	})
}

// FuzzCheck: the YAML of a check, which is parsed with a library's parser.
func FuzzCheck(f *testing.F) {
	a, err := txtar.ParseFile("testdata/golden/checks.txt")
	if err != nil {
		f.Fatal(err)
	}
	for i, part := range strings.Split(string(a.Files[0].Data), "```") {
		if i%2 == 1 {
			f.Add(strings.TrimPrefix(part, "check\n"))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &report{file: "lab.md"}
		c := parseCheck(text, 1, r)
		if (c == nil) != r.failed {
			t.Errorf("check %+v with mistakes %v", c, r.mistakes)
		}
	})
}

// FuzzSplitCommands: nothing but comments and blank lines is lost.
func FuzzSplitCommands(f *testing.F) {
	for _, c := range shellCases {
		f.Add(c.code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		commands, _ := splitCommands(code)
		at := 0
		for _, c := range commands {
			i := strings.Index(code[at:], c)
			if i < 0 {
				t.Fatalf("command %q is not in %q", c, code)
			}
			at += i + len(c)
		}
	})
}
