// Package content holds what Berth ships inside its binary: the labs and the
// recipes of the images that they need.
//
// A lab is a folder here with a lab.md, in the format of package
// labs/markdown; adding one means adding the folder, naming it in the embed
// line of labFiles, and giving it a place in course.yaml. A recipe is a folder
// below images.
package content

import (
	"embed"
	"io/fs"
)

// labFiles holds lab folders, their course.yaml, and nothing else.
//
//go:embed course.yaml
//go:embed all:container-image all:first-container all:image-layers
var labFiles embed.FS

//go:embed all:images
var imageFiles embed.FS

// Labs gives the labs: every folder in it is one, in the order of course.yaml.
func Labs() fs.FS { return labFiles }

// Images gives the image recipes: every folder in it is one.
func Images() fs.FS {
	sub, err := fs.Sub(imageFiles, "images")
	if err != nil {
		panic("content: " + err.Error()) // "images" is a valid path
	}
	return sub
}
