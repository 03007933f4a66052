package markdown

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"berth/labs"
)

//go:embed schema/*.json
var schemas embed.FS

// Schemas are the names that Schema knows.
var Schemas = []string{"lab", "check", "course"}

// Schema gives a JSON Schema (draft 2020-12), for editors that complete and
// check what an author types: "lab" for the front matter of a lab.md, "check"
// for a check block, "course" for course.yaml. ErrNotFound for other names.
func Schema(name string) ([]byte, error) {
	if !slices.Contains(Schemas, name) {
		return nil, fmt.Errorf("schema %q, which is none of %s: %w", name, strings.Join(Schemas, ", "), labs.ErrNotFound)
	}
	b, err := fs.ReadFile(schemas, "schema/"+name+".json")
	if err != nil {
		return nil, fmt.Errorf("read the schema %q: %w", name, err)
	}
	return b, nil
}
