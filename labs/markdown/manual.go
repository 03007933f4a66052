package markdown

import (
	_ "embed"
	"strings"
)

//go:embed markdown.go
var packageSource string

// Manual gives the manual of the format, which is this package's comment.
func Manual() string {
	var b strings.Builder
	for line := range strings.Lines(packageSource) {
		text, ok := strings.CutPrefix(line, "//")
		if !ok {
			break
		}
		text = strings.TrimPrefix(text, " ")
		b.WriteString(strings.ReplaceAll(text, "\t", "    "))
	}
	_, rest, _ := strings.Cut(b.String(), "\n\n")
	return rest
}
