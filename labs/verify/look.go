package verify

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

const (
	lookLabel = "berth.check" // of the containers that images are read through
	lookName  = "berth-check-"
	maxText   = 1 << 20 // bytes of a file's text that are looked at
	maxLinks  = 32      // symbolic links followed one after the other
)

// An entry is what stands at a path of an image.
type entry struct {
	exists bool
	mode   fs.FileMode
	text   string // of a regular file, at most maxText
	cut    bool   // text is not all of it
	circle bool   // its links lead nowhere
}

// lookers knows the containers that are in use for reading images, so that
// only those that were left behind are swept.
type lookers struct {
	mu    *sync.Mutex
	names map[string]struct{}
}

func (l *lookers) add(sandbox, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names[sandbox+"/"+name] = struct{}{}
}

func (l *lookers) drop(sandbox, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.names, sandbox+"/"+name)
}

func (l *lookers) has(sandbox, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.names[sandbox+"/"+strings.TrimPrefix(name, "/")]
	return ok
}

// readImage reads what stands at a path of an image without running anything:
// a container is made of it, not started, read and removed. It is removed
// whatever happens to ctx; when the engine does not answer to that, the sweep
// removes it as soon as the engine does.
func (e *engine) readImage(ctx context.Context, imageID, name string) (entry, error) {
	found, err := e.readOnce(ctx, imageID, name)
	if errors.Is(err, errVanished) { // the learner's docker container prune was quicker
		found, err = e.readOnce(ctx, imageID, name)
	}
	if errors.Is(err, errVanished) {
		err = &unseen{"the image could not be read: the container made for it was removed", err}
	}
	return found, err
}

var errVanished = errors.New("the container is gone")

func (e *engine) readOnce(ctx context.Context, imageID, name string) (found entry, err error) {
	if err := ctx.Err(); err != nil {
		return entry{}, err
	}
	id := lookName + strings.ToLower(rand.Text()[:12])
	e.looking.add(e.sb.ID(), id)
	// A request that is given up may still be carried out. So creating is not
	// given up when ctx ends, but at its own deadline only.
	whole := context.WithoutCancel(ctx)
	defer func() {
		e.remove(whole, id)
		e.looking.drop(e.sb.ID(), id)
	}()
	_, err = ask(whole, e, "create container", func(ctx context.Context, cli *client.Client) (container.CreateResponse, error) {
		return cli.ContainerCreate(ctx,
			// An image need not have a command, but a container must.
			&container.Config{Image: imageID, Cmd: []string{"-"}, Labels: map[string]string{lookLabel: "1"}},
			&container.HostConfig{NetworkMode: "none", LogConfig: container.LogConfig{Type: "none"}},
			nil, nil, id)
	})
	if err != nil {
		return entry{}, err
	}
	at := path.Clean("/" + name)
	for range maxLinks {
		var target string
		found, err = ask(ctx, e, "read file of image", func(ctx context.Context, cli *client.Client) (entry, error) {
			body, _, err := cli.CopyFromContainer(ctx, id, at)
			if err != nil {
				return entry{}, err
			}
			defer body.Close()
			var one entry
			one, target, err = readEntry(body)
			return one, err
		})
		switch {
		case errdefs.IsNotFound(err):
			_, err = ask(ctx, e, "inspect container", func(ctx context.Context, cli *client.Client) (container.InspectResponse, error) {
				return cli.ContainerInspect(ctx, id)
			})
			if errdefs.IsNotFound(err) {
				return entry{}, fmt.Errorf("read %s: %w", name, errVanished)
			}
			return entry{}, err
		case err != nil && strings.Contains(err.Error(), "not a directory"):
			return entry{}, nil // a file stands where a folder should lead on
		case err != nil || target == "":
			return found, err
		}
		// The engine follows links in the folders that lead to a file, inside
		// the container, but gives a link at the end as it is. Cleaning a
		// rooted path cannot lead out of the root.
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(at), target)
		}
		at = path.Clean("/" + target)
	}
	return entry{circle: true}, nil
}

// readEntry reads the first entry of a tar stream; target is where it points
// if it is a symbolic link.
func readEntry(r io.Reader) (found entry, target string, err error) {
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil {
		return entry{}, "", fmt.Errorf("read archive: %w", err)
	}
	if h.Typeflag == tar.TypeSymlink {
		return entry{}, h.Linkname, nil
	}
	found = entry{exists: true, mode: h.FileInfo().Mode()}
	if h.Typeflag != tar.TypeReg {
		return found, "", nil
	}
	text, err := io.ReadAll(io.LimitReader(t, maxText))
	if err != nil {
		return entry{}, "", fmt.Errorf("read archive: %w", err)
	}
	found.text, found.cut = string(text), h.Size > maxText
	return found, "", nil
}

// remove removes a container that was made for looking, by name or id.
func (e *engine) remove(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	err := e.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		e.log.Info("container is left for the sweep", "sandbox", e.sb.ID(), "container", id, "err", err)
		e.owed.Store(true)
		poke(e.doubt)
	}
}

// sweep removes containers that looks left behind, such as those of a server
// that crashed.
func (e *engine) sweep(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	left, err := e.cli.ContainerList(limited, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", lookLabel), filters.Arg("name", lookName)),
	})
	if err != nil {
		if ctx.Err() == nil {
			e.log.Info("containers could not be swept", "sandbox", e.sb.ID(), "err", err)
			e.owed.Store(true)
			poke(e.doubt)
		}
		return
	}
	for _, c := range left {
		if len(c.Names) == 0 || e.looking.has(e.sb.ID(), c.Names[0]) || c.State != container.StateCreated {
			continue
		}
		e.remove(ctx, c.ID)
	}
}
