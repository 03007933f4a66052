package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"berth/content"
	"berth/labs"
	"berth/runner"
	"berth/runner/image"
	"berth/runner/local"
	"berth/runner/runnertest"
)

// TestLocalSandboxes runs the suite of every kind of sandbox on real ones, with
// the shipped image and the agent as PID 1.
func TestLocalSandboxes(t *testing.T) {
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("/var/tmp", "berth-suite-")
	if err != nil {
		t.Fatal(err)
	}
	store := &image.Store{Dir: images, Recipes: content.Images()}
	boxes, err := local.New(t.Context(), local.Config{
		State: state, Name: "bsuite", Binary: filepath.Join(dir, "berth"), Network: netip.MustParsePrefix("10.230.0.0/16"), FirstID: 1946157056,
		Image: func(name string) (string, error) { img, err := store.Find(name); return img.Rootfs, err },
	})
	if err != nil {
		t.Fatal(err)
	}
	r := runner.New(boxes)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	runnertest.Run(t, func(t *testing.T) labs.Sandbox {
		sb, err := r.Start(t.Context(), labs.Spec{Image: "docker", Egress: labs.EgressNone})
		if err != nil {
			t.Fatal(err)
		}
		return sb
	})
}
