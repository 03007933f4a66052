package agent

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestGreeting(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"one line", "hello\n", "hello\r\n"},
		{"no newline at the end", "hello", "hello\r\n"},
		{"lines", "a\n\nb\r\nc\n", "a\r\n\r\nb\r\nc\r\n"},
		{"colours", "\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m\r\n"},
		{"not UTF-8", "a\xff\xfeb\n", "a?b\r\n"},
		{"too long", strings.Repeat("x", maxGreeting+5), strings.Repeat("x", maxGreeting) + "\r\n"},
		{"cut in a letter", strings.Repeat("x", maxGreeting-1) + "€", strings.Repeat("x", maxGreeting-1) + "?\r\n"},
	} {
		cfg := Config{RunDir: t.TempDir()}
		must(t, os.WriteFile(cfg.RunDir+"/greeting", []byte(c.text), 0o644))
		if got := string(cfg.greeting()); got != c.want {
			t.Errorf("%s: %.100q; want %.100q", c.name, got, c.want)
		}
	}
	cfg := Config{RunDir: t.TempDir()}
	if got := cfg.greeting(); got != nil {
		t.Errorf("none: %q", got)
	}
	must(t, syscall.Mkfifo(cfg.RunDir+"/greeting", 0o600))
	if got := cfg.greeting(); got != nil {
		t.Errorf("a FIFO: %q", got)
	}
}
