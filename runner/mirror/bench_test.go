package mirror_test

import (
	"io"
	"net/http"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// BenchmarkServe is what a learner's engine waits for when all is here.
func BenchmarkServe(b *testing.B) {
	const size = 32 << 20
	img, err := random.Image(size, 1)
	if err != nil {
		b.Fatal(err)
	}
	r := enter(b, nil, nil)
	dir := b.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		b.Fatal(err)
	}
	if _, err := r.Add(b.Context(), dir, "redis:1"); err != nil {
		b.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		b.Fatal(err)
	}
	var digest v1.Hash
	if digest, err = layers[0].Digest(); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		bytes      int64
	}{
		{"manifest", "/v2/library/redis/manifests/1", 0},
		{"blob", "/v2/library/redis/blobs/" + digest.String(), size},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(c.bytes)
			for b.Loop() {
				resp, err := http.Get("http://" + r.addr + c.path)
				if err != nil {
					b.Fatal(err)
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp.Status, err)
				}
			}
		})
	}
}
