// Package content holds what Berth ships inside its binary: the labs and the
// recipes of the images that they need.
//
// A lab is a folder here with a lab.md, in the format of package
// labs/markdown; adding one means adding the folder and naming it in the embed
// line of labFiles. A recipe is a folder below images.
package content

import (
	"embed"
	"io/fs"
)

// labFiles holds lab folders and nothing else.
//
//go:embed all:container-image
var labFiles embed.FS

//go:embed all:images
var imageFiles embed.FS

// Labs gives the labs: every folder in it is one.
func Labs() fs.FS { return labFiles }

// Images gives the image recipes: every folder in it is one.
func Images() fs.FS {
	sub, err := fs.Sub(imageFiles, "images")
	if err != nil {
		panic("content: " + err.Error()) // "images" is a valid path
	}
	return sub
}
