package verify

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"berth/labs"
)

// seenUnused is what is seen of an engine that was not used yet.
const seenUnused = "your Docker Engine has not been used yet"

func expectImage(c *labs.ImageCheck) string {
	var with []string
	if !c.Layers.IsZero() {
		unit := " layers"
		if c.Layers.Value == 1 {
			unit = " layer"
		}
		with = append(with, c.Layers.String()+unit)
	}
	if !c.Size.IsZero() {
		with = append(with, "a size of "+c.Size.String()+" bytes")
	}
	if c.Entrypoint != nil {
		with = append(with, "the entrypoint "+code(strings.Join(c.Entrypoint, " ")))
	}
	if c.Cmd != nil {
		with = append(with, "the command "+code(strings.Join(c.Cmd, " ")))
	}
	for _, v := range c.Env {
		with = append(with, "the variable "+code(v))
	}
	for _, v := range c.Label {
		with = append(with, "the label "+code(v))
	}
	name := "image " + code(c.Ref)
	var s string
	switch {
	case c.Path == "":
		s = "an " + name
	case absent(c.Text):
		s = "no " + code(c.Path) + " in " + name
	case !hasText(c.Text):
		s = "a " + code(c.Path) + " in " + name
	default:
		s = code(c.Path) + " in " + name + " " + reads(c.Text)
	}
	if len(with) > 0 {
		if c.Path != "" {
			s += ", and the image"
		}
		s += " with " + list(with)
	}
	return s
}

// lookImage looks at an image.
func (w *watch) lookImage(ctx context.Context, c *labs.ImageCheck) (verdict, error) {
	img, err := ask(ctx, w.engine, "inspect image", func(ctx context.Context, cli *client.Client) (image.InspectResponse, error) {
		return cli.ImageInspect(ctx, fullRef(c.Ref))
	})
	if errdefs.IsNotFound(err) {
		return verdict{seen: w.missing(ctx, c.Ref)}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	config := img.Config
	if config == nil {
		config = &dockerspec.DockerOCIImageConfig{}
	}
	var wrong []string
	if n := len(img.RootFS.Layers); !c.Layers.Test(int64(n)) {
		wrong = append(wrong, "has "+plural(n, "layer", "layers"))
	}
	if !c.Size.Test(img.Size) {
		wrong = append(wrong, "has "+strconv.FormatInt(img.Size, 10)+" bytes")
	}
	if c.Entrypoint != nil && !slices.Equal(c.Entrypoint, config.Entrypoint) {
		wrong = append(wrong, commandSeen("entrypoint", config.Entrypoint))
	}
	if c.Cmd != nil && !slices.Equal(c.Cmd, config.Cmd) {
		wrong = append(wrong, commandSeen("command", config.Cmd))
	}
	for _, v := range c.Env {
		if s := missingPair(v, slices.Values(config.Env)); s != "" {
			wrong = append(wrong, s)
		}
	}
	for _, v := range c.Label {
		if s := missingPair(v, func(yield func(string) bool) {
			for key, value := range config.Labels {
				if !yield(key + "=" + value) {
					return
				}
			}
		}); s != "" {
			wrong = append(wrong, s)
		}
	}
	name := "the image " + code(shortRef(c.Ref))
	if len(wrong) > 0 {
		return verdict{seen: name + " " + list(wrong)}, nil
	}
	if c.Path == "" {
		return verdict{holds: true, seen: name + " is in your engine"}, nil
	}
	found, err := w.images.read(ctx, w.engine, img.ID, c.Path)
	if errdefs.IsNotFound(err) { // removed since
		return verdict{seen: w.missing(ctx, c.Ref)}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	file := code(c.Path)
	switch {
	case found.circle:
		return verdict{seen: "the links at " + file + " in " + name + " lead in a circle"}, nil
	case !found.exists:
		return verdict{holds: absent(c.Text), seen: "there is no " + file + " in " + name}, nil
	case absent(c.Text):
		return verdict{seen: "there is a " + file + " in " + name}, nil
	case !hasText(c.Text):
		return verdict{holds: true, seen: "there is a " + file + " in " + name}, nil
	case found.mode.IsDir():
		return verdict{seen: file + " in " + name + " is a folder"}, nil
	case !found.mode.IsRegular():
		return verdict{seen: file + " in " + name + " is no regular file"}, nil
	}
	return verdict{
		holds: holdsText(c.Text, found.text, found.cut),
		seen:  file + " in " + name + " " + reading(found.text),
	}, nil
}

// missing says that there is no such image, and which there is of its name.
func (w *watch) missing(ctx context.Context, ref string) string {
	seen := "there is no image " + code(shortRef(ref)) + " in your engine"
	repo := repository(ref)
	if repo == "" || imageID.MatchString(ref) {
		return seen
	}
	others, err := ask(ctx, w.engine, "list images", func(ctx context.Context, cli *client.Client) ([]image.Summary, error) {
		return cli.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", repo))})
	})
	if err != nil {
		return seen // that the image is not there is known
	}
	for _, o := range others {
		for _, tag := range o.RepoTags {
			if repository(tag) == repo && fullRef(tag) != fullRef(ref) {
				return seen + ", but there is " + code(tag)
			}
		}
	}
	return seen
}

func commandSeen(what string, args []string) string {
	if len(args) == 0 {
		return "has no " + what
	}
	return "has the " + what + " " + code(strings.Join(args, " "))
}

// missingPair says what is wrong about a wanted "KEY=VALUE" or "KEY".
func missingPair(want string, have func(func(string) bool)) string {
	key, _, exact := strings.Cut(want, "=")
	for h := range have {
		k, _, _ := strings.Cut(h, "=")
		if k == key {
			if exact && h != want {
				return "has " + code(h)
			}
			return ""
		}
	}
	return "has no " + code(key)
}

// lookVolume looks for a volume.
func (w *watch) lookVolume(ctx context.Context, name string) (verdict, error) {
	v, err := ask(ctx, w.engine, "inspect volume", func(ctx context.Context, cli *client.Client) (volume.Volume, error) {
		return cli.VolumeInspect(ctx, name)
	})
	if err != nil && !errdefs.IsNotFound(err) {
		return verdict{}, err
	}
	if err != nil || v.Name != name {
		return verdict{seen: "there is no volume named " + code(name)}, nil
	}
	return verdict{holds: true, seen: "there is a volume named " + code(name)}, nil
}

// lookNetwork looks for a network. The engine takes the beginning of an id for
// a name, too.
func (w *watch) lookNetwork(ctx context.Context, name string) (verdict, error) {
	n, err := ask(ctx, w.engine, "inspect network", func(ctx context.Context, cli *client.Client) (network.Inspect, error) {
		return cli.NetworkInspect(ctx, name, network.InspectOptions{})
	})
	if err != nil && !errdefs.IsNotFound(err) {
		return verdict{}, err
	}
	if err != nil || n.Name != name {
		return verdict{seen: "there is no network named " + code(name)}, nil
	}
	return verdict{holds: true, seen: "there is a network named " + code(name)}, nil
}

// imageFiles remembers what was read from images. An image never changes, so
// that events about images that stay the same make no containers.
type imageFiles struct {
	mu    sync.Mutex
	known []imageFile // newest last
}

type imageFile struct {
	id, path string
	entry    entry
}

const (
	maxImageFiles = 16
	maxImageText  = 64 << 10 // longer texts are read again
)

func (f *imageFiles) read(ctx context.Context, e *engine, id, path string) (entry, error) {
	f.mu.Lock()
	for _, k := range f.known {
		if k.id == id && k.path == path {
			f.mu.Unlock()
			return k.entry, nil
		}
	}
	f.mu.Unlock()
	found, err := e.readImage(ctx, id, path)
	if err != nil || len(found.text) > maxImageText {
		return found, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) == maxImageFiles {
		f.known = slices.Delete(f.known, 0, 1)
	}
	f.known = append(f.known, imageFile{id, path, found})
	return found, nil
}
