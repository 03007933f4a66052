package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"berth/labs"
)

// A bootstrap is one run of mmdebstrap: packages and what they depend on,
// unpacked into a directory.
type bootstrap struct {
	store   *Store
	image   string
	suite   string
	variant string // "minbase", or "extract" to only unpack
	include []string
	options []string // further options
	sources []string // lines of a sources.list; none means mmdebstrap's own
	target  string   // directory that it makes
	tmp     string   // directory for its temporary files
}

const (
	logTail  = 12      // lines of the log that an error shows
	maxLine  = 1 << 10 // bytes of a line of output that are kept
	maxLog   = 8 << 20 // bytes of the log file
	killWait = 10 * time.Second
)

// run makes b.target. What mmdebstrap says goes to the log file, its steps to
// Progress.
//
// It runs in a pid and mount namespace of its own, with the shell as pid 1:
// when the build is cancelled or this process is killed, the kernel ends
// everything that was started and drops everything that was mounted.
func (b *bootstrap) run(ctx context.Context) error {
	bin, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return &labs.Problem{Kind: labs.ErrNotFound, Cause: err,
			Say: "Images are built with mmdebstrap, which is not here. Install it with: apt-get install mmdebstrap"}
	}
	logf, err := os.OpenFile(b.store.logFile(b.image), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the build log: %w", err)
	}
	defer logf.Close()

	args := []string{"-c", `umask 022; mount -t proc proc /proc && "$@"; exit $?`, "sh",
		bin, "--mode=root", "--format=directory", "--verbose", "--variant=" + b.variant}
	if len(b.include) > 0 {
		args = append(args, "--include="+strings.Join(b.include, " "))
	}
	args = append(args, b.options...)
	args = append(args, b.suite, b.target)
	args = append(args, b.sources...)

	out := &output{b: b, log: logf}
	cmd := exec.CommandContext(ctx, "/bin/sh", args...)
	cmd.Env = append(b.proxyEnv(ctx),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LC_ALL=C.UTF-8", "TMPDIR="+b.tmp)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	cmd.WaitDelay = killWait
	b.store.step(Step{Image: b.image, Doing: "reading the lists of packages"})

	// The parent whose death Pdeathsig looks at is the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	out.flush()
	if ctx.Err() != nil {
		return fmt.Errorf("build image %s: %w", b.image, ctx.Err())
	}
	if err != nil {
		return b.explain(out, err)
	}
	return nil
}

// proxyEnv gives the proxies of this machine's apt, or else of the
// environment, as mmdebstrap hands them to its own apt.
func (b *bootstrap) proxyEnv(ctx context.Context) []string {
	var env []string
	for _, key := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if v := os.Getenv(key); v != "" {
			env = append(env, key+"="+v)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	dump, err := exec.CommandContext(ctx, "apt-config", "dump", "--format=%f=%v%n", "Acquire").Output()
	if err != nil {
		return env
	}
	for line := range strings.SplitSeq(string(dump), "\n") {
		key, v, _ := strings.Cut(line, "=")
		if v == "" || v == "DIRECT" {
			continue
		}
		switch strings.ToLower(key) { // the last one wins
		case "acquire::http::proxy":
			env = append(env, "http_proxy="+v)
		case "acquire::https::proxy":
			env = append(env, "https_proxy="+v)
		}
	}
	return env
}

// output takes what mmdebstrap, apt and dpkg say, line by line. Only the
// goroutine of exec.Cmd that copies writes to it.
type output struct {
	b       *bootstrap
	log     io.Writer
	written int
	line    []byte
	tail    []string // the last lines
	errors  []string // the first lines that apt or mmdebstrap call errors

	doing       string
	done, total int
}

// Write takes part of the output. It never fails, for the build's sake.
func (o *output) Write(p []byte) (int, error) {
	if o.written < maxLog {
		o.log.Write(p) // a log that cannot be written is not the build's failure
		o.written += len(p)
	}
	for rest := p; len(rest) > 0; {
		part, after, whole := bytes.Cut(rest, []byte("\n"))
		rest = after
		o.line = append(o.line, part[:min(len(part), maxLine-len(o.line))]...)
		if whole {
			o.flush()
		}
	}
	return len(p), nil
}

// flush ends the line.
func (o *output) flush() {
	line := strings.TrimRight(string(o.line), "\r ")
	o.line = o.line[:0]
	if line == "" {
		return
	}
	if len(o.tail) == logTail {
		o.tail = o.tail[1:]
	}
	o.tail = append(o.tail, line)
	if (strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "Err:")) && len(o.errors) < logTail {
		o.errors = append(o.errors, line)
	}
	o.progress(line)
}

var (
	newPackages = regexp.MustCompile(`^(?:\d+ upgraded, (\d+) newly installed|  Upgrading: \d+, Installing: (\d+))`)
	fetched     = regexp.MustCompile(`^Get:\d+ `)
)

// progress understands the lines that tell how far it is.
func (o *output) progress(line string) {
	phase := func(doing string, total int) {
		o.doing, o.done, o.total = doing, 0, total
	}
	switch {
	case strings.HasPrefix(line, "I: running apt-get update"):
		phase("reading the lists of packages", 0)
	case strings.HasPrefix(line, "I: downloading packages"):
		phase("downloading packages", 0)
	case strings.HasPrefix(line, "I: extracting archives"):
		phase("unpacking the base system", 0)
	case strings.HasPrefix(line, "I: installing essential"):
		phase("setting up the base system", 0)
	case strings.HasPrefix(line, "I: installing remaining"):
		phase("installing packages", 0)
	case strings.HasPrefix(line, "I: running --customize-hook"):
		phase("putting it in order", 0)
	case strings.HasPrefix(line, "I: cleaning"):
		phase("cleaning up", 0)
	case newPackages.MatchString(line):
		m := newPackages.FindStringSubmatch(line)
		o.total, _ = strconv.Atoi(m[1] + m[2])
		if o.doing == "installing packages" {
			o.total *= 2 // each is unpacked and set up
		}
	case o.doing == "downloading packages" && fetched.MatchString(line):
		o.done++
	case o.doing == "installing packages" && (strings.HasPrefix(line, "Unpacking ") || strings.HasPrefix(line, "Setting up ")):
		o.done++
	default:
		return
	}
	if o.total > 0 {
		o.done = min(o.done, o.total)
	}
	o.b.store.step(Step{Image: o.b.image, Doing: o.doing, Done: o.done, Total: o.total})
}

// errNoSuite says that a mirror does not have the release that was asked for.
var errNoSuite = errors.New("the mirror does not have this release")

var noPackage = regexp.MustCompile(`E: (?:Unable to locate package|Package '?([^' ]+)'? has no installation candidate|Couldn't find any package).*`)

// explain turns a failure into a sentence that says what to do.
func (b *bootstrap) explain(out *output, err error) error {
	said := strings.Join(append(out.errors, out.tail...), "\n")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(said, p) {
				return true
			}
		}
		return false
	}
	log := b.store.logFile(b.image)
	cause := fmt.Errorf("mmdebstrap: %w; the end of %s:\n%s", err, log, strings.Join(out.tail, "\n"))
	p := &labs.Problem{Kind: labs.ErrBusy, Cause: cause}
	switch {
	case has("No space left on device", "You don't have enough free space"):
		return noSpace(filepath.Dir(b.target), cause)
	case noPackage.MatchString(said):
		p.Kind = labs.ErrInvalid
		p.Say = fmt.Sprintf("The recipe %s names a package that Debian %s does not have (%s). Correct the recipe.",
			b.image, b.suite, strings.TrimPrefix(noPackage.FindString(said), "E: "))
	case has("Could not resolve", "Temporary failure resolving", "Could not connect", "Cannot initiate the connection", "Unable to connect", "Connection timed out", "Network is unreachable"):
		p.Say = unreachable(b.image)
	case has("does not have a Release file"):
		p.Say = fmt.Sprintf("The image %s could not be built because the package source has no Debian %s. Look at the sources of apt on this machine.", b.image, b.suite)
		p.Cause = fmt.Errorf("%w: %w", errNoSuite, cause)
	case has("NO_PUBKEY", "is not signed", "signatures couldn't be verified", "signatures were invalid"):
		p.Say = fmt.Sprintf("The image %s could not be built because the keys of Debian %s are not here. Install them with: apt-get install debian-archive-keyring", b.image, b.suite)
	case has("Failed to fetch"):
		p.Say = unreachable(b.image)
	case has("Operation not permitted", "Permission denied"):
		p.Kind = labs.ErrForbidden
		p.Say = fmt.Sprintf("The image %s could not be built because this root may not mount file systems or make devices, as in a container without privileges. Build it on the machine itself.", b.image)
	default:
		p.Say = fmt.Sprintf("The image %s could not be built; %s tells why.", b.image, log)
	}
	return p
}

func unreachable(image string) string {
	return fmt.Sprintf("The image %s could not be built because Debian's packages cannot be fetched. Look at the network, and at the sources and proxy of apt on this machine, then build again.", image)
}
