package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
)

func (m *machine) List(_ context.Context, dir string, limit int) (found []labs.FileInfo, err error) {
	entries, err := os.ReadDir(m.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", dir, labs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w: %w", dir, err, labs.ErrInvalid)
	}
	for _, e := range entries[:min(limit, len(entries))] {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		found = append(found, labs.FileInfo{Path: filepath.Join("/root", strings.TrimPrefix(dir, "~"), e.Name()), Size: info.Size(), Mode: info.Mode(), MTime: info.ModTime()})
	}
	return found, nil
}

// saving keeps two who save the same file apart, as an agent does.
var saving sync.Mutex

func (m *machine) WriteFile(_ context.Context, name string, text []byte, was labs.Version) (labs.Version, error) {
	saving.Lock()
	defer saving.Unlock()
	switch {
	case strings.HasPrefix(name, "/proc/"):
		return "", fmt.Errorf("save %s: %w", name, labs.ErrForbidden)
	case strings.HasPrefix(name, "/full/"):
		return "", fmt.Errorf("the disk is full: %w", labs.ErrBusy)
	}
	b, err := os.ReadFile(m.path(name))
	now := labs.Version("")
	if err == nil {
		now = version(b)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("save %s: %w: %w", name, err, labs.ErrInvalid)
	}
	if now != was {
		return now, fmt.Errorf("save %s: %w", name, labs.ErrChanged)
	}
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		return "", err
	}
	return version(text), os.WriteFile(m.path(name), text, 0o644)
}

// file reads or, with a body, saves a file.
func (u *surfer) file(method, path, query string, body any) (int, string) {
	u.t.Helper()
	b := ""
	switch v := body.(type) {
	case nil:
	case string:
		b = v
	default:
		j, err := json.Marshal(v)
		if err != nil {
			u.t.Fatal(err)
		}
		b = string(j)
	}
	address := "http://" + u.main + "/api/sessions/" + u.session + "/file?path=" + url.QueryEscape(path) + query
	resp := u.request(method, address, strings.NewReader(b), "X-Berth", "1", "Content-Type", "application/json")
	return resp.StatusCode, u.body(resp)
}

type save struct {
	Text string `json:"text"`
	Was  string `json:"was"`
}

func TestEdit(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	m := w.machines.last(0)
	m.home = t.TempDir()
	is := func(what string, code int, body string, want int, text string) map[string]any {
		t.Helper()
		var v map[string]any
		if err := json.Unmarshal([]byte(body), &v); err != nil || code != want || !strings.Contains(body, text) {
			t.Fatalf("%s: %d %.500s %v; want %d with %s", what, code, body, err, want, text)
		}
		return v
	}
	const text = "print('grüße')\n\"\\\t<&>\u2028\r\n"
	code, body := u.file("GET", "~/app/main.py", "", nil)
	is("read what is not there", code, body, 404, "There is no such file in your sandbox.")
	code, body = u.file("PUT", "~/app/main.py", "", save{text, ""})
	made := is("make", code, body, 200, "version")["version"].(string)
	code, body = u.file("GET", "~/app/main.py", "", nil)
	if v := is("read", code, body, 200, ""); v["text"] != text || v["version"] != made || v["path"] != "~/app/main.py" {
		t.Errorf("read %v, want version %s", v, made)
	}
	code, body = u.file("PUT", "~/app/main.py", "", save{"two", ""})
	if v := is("make again", code, body, 409, "There is a file of this name already"); v["version"] != made {
		t.Errorf("the version told is %v", v)
	}
	code, body = u.file("PUT", "~/app/main.py", "", save{"two", made})
	second := is("save", code, body, 200, "version")["version"]
	code, body = u.file("PUT", "~/app/main.py", "", save{"three", made})
	if v := is("save over what changed", code, body, 409, "was changed in the sandbox meanwhile"); v["version"] != second {
		t.Errorf("the version told is %v, want %v", v, second)
	}
	if b, err := os.ReadFile(filepath.Join(m.home, "app/main.py")); string(b) != "two" {
		t.Errorf("the file holds %q %v", b, err)
	}
	os.Remove(filepath.Join(m.home, "app/main.py"))
	code, body = u.file("PUT", "~/app/main.py", "", save{"three", made})
	if v := is("save over what went", code, body, 409, "was removed in the sandbox"); v["version"] != "" {
		t.Errorf("the version told is %v", v)
	}
	code, body = u.file("PUT", "~/empty", "", save{"", ""})
	is("save nothing", code, body, 200, "version")

	for what, c := range map[string]struct {
		path, query string
		content     string // of the file first
		code        int
		say         string
	}{
		"a directory":       {"~/app", "", "", 400, "it is a directory"},
		"large":             {"~/large", "", strings.Repeat("x", 1<<20+1), 400, "larger than 1 MiB"},
		"not text":          {"~/bin", "", "\xff\xfe", 400, "This file is not text"},
		"zeros":             {"~/zero", "", "a\x00b", 400, "This file is not text"},
		"relative":          {"app/main.py", "", "", 400, "begins with / or with ~/"},
		"of a user":         {"~root/x", "", "", 400, "begins with"},
		"none":              {"", "", "", 400, "begins with"},
		"zero in the name":  {"/a\x00b", "", "", 400, "no path"},
		"long name":         {"/" + strings.Repeat("a", 5000), "", "", 400, "no path"},
		"bad name":          {"/\xff", "", "", 400, "no path"},
		"sandbox 0":         {"~/app", "&host=0", "", 400, "numbered from 1"},
		"sandbox x":         {"~/app", "&host=x", "", 400, "numbered from 1"},
		"sandbox 2 of 1":    {"~/app", "&host=2", "", 404, "no sandbox number 2"},
		"largest that goes": {"~/most", "", strings.Repeat("x", 1<<20), 200, "xxx"},
	} {
		if c.content != "" {
			if err := os.WriteFile(m.path(c.path), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		code, body := u.file("GET", c.path, c.query, nil)
		is("read "+what, code, body, c.code, c.say)
	}
	for what, c := range map[string]struct {
		path string
		body any
		code int
		say  string
	}{
		"too large":       {"~/l", save{strings.Repeat("x", 1<<20+1), ""}, 400, "larger than 1 MiB"},
		"largest":         {"~/l", save{strings.Repeat("\x01", 1<<20), ""}, 200, "version"},
		"far too large":   {"~/l", save{strings.Repeat("\x01", 2<<20), ""}, 400, "larger than 1 MiB"},
		"zeros":           {"~/z", save{"a\x00b", ""}, 400, "Only text"},
		"no UTF-8":        {"~/z", "{\"text\":\"\xff\"}", 400, "Only text in UTF-8"},
		"no text":         {"~/z", "{\"was\":\"\"}", 400, "did not understand"},
		"null":            {"~/z", "{\"text\":null}", 400, "did not understand"},
		"a number":        {"~/z", "{\"text\":1}", 400, "did not understand"},
		"no JSON":         {"~/z", "text", 400, "did not understand"},
		"two":             {"~/z", "{\"text\":\"\"}{}", 400, "did not understand"},
		"nothing":         {"~/z", "", 400, "did not understand"},
		"a directory":     {"~/app", save{"x", ""}, 400, "directory"},
		"a name with end": {"~/app/", save{"x", ""}, 400, "Give the file a name"},
		"below a file":    {"~/empty/x", save{"x", ""}, 400, "no directory"},
		"read-only":       {"/proc/x", save{"x", ""}, 403, "read-only"},
		"a full disk":     {"/full/x", save{"x", ""}, 429, "disk of your sandbox is full"},
		"a long version":  {"~/z", save{"x", strings.Repeat("v", 300)}, 400, "did not understand"},
	} {
		code, body := u.file("PUT", c.path, "", c.body)
		is("save "+what, code, body, c.code, c.say)
	}
	if _, err := os.Stat(m.path("~/z")); err == nil {
		t.Error("something that was refused has been saved")
	}
	u.must("POST", "/api/sessions/"+u.session+"/end")
	code, body = u.file("GET", "~/empty", "", nil)
	is("read of an ended sandbox", code, body, 410, "ended")
}

func TestEditList(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	m := w.machines.last(0)
	m.home = t.TempDir()
	list := func(query string) (code int, v struct {
		Dir     string
		Entries []struct {
			Name, Path string
			Dir        bool
			Size       int64
			MTime      string
		}
		More  bool
		Error string
	}) {
		t.Helper()
		resp := u.request("GET", "http://"+u.main+"/api/sessions/"+u.session+"/files"+query, nil)
		b := u.body(resp)
		if err := json.Unmarshal([]byte(b), &v); err != nil {
			t.Fatalf("%s %v", b, err)
		}
		return resp.StatusCode, v
	}
	if code, v := list(""); code != 200 || v.Dir != "~/" || v.Entries == nil || len(v.Entries) > 0 || v.More {
		t.Errorf("empty: %d %+v", code, v)
	}
	os.Mkdir(m.path("~/a dir"), 0o755)
	os.WriteFile(m.path("~/b.txt"), []byte("12345"), 0o644)
	code, v := list("?dir=~")
	if code != 200 || len(v.Entries) != 2 || v.Entries[0].Name != "a dir" || !v.Entries[0].Dir || v.Entries[1].Path != "/root/b.txt" || v.Entries[1].Size != 5 || v.Entries[1].Dir || v.Entries[1].MTime == "" {
		t.Errorf("two: %d %+v", code, v)
	}
	for query, want := range map[string]struct {
		code int
		say  string
	}{
		"?dir=~/none": {404, "no such directory"}, "?dir=~/b.txt": {400, "no directory"}, "?dir=x": {400, "begins with"}, "?dir=/&host=9": {404, "no sandbox number 9"},
	} {
		if code, v := list(query); code != want.code || !strings.Contains(v.Error, want.say) {
			t.Errorf("%s: %d %+v", query, code, v)
		}
	}
	for i := range 1001 {
		os.WriteFile(m.path(fmt.Sprintf("~/a dir/%d", i)), nil, 0o644)
	}
	if code, v := list("?dir=" + url.QueryEscape("~/a dir")); code != 200 || len(v.Entries) != 1000 || !v.More {
		t.Errorf("1,001: %d %d %v", code, len(v.Entries), v.More)
	}
}

// TestAttackEditOfOthers: files can be read and saved only by a page of ours,
// for their own learner.
func TestAttackEditOfOthers(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	alice := w.surfer("localhost" + w.port)
	m := w.machines.last(0)
	m.home = t.TempDir()
	if code, body := alice.file("PUT", "~/f", "", save{"secret", ""}); code != 200 {
		t.Fatal(body)
	}
	mallory := w.surfer("localhost" + w.port)
	base := "http://" + alice.main + "/api/sessions/" + alice.session
	for _, path := range []string{"/file?path=~/f", "/file?path=~/f&host=2", "/files"} {
		if resp := mallory.request("GET", base+path, nil); resp.StatusCode != 404 {
			t.Errorf("mallory reads: %s %s", resp.Status, mallory.body(resp))
		} else if b := mallory.body(resp); !strings.Contains(b, "or it is not yours") {
			t.Errorf("mallory reads: %s", b)
		}
	}
	resp := mallory.request("PUT", base+"/file?path=~/g", strings.NewReader(`{"text":"evil"}`), "X-Berth", "1")
	if mallory.body(resp); resp.StatusCode != 404 {
		t.Errorf("mallory saves: %s", resp.Status)
	}
	for _, headers := range [][]string{
		{}, {"X-Berth", "1", "Origin", "https://evil.example"}, {"X-Berth", "1", "Origin", "null"}, {"X-Berth", "1", "Sec-Fetch-Site", "cross-site"},
		{"X-Berth", "1", "Sec-Fetch-Site", "same-site"}, {"X-Berth", "1", "Origin", alice.at("80", "")}, {"Sec-Fetch-Site", "same-origin"},
	} {
		resp := alice.request("PUT", base+"/file?path=~/g", strings.NewReader(`{"text":"evil"}`), headers...)
		if b := alice.body(resp); resp.StatusCode != 403 {
			t.Errorf("saved from elsewhere, %s: %s %s", headers, resp.Status, b)
		}
	}
	for _, headers := range [][]string{{"Origin", alice.at("80", "")}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "cross-site"}} {
		resp := alice.request("GET", base+"/file?path=~/f", nil, headers...)
		if b := alice.body(resp); resp.StatusCode != 403 || strings.Contains(b, "secret") {
			t.Errorf("read from elsewhere, %s: %s %s", headers, resp.Status, b)
		}
	}
	if _, err := os.Stat(m.path("~/g")); err == nil {
		t.Error("it was saved")
	}
}

// TestAttackEditFlood: one learner cannot make the server hold many texts.
func TestAttackEditFlood(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).home = t.TempDir()
	started := make(chan *io.PipeWriter, 4)
	var held sync.WaitGroup
	for range 4 {
		r, in := io.Pipe()
		started <- in
		req := u.build("PUT", "http://"+u.main+"/api/sessions/"+u.session+"/file?path=~/f")
		req.Body, req.ContentLength = r, -1
		req.Header.Set("X-Berth", "1")
		held.Go(func() {
			if resp, err := u.client.Do(req); err == nil {
				resp.Body.Close()
			}
		})
		if _, err := io.WriteString(in, `{"text":"`); err != nil {
			t.Fatal(err)
		}
	}
	code := 0
	for deadline := time.Now().Add(20 * time.Second); code != http.StatusTooManyRequests && time.Now().Before(deadline); {
		code, _ = u.file("GET", "~/none", "", nil)
	}
	if code != http.StatusTooManyRequests {
		t.Error("a fifth text is taken while four are under way")
	}
	for range 4 {
		(<-started).CloseWithError(errors.New("the browser leaves"))
	}
	held.Wait()
}
