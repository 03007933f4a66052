package web_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
	"berth/web"
)

// testBundle stands for what web/ui builds.
var testBundle = fstest.MapFS{
	"app.js":  {Data: []byte(strings.Repeat("console.log('berth');\n", 2000))},
	"app.css": {Data: []byte(strings.Repeat("body { margin: 0 }\n", 500))},
	".keep":   {},
}

// newServer serves lessons over a real desk on a loopback port.
func newServer(t testing.TB, edit func(*web.Config), lessons ...*labs.Lesson) (*httptest.Server, *web.Server, *boxes) {
	t.Helper()
	if lessons == nil {
		lessons = testLessons()
	}
	d, bs := newDesk(t, lessons...)
	c := web.Config{Desk: d, Images: d.Mirror, Bundle: testBundle}
	if edit != nil {
		edit(&c)
	}
	s, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		ts.Close()
	})
	return ts, s, bs
}

// TestScripts runs every testdata/*.txt against a server of its own. A script
// has one instruction on a line:
//
//	as NAME                          the browser of this person, with its cookies
//	GET /path                        a request (POST likewise)
//	with Name: value                 a header of the request; "Host" is one
//	code == 200                      what must be true of the answer
//	body contains|!contains|matches TEXT
//	header NAME ==|contains|!contains|matches TEXT
//	let VAR = json KEY | header NAME remembers something for $VAR
//	lesson KEY VALUE                 before any request: the first lesson's id or title
//	# comment
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, lessons: testLessons(), vars: map[string]string{}, people: map[string]*http.Client{}}
			s.as("nobody")
			for i, line := range strings.Split(string(text), "\n") {
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				if err := s.do(line); err != nil {
					t.Fatalf("%s:%d: %s\n%v\nanswer %d, header %v\n%.3000s", file, i+1, line, err, s.code, s.header, s.body)
				}
			}
		})
	}
}

type script struct {
	t       *testing.T
	lessons []*labs.Lesson
	ts      *httptest.Server
	people  map[string]*http.Client
	client  *http.Client
	vars    map[string]string

	req    *http.Request // not sent yet
	code   int
	header http.Header
	body   string
}

func (s *script) as(name string) {
	if s.people[name] == nil {
		jar, err := cookiejar.New(nil)
		if err != nil {
			s.t.Fatal(err)
		}
		s.people[name] = &http.Client{
			Jar: jar, Timeout: 10 * time.Second, Transport: &http.Transport{DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		s.t.Cleanup(s.people[name].CloseIdleConnections)
	}
	s.client = s.people[name]
}

func (s *script) do(line string) error {
	line = os.Expand(line, func(v string) string {
		if val, ok := s.vars[v]; ok {
			return val
		}
		return "$" + v
	})
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "lesson":
		key, val, _ := strings.Cut(rest, " ")
		switch key {
		case "id":
			s.lessons[0].ID = val
		case "title":
			s.lessons[0].Title = val
		case "none":
			s.lessons = []*labs.Lesson{}
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		return nil
	case "as":
		s.as(rest)
		return nil
	case "GET", "HEAD", "POST", "DELETE":
		if s.ts == nil {
			s.ts, _, _ = newServer(s.t, func(c *web.Config) { c.Hosts = []string{"labs.example.org"} }, s.lessons...)
		}
		req, err := http.NewRequest(verb, s.ts.URL, nil)
		if err != nil {
			return err
		}
		// The path goes out as it is written, "..", "//" and all.
		path, query, _ := strings.Cut(rest, "?")
		if req.URL.RawQuery = query; strings.HasPrefix(path, "//") {
			req.URL.Path = path
		} else {
			req.URL.Opaque = path
		}
		s.req = req
		return nil
	case "with":
		k, v, ok := strings.Cut(rest, ": ")
		if !ok || s.req == nil {
			return fmt.Errorf("with Name: value, after a request")
		}
		if k == "Host" {
			s.req.Host = v
		}
		s.req.Header.Set(k, v)
		return nil
	}
	if err := s.send(); err != nil {
		return err
	}
	words := strings.Fields(rest)
	switch verb {
	case "code":
		return compare(strconv.Itoa(s.code), rest)
	case "body":
		return compare(s.body, rest)
	case "header":
		_, cond, _ := strings.Cut(rest, " ")
		return compare(strings.Join(s.header.Values(words[0]), ", "), cond)
	case "let":
		switch words[2] {
		case "json":
			var m map[string]any
			if err := json.Unmarshal([]byte(s.body), &m); err != nil {
				return err
			}
			s.vars[words[0]] = fmt.Sprint(m[words[3]])
		case "header":
			s.vars[words[0]] = s.header.Get(words[3])
		case "match":
			m := regexp.MustCompile(words[3]).FindStringSubmatch(s.body)
			if m == nil {
				return fmt.Errorf("no match")
			}
			s.vars[words[0]] = m[1]
		}
		return nil
	}
	return fmt.Errorf("unknown instruction %q", verb)
}

func (s *script) send() error {
	if s.req == nil {
		return nil
	}
	resp, err := s.client.Do(s.req)
	s.req = nil
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var r io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if r, err = gzip.NewReader(resp.Body); err != nil {
			return err
		}
	}
	b, err := io.ReadAll(r)
	s.code, s.header, s.body = resp.StatusCode, resp.Header, string(b)
	return err
}

func compare(got, cond string) error {
	op, want, _ := strings.Cut(cond, " ")
	ok := false
	switch op {
	case "==":
		ok = strings.TrimSpace(got) == want
	case "contains":
		ok = strings.Contains(got, want)
	case "!contains":
		ok = !strings.Contains(got, want)
	case "matches":
		ok = regexp.MustCompile(want).MatchString(got)
	default:
		return fmt.Errorf("unknown comparison %q", op)
	}
	if !ok {
		return fmt.Errorf("it does not hold")
	}
	return nil
}
