package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"berth/labs"

	"github.com/spf13/cobra"
)

// newLab is the lab that berth new makes: it runs, and teaches the format.
//
//go:embed new
var newLab embed.FS

func newNew() *cobra.Command {
	var c config
	var title string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a lab to begin with",
		Long: `Make a folder with a small lab that runs, to be rewritten. Its comments explain
the format. The last part of NAME becomes part of the lab's address: small
letters, digits and "-".`,
		Example: "  berth new volumes --title 'Where data lives'\n  berth serve --watch volumes",
		Args:    cobra.ExactArgs(1),
		RunE: c.runs(func(_ context.Context, _ *slog.Logger, out io.Writer, args []string) error {
			return makeLab(out, args[0], title)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&title, "title", "", "what the lab is called (default: its name)")
	return cmd
}

var labName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func makeLab(out io.Writer, dir, title string) error {
	name := filepath.Base(filepath.Clean(dir))
	if !labName.MatchString(name) || len(name) > 60 {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("%q cannot be part of an address. Take small letters, digits and \"-\", such as first-container.", name)}
	}
	if title == "" {
		title = strings.ToUpper(name[:1]) + strings.ReplaceAll(name[1:], "-", " ")
	}
	if strings.ContainsFunc(title, func(c rune) bool { return c < ' ' }) || strings.TrimSpace(title) == "" || len(title) > 120 {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: "A title is one line of at most 120 bytes."}
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o755); err != nil {
		return cannotMake(dir, err)
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("%s is there already, and is left as it is. Choose another name.", dir)}
	} else if err != nil {
		return cannotMake(dir, err)
	}
	err := fs.WalkDir(newLab, "new", func(at string, e fs.DirEntry, err error) error {
		if err != nil || at == "new" {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(at, "new/")))
		if e.IsDir() {
			return os.Mkdir(to, 0o755)
		}
		b, err := newLab.ReadFile(at)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(b), "#!") {
			mode = 0o755
		}
		if path.Base(at) == "lab.md" {
			// A quoted string of Go without escapes but \" and \\ is one of YAML.
			b = []byte(strings.Replace(string(b), "TITLE", strconv.Quote(title), 1))
		}
		return os.WriteFile(to, b, mode)
	})
	if err != nil {
		return cannotMake(dir, err)
	}
	_, err = fmt.Fprintf(out, "%s holds a lab that runs. Edit %s, and see every edit at once with:\n  berth serve --watch %s\n", dir, filepath.Join(dir, "lab.md"), dir)
	return err
}

func cannotMake(dir string, err error) error {
	return &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("The folder %s cannot be made. Choose another place.", dir), Cause: err}
}
