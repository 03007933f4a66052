package verify

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"berth/labs"
)

const (
	maxListed    = 256 // newest containers that are looked through
	maxInspected = 64  // of which so many are looked at one by one
	maxParts     = 256 // ports, mounts and such of one container
	maxArgs      = 64 << 10
)

// A sighting is what a container looks like.
type sighting struct {
	id, name string
	image    string // as it was asked for
	imageID  string
	command  string // arguments joined by single spaces
	created  time.Time
	known    bool // it was inspected; otherwise only what an event said is here
	removed  bool

	status  string // "created", "running", "exited", …
	ended   bool   // exit is known
	exit    int64
	tty     bool
	health  string
	ports   []string // "8080:80/tcp"
	mounts  []string // destinations
	memory  int64
	raw     []byte // output of a container that was attached to, framed
	printed bool   // raw is all that there was, up to its bound
}

// see takes what is of interest from the engine's answer, with bounds.
func see(c container.InspectResponse) sighting {
	s := sighting{
		id:      clean(c.ID, 128),
		name:    clean(strings.TrimPrefix(c.Name, "/"), 256),
		image:   clean(c.Config.Image, 512),
		imageID: clean(c.Image, 128),
		tty:     c.Config.Tty,
		known:   true,
	}
	s.created, _ = time.Parse(time.RFC3339Nano, c.Created)
	s.command = strings.Join(append([]string{c.Path}, c.Args...), " ")
	s.command = strings.Clone(s.command[:min(len(s.command), maxArgs)])
	if st := c.State; st != nil {
		s.status = clean(st.Status, 64)
		s.exit = int64(st.ExitCode)
		// A container that could not be started has an exit status, too.
		s.ended = s.status == "exited" || s.status == "dead" || s.status == "created" && st.ExitCode != 0
		if st.Health != nil {
			s.health = clean(st.Health.Status, 64)
		}
	}
	for _, m := range c.Mounts[:min(len(c.Mounts), maxParts)] {
		s.mounts = append(s.mounts, clean(m.Destination, 512))
	}
	if h := c.HostConfig; h != nil {
		s.memory = h.Memory
		for to := range h.Tmpfs {
			if len(s.mounts) < maxParts {
				s.mounts = append(s.mounts, clean(to, 512))
			}
		}
		for port, bindings := range h.PortBindings {
			for _, b := range bindings {
				if len(s.ports) < maxParts {
					s.ports = append(s.ports, clean(b.HostPort, 16)+":"+clean(string(port), 16))
				}
			}
		}
	}
	if n := c.NetworkSettings; n != nil {
		for port, bindings := range n.Ports {
			for _, b := range bindings {
				if len(s.ports) < maxParts {
					s.ports = append(s.ports, clean(b.HostPort, 16)+":"+clean(string(port), 16))
				}
			}
		}
	}
	slices.Sort(s.ports)
	s.ports = slices.Compact(s.ports)
	return s
}

// what says which container a check means.
func (c *wanted) what() string {
	s := "a container"
	if c.Name != "" {
		s += " named " + code(c.Name)
	}
	if c.Image != "" {
		s += " of the image " + code(c.Image)
	}
	if c.Command != "" {
		s += ", started with a command" + like(c.Command)
	}
	return s
}

// wanted is a check with what it refers to.
type wanted struct {
	*labs.ContainerCheck
	ref     string // Image, spelled out
	imageID string // what it refers to now, or ""
	command *regexp.Regexp
}

func expectContainer(c *labs.ContainerCheck) string {
	w := wanted{ContainerCheck: c}
	var more []string
	if c.State != "" {
		more = append(more, "is "+c.State)
	}
	if !c.Exit.IsZero() {
		more = append(more, "ended with exit status "+c.Exit.String())
	}
	if !c.Logs.IsZero() {
		if words := reads(c.Logs); words != "" {
			more = append(more, "printed a text that "+words)
		} else if absent(c.Logs) {
			more = append(more, "printed nothing")
		}
	}
	if c.Health != "" {
		more = append(more, "has the health "+c.Health)
	}
	for _, p := range c.Publishes {
		more = append(more, "publishes port "+p)
	}
	for _, m := range c.Mounts {
		more = append(more, "has something mounted at "+code(m))
	}
	if !c.Memory.IsZero() {
		more = append(more, "has a memory limit of "+c.Memory.String()+" bytes")
	}
	if len(more) == 0 {
		return w.what()
	}
	return w.what() + " that " + list(more)
}

// refersTo reports whether the container was made from the image.
func (w *wanted) refersTo(ref, id string) bool {
	if w.imageID != "" && id == w.imageID {
		return true
	}
	return fullRef(ref) == w.ref
}

func (w *wanted) fits(s *sighting) bool {
	return (w.Name == "" || s.name == strings.TrimPrefix(w.Name, "/")) &&
		(w.Image == "" || w.refersTo(s.image, s.imageID)) &&
		(w.command == nil || w.command.MatchString(s.command))
}

// lookContainer looks at the newest container that the check means.
func (w *watch) lookContainer(ctx context.Context, c *labs.ContainerCheck) (verdict, error) {
	want := wanted{ContainerCheck: c}
	if c.Command != "" {
		p, err := regexp.Compile(c.Command)
		if err != nil {
			return verdict{}, &unseen{reason: "the lesson's pattern for the command is not valid", err: err}
		}
		want.command = p
	}
	if c.Image != "" {
		want.ref = fullRef(c.Image)
		img, err := ask(ctx, w.engine, "inspect image", func(ctx context.Context, cli *client.Client) (image.InspectResponse, error) {
			return cli.ImageInspect(ctx, want.ref)
		})
		switch {
		case err == nil:
			want.imageID = img.ID
		case !errdefs.IsNotFound(err):
			return verdict{}, err
		}
	}
	// Those that are gone first: one that is removed between the two looks is
	// in the second of them then.
	listed, err := ask(ctx, w.engine, "list containers", func(ctx context.Context, cli *client.Client) ([]container.Summary, error) {
		return cli.ContainerList(ctx, container.ListOptions{All: true, Limit: maxListed})
	})
	if err != nil {
		return verdict{}, err
	}
	remembered := w.recorder.remembered()

	var found *sighting
	var near string // what there is instead
	inspected := 0
	slices.SortStableFunc(listed, func(a, b container.Summary) int { return -cmp.Compare(a.Created, b.Created) })
	present := make(map[string]bool, len(listed))
	for _, l := range listed {
		present[l.ID] = true
	}
	for _, l := range listed {
		if _, ours := l.Labels[lookLabel]; ours || found != nil || !mayFit(&want, l) || inspected == maxInspected {
			continue
		}
		inspected++
		s, err := w.inspect(ctx, l.ID)
		if errdefs.IsNotFound(err) {
			delete(present, l.ID)
			continue
		}
		if err != nil {
			return verdict{}, err
		}
		if want.fits(&s) {
			found = &s
		} else if near == "" && want.Command != "" {
			near = "the newest one ran " + code(s.command)
		}
	}
	for i := range remembered {
		s := &remembered[i]
		// One that is not listed any more is gone, told or not.
		if present[s.id] || !s.known && want.Command != "" || !want.fits(s) {
			if !present[s.id] && s.known && near == "" && want.Command != "" && want.Image != "" && want.refersTo(s.image, s.imageID) {
				near = "the newest one ran " + code(s.command)
			}
			continue
		}
		s.removed = true
		if found == nil || s.created.After(found.created) {
			found = s
		}
		break
	}
	if found == nil {
		seen := "there is no such container"
		if near != "" {
			seen += "; " + near
		}
		return verdict{seen: seen, patience: brief}, nil
	}
	return w.judge(ctx, &want, found)
}

// mayFit tells without a closer look that a container cannot be the one.
func mayFit(want *wanted, l container.Summary) bool {
	if want.Name != "" && !slices.ContainsFunc(l.Names, func(n string) bool {
		return strings.TrimPrefix(n, "/") == strings.TrimPrefix(want.Name, "/")
	}) {
		return false
	}
	// The list shows the id for a reference that now means another image.
	return want.Image == "" || want.refersTo(l.Image, l.ImageID) || imageID.MatchString(l.Image)
}

// inspect looks at one container.
func (w *watch) inspect(ctx context.Context, id string) (sighting, error) {
	info, err := ask(ctx, w.engine, "inspect container", func(ctx context.Context, cli *client.Client) (container.InspectResponse, error) {
		return cli.ContainerInspect(ctx, id)
	})
	if err != nil {
		return sighting{}, err
	}
	if info.ContainerJSONBase == nil || info.Config == nil {
		return sighting{}, &unseen{reason: "your Docker Engine answered with something else"}
	}
	return see(info), nil
}

// judge compares a container with what the check expects of it.
func (w *watch) judge(ctx context.Context, c *wanted, s *sighting) (verdict, error) {
	name := "the container"
	if s.name != "" {
		name += " " + code(s.name)
	}
	var wrong []string
	wait := none
	if c.State != "" && s.status != c.State {
		is := s.status
		if s.removed {
			is = cmp.Or(s.status, "gone") + " and removed"
		}
		wrong = append(wrong, "is "+is)
	} else if c.State == "running" && s.removed {
		wrong = append(wrong, "was removed")
	}
	if !c.Exit.IsZero() {
		switch {
		case !s.ended && s.removed:
			wrong = append(wrong, "was removed before it ended")
			wait = brief
		case !s.ended:
			wrong = append(wrong, "has not ended yet")
			if s.status == "created" {
				wait = brief // nothing tells of one that cannot be started
			}
		case !c.Exit.Test(s.exit):
			wrong = append(wrong, "ended with exit status "+strconv.FormatInt(s.exit, 10))
		}
	}
	if c.Health != "" && s.health != c.Health {
		wrong = append(wrong, "has "+cmp.Or(s.health, "no")+" health")
	}
	for _, p := range c.Publishes {
		if !publishes(s.ports, p) {
			wrong = append(wrong, "does not publish port "+p)
		}
	}
	for _, m := range c.Mounts {
		if !slices.Contains(s.mounts, m) {
			wrong = append(wrong, "has nothing mounted at "+code(m))
		}
	}
	if !c.Memory.IsZero() {
		switch {
		case s.memory == 0 && !(c.Memory.Op == '=' && c.Memory.Value == 0):
			wrong = append(wrong, "has no memory limit")
		case !c.Memory.Test(s.memory):
			wrong = append(wrong, "has a memory limit of "+strconv.FormatInt(s.memory, 10)+" bytes")
		}
	}
	if !c.Logs.IsZero() {
		text, err := w.output(ctx, s)
		switch {
		case errors.Is(err, errNoOutput):
			wrong = append(wrong, "was gone before its output could be read")
		case err != nil:
			return verdict{}, err
		case absent(c.Logs):
			if text != "" {
				wrong = append(wrong, "printed "+quote(text))
			}
		case !c.Logs.Test(text):
			if strings.TrimSpace(text) == "" {
				wrong = append(wrong, "printed nothing")
			} else {
				wrong = append(wrong, "printed "+quote(text))
			}
			wait = brief
			if s.status == "running" {
				wait = steady
			}
		}
	}
	if len(wrong) > 0 {
		return verdict{seen: name + " " + list(wrong), patience: wait}, nil
	}
	seen := name
	switch {
	case !c.Logs.IsZero():
		seen += " printed what is expected"
	case s.ended:
		seen += " ended with exit status " + strconv.FormatInt(s.exit, 10)
	default:
		seen += " is " + cmp.Or(s.status, "there")
	}
	return verdict{holds: true, seen: seen}, nil
}

// publishes reports whether a port is among those that are published: "80" in
// the container, or "8080:80" from outside to inside; TCP when not said.
func publishes(ports []string, want string) bool {
	if !strings.Contains(want, "/") {
		want += "/tcp"
	}
	return slices.ContainsFunc(ports, func(p string) bool {
		return p == want || !strings.Contains(want, ":") && strings.HasSuffix(p, ":"+want)
	})
}

var errNoOutput = errors.New("the output is not known")

// output gives the first part of what a container printed.
func (w *watch) output(ctx context.Context, s *sighting) (string, error) {
	if !s.removed {
		text, err := ask(ctx, w.engine, "read logs", func(ctx context.Context, cli *client.Client) (string, error) {
			body, err := cli.ContainerLogs(ctx, s.id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
			if err != nil {
				return "", err
			}
			defer body.Close()
			return readOutput(body, s.tty)
		})
		var u *unseen
		switch {
		case err == nil:
			return text, nil
		case errdefs.IsNotFound(err), errors.As(err, &u) && (answered(u.err) || errors.Is(u.err, errNoOutput)):
			// It was removed this moment, or keeps no log that can be read.
		default:
			return "", err
		}
		for _, r := range w.recorder.remembered() {
			if r.id == s.id {
				s.raw, s.printed = r.raw, r.printed
			}
		}
	}
	if !s.printed {
		return "", errNoOutput
	}
	return readOutput(strings.NewReader(string(s.raw)), s.tty)
}

// streamError marks a frame in which the engine says that it cannot go on.
const streamError = 3

// readOutput reads at most maxLogs bytes of text from an output stream.
// Without a terminal the engine frames stdout and stderr by 8 bytes each, of
// which the last four are the length of what follows.
func readOutput(r io.Reader, tty bool) (string, error) {
	if tty {
		text, err := io.ReadAll(io.LimitReader(r, maxLogs))
		// A terminal ends lines with CR LF.
		return strings.ReplaceAll(string(text), "\r\n", "\n"), err
	}
	var text strings.Builder
	for text.Len() < maxLogs {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return text.String(), streamEnd(err)
		}
		if head[0] == streamError {
			return "", errNoOutput
		}
		n := int64(binary.BigEndian.Uint32(head[4:]))
		m, err := io.CopyN(&text, r, min(n, int64(maxLogs-text.Len())))
		if err != nil || m < n {
			return text.String(), streamEnd(err)
		}
	}
	return text.String(), nil
}

// streamEnd takes the end of a stream, in the middle of a frame or not, as no error.
func streamEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
