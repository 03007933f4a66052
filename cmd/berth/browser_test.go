package main

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestBrowser goes through the lesson in headless Chromium, by clicks and by
// keyboard alone, against the real program with real sandboxes.
func TestBrowser(t *testing.T) {
	p := newProgram(t, "--per-learner", "10")
	p.start()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "run", "--silent", "e2e")
	cmd.Dir = "../../web/ui"
	cmd.Env = append(os.Environ(), "BASE_URL="+p.url)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the lesson in the browser: %v", err)
	}
}
