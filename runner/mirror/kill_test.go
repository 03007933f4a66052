package mirror_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth/labs"
	"berth/runner/mirror"
)

// TestMain lets the test binary be the server that TestKill ends.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BERTH_TEST_MIRROR"); dir != "" {
		if err := fillUntilKilled(dir, os.Getenv("BERTH_TEST_UPSTREAM"), os.Getenv("BERTH_TEST_LAYOUT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const killImages = 20

// fillUntilKilled fetches and adds images, and writes a line for each that is
// there.
func fillUntilKilled(dir, upstream, layout string) error {
	m, err := mirror.Open(mirror.Config{Dir: dir, Upstream: upstream})
	if err != nil {
		return err
	}
	for i := range killImages {
		ref := fmt.Sprintf("image:%d", i)
		m.Prefetch(context.Background(), []string{ref})
		if m.Source(ref) != labs.FromUpstream {
			return fmt.Errorf("%s was not fetched", ref)
		}
		fmt.Println(ref, labs.FromUpstream)
		ref = fmt.Sprintf("own:%d", i)
		if _, err := m.Add(context.Background(), layout, ref); err != nil {
			return err
		}
		fmt.Println(ref, labs.FromStock)
	}
	_, err = io.Copy(io.Discard, os.Stdin) // until killed
	return err
}

// TestKill ends the process with SIGKILL at random moments, again and again on
// the same folder. What it said is there is there, and what is there is whole.
func TestKill(t *testing.T) {
	h := newHub(t)
	h.misbehave(ranges)
	images := make(map[string]v1.Image)
	for i := range killImages {
		images[fmt.Sprintf("image:%d", i)] = h.push(fmt.Sprintf("library/image:%d", i), 200_000, 3)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "mirror")
	layout := ociLayout(t, randomImage(t), "")
	said := make(map[string]string)
	for round := range 20 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "BERTH_TEST_MIRROR="+dir, "BERTH_TEST_UPSTREAM="+h.URL, "BERTH_TEST_LAYOUT="+layout)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Some are killed while they start, most while they write.
		timer := time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { cmd.Process.Kill() })
		lines := bufio.NewReader(out)
		if round%4 != 0 {
			timer.Reset(30 * time.Second)
			lines.Peek(1) // at its end ReadAll says so
			timer.Reset(time.Duration(rand.IntN(100)) * time.Millisecond)
		}
		text, err := io.ReadAll(lines)
		if err != nil {
			t.Error(err)
		}
		timer.Stop()
		cmd.Process.Kill()
		cmd.Wait()
		stdin.Close()
		if complaint.Len() > 0 {
			t.Fatalf("round %d: %s", round, complaint.String())
		}
		for line := range strings.Lines(string(text)) {
			if ref, source, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && strings.HasSuffix(line, "\n") {
				said[ref] = source
			}
		}
		blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range blobs {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != filepath.Base(path) {
				t.Fatalf("round %d: %s is not what its name says", round, path)
			}
		}
	}
	if len(said) < 4 {
		t.Errorf("only %v was done in all rounds", said)
	}
	r := enter(t, nil, func(c *mirror.Config) { c.Dir = dir })
	for ref, source := range said {
		r.source(ref, labs.ImageSource(source))
		got, err := r.pull("library/" + ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if img := images[ref]; img != nil && digestOf(t, got) != digestOf(t, img) {
			t.Errorf("%s is another image", ref)
		}
	}
	t.Logf("%d references survived", len(said))
}
