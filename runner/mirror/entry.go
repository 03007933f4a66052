package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/labs"
)

// An entry says which manifest a reference stands for.
type entry struct {
	Ref    string    `json:"ref"`    // as ref.String gives it
	Digest string    `json:"digest"` // of the manifest or index
	At     time.Time `json:"at"`     // when it was added, or last found to be so upstream
}

// kinds are where entries come from, in the order of preference.
var kinds = []labs.ImageSource{labs.FromUpstream, labs.FromStock, labs.FromStandin}

// entries are kept in one file each, which is read whenever it is asked for:
// what another process added counts at once.
type entries struct {
	dir string
}

func (e *entries) init() error {
	for _, k := range kinds {
		if err := os.MkdirAll(e.folder(k), 0o700); err != nil {
			return fmt.Errorf("make the mirror's folder: %w", err)
		}
	}
	return nil
}

func (e *entries) folder(k labs.ImageSource) string { return filepath.Join(e.dir, "refs", string(k)) }

// path hashes the reference, so that no part of a name becomes a part of a path.
func (e *entries) path(k labs.ImageSource, r string) string {
	h := sha256.Sum256([]byte(r))
	return filepath.Join(e.folder(k), hex.EncodeToString(h[:])+".json")
}

// find gives the entry of a reference. One that cannot be read is as good as
// none: it will be fetched again, or the operator adds it again.
func (e *entries) find(k labs.ImageSource, r ref) (entry, bool) {
	x, err := readEntry(e.path(k, r.String()))
	return x, err == nil && x.Ref == r.String()
}

func readEntry(path string) (entry, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return entry{}, fmt.Errorf("read entry: %w", err)
	}
	var x entry
	if err := json.Unmarshal(b, &x); err != nil {
		return entry{}, fmt.Errorf("read entry %s: %w", path, err)
	}
	if !digestRE.MatchString(x.Digest) {
		return entry{}, fmt.Errorf("read entry %s: no digest", path)
	}
	return x, nil
}

// set stores an entry; it is there whole or not at all.
func (e *entries) set(k labs.ImageSource, x entry) error {
	b, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("store entry: %w", err)
	}
	f, err := os.CreateTemp(filepath.Join(e.dir, "tmp"), "entry-*")
	if err != nil {
		return fmt.Errorf("store entry: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), e.path(k, x.Ref))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("store entry: %w", err)
	}
	return nil
}

// remove forgets an entry; one that is not there is not an error.
func (e *entries) remove(k labs.ImageSource, r string) error {
	if err := os.Remove(e.path(k, r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove entry: %w", err)
	}
	return nil
}

// count gives how many entries of a kind there are.
func (e *entries) count(k labs.ImageSource) (int, error) {
	list, err := os.ReadDir(e.folder(k))
	if err != nil {
		return 0, fmt.Errorf("count entries: %w", err)
	}
	return len(list), nil
}

// all lists the entries of a kind. Files that are none are passed over.
func (e *entries) all(k labs.ImageSource) ([]entry, error) {
	list, err := os.ReadDir(e.folder(k))
	if err != nil {
		return nil, fmt.Errorf("list entries: %w", err)
	}
	var xs []entry
	for _, f := range list {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		if x, err := readEntry(filepath.Join(e.folder(k), f.Name())); err == nil {
			xs = append(xs, x)
		}
	}
	return xs, nil
}
