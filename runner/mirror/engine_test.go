package mirror_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth/labs"
)

// engine starts a Docker Engine of its own whose mirror is at address, and
// which has no network, bridge or firewall rules to set up.
func engine(t *testing.T, address string) *client.Client {
	t.Helper()
	// The path of a unix socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "berth-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var out bytes.Buffer
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	cmd := exec.Command("dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--config-file", filepath.Join(dir, "daemon.json"), "--host", socket,
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--storage-driver", "vfs",
		"--registry-mirror", "http://"+address)
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start an engine: %v", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			t.Error("the engine did not end by itself")
		}
		if t.Failed() {
			t.Logf("engine: %s", out.String())
		}
	})
	cli, err := client.NewClientWithOpts(client.WithHost(socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := cli.Ping(ctx)
		cancel()
		if err == nil {
			return cli
		}
		select {
		case <-ended:
			t.Fatalf("the engine ended: %s", out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the engine does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// bootable gives an image that says which machine it is for.
func bootable(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestRealEngine pulls through the mirror with a real Docker Engine: an image
// from upstream whose download breaks off once, a stocked one and a stand-in
// without upstream, and what the engine itself saved.
func TestRealEngine(t *testing.T) {
	h := newHub(t)
	real := bootable(t, randomImage(t))
	if err := remote.Write(h.ref("library/redis:3.2.11-alpine"), real); err != nil {
		t.Fatal(err)
	}
	r := enter(t, h, nil)
	cli := engine(t, r.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pull := func(ref string, want v1.Image) {
		t.Helper()
		progress, err := cli.ImagePull(ctx, ref, image.PullOptions{})
		if err != nil {
			t.Fatalf("pull %s: %v", ref, err)
		}
		defer progress.Close()
		text, err := io.ReadAll(progress)
		if err != nil || bytes.Contains(text, []byte(`"error"`)) {
			t.Fatalf("pull %s: %s (%v)", ref, text, err)
		}
		got, err := cli.ImageInspect(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got.RootFS.Layers) != fmt.Sprint(strings.Fields(strings.Trim(layerDiff(t, want), "[]"))) {
			t.Errorf("%s has the layers %v, want %s", ref, got.RootFS.Layers, layerDiff(t, want))
		}
	}
	broken := false
	h.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.Contains(req.URL.Path, layerOf(t, real, 2)) && !broken {
			broken = true
			w.Header().Set("Content-Length", "2048")
			w.Write([]byte{0x1f})
			panic(http.ErrAbortHandler)
		}
		ranges(w, req, next)
	})
	// The first byte is right: gzip begins like this.
	pull("redis:3.2.11-alpine", real)
	r.source("redis:3.2.11-alpine", labs.FromUpstream)

	saved, err := cli.ImageSave(ctx, []string{"redis:3.2.11-alpine"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "redis.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, saved); err != nil {
		t.Fatal(err)
	}
	saved.Close()
	f.Close()
	h.stop()
	if _, err := cli.ImageRemove(ctx, "redis:3.2.11-alpine", image.RemoveOptions{PruneChildren: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(ctx, file, "own:1"); err != nil {
		t.Fatal(err)
	}
	pull("own:1", real)
	if _, err := r.Add(ctx, file, ""); err != nil {
		t.Fatal(err)
	}
	standin := bootable(t, randomImage(t))
	if err := r.SetStandin(ctx, "valkey:1", standin); err != nil {
		t.Fatal(err)
	}
	pull("valkey:1", standin)
	pull("redis:3.2.11-alpine", real) // cached, upstream is away
}
