package web

import (
	"embed"
	"io/fs"
)

//go:embed templates/*.html
var templateFiles embed.FS

// The browser bundle is built by web/ui and not kept under version control;
// dist/.keep lets the program be built without it.
//
//go:embed all:dist
var distFiles embed.FS

// Bundle is the browser bundle that was built into the program.
func Bundle() fs.FS {
	sub, err := fs.Sub(distFiles, "dist")
	if err != nil {
		panic(err) // "dist" is a valid path
	}
	return sub
}
