package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestPreviewInChromium: whether a cookie is kept, sent and kept from others is
// for a browser to say. It is asked with and without cookies of third parties.
func TestPreviewInChromium(t *testing.T) {
	for _, thirdParty := range []bool{true, false} {
		t.Run(fmt.Sprintf("third-party cookies %v", thirdParty), func(t *testing.T) {
			w := newTown(t, nil)
			u := w.surfer("localhost" + w.port)
			m := w.machines.last(0)
			var mu sync.Mutex
			var seen []string // requests that other sites made
			upgrader := websocket.Upgrader{}
			m.listen(t, "127.0.0.1:8000", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("from") {
					mu.Lock()
					seen = append(seen, r.Method+" "+r.RequestURI)
					mu.Unlock()
				}
				switch r.URL.Path {
				case "/secret":
					w.Header().Set("Content-Type", "text/html")
					w.Header().Set("Set-Cookie", "own=1; SameSite=None; Secure; Partitioned")
					io.WriteString(w, "<!doctype html><title>app</title><body>the secret")
				case "/data":
					io.WriteString(w, r.Method+" data")
				case "/worker.js":
					w.Header().Set("Content-Type", "text/javascript")
				case "/socket":
					conn, err := upgrader.Upgrade(w, r, nil)
					if err != nil {
						return
					}
					defer conn.Close()
					if kind, b, err := conn.ReadMessage(); err == nil {
						conn.WriteMessage(kind, []byte(strings.ToUpper(string(b))))
					}
				}
			}))
			evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/start" {
					m.listen(t, "127.0.0.1:9000", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "started") }))
				}
				w.Header().Set("Content-Type", "text/html")
				io.WriteString(w, "<!doctype html><title>evil</title><body>evil page")
			}))
			defer evil.Close()
			input, err := json.Marshal(map[string]any{
				"main": "http://" + u.main, "evil": strings.Replace(evil.URL, "127.0.0.1", "evil.test", 1),
				"preview": u.at("8000", ""), "other": u.at("9000", ""), "token": u.cookies[u.main]["berth"].Value, "thirdParty": thirdParty,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, "node", "testdata/preview.mjs", string(input)).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) > 0 {
				t.Errorf("another site made the learner's browser ask the program for %s", seen)
			}
		})
	}
}
