package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"

	"berth/labs"
	"berth/runner/image"

	"github.com/spf13/cobra"
)

func newImage() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "The root file systems that sandboxes start from"}
	cmd.AddCommand(newImageBuild(), newImageList())
	return cmd
}

func newImageBuild() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "build [NAME…]",
		Short: "Build sandbox images, and the stand-ins that lessons need",
		Long: `Build sandbox images from their recipes and Debian's packages. Without names it
builds what the shipped lessons need: the image "docker" and the stand-ins.
What has been built already takes no time.`,
		RunE: c.runs(func(ctx context.Context, log *slog.Logger, out io.Writer, names []string) error {
			if len(names) == 0 {
				names = []string{"docker", "redis", "busybox"}
			}
			store := c.imageStore(log)
			shown := newProgress(os.Stderr)
			store.Progress = shown.step
			for _, name := range names {
				img, err := store.Build(ctx, name)
				shown.end()
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s is ready: %s, %s\n", img.Name, img.About, labs.Bytes(img.Size))
			}
			return nil
		}),
	}
	c.placeFlags(cmd.Flags())
	return cmd
}

func newImageList() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images that have been built",
		Args:  cobra.NoArgs,
		RunE: c.runs(func(_ context.Context, log *slog.Logger, out io.Writer, _ []string) error {
			all, err := c.imageStore(log).List()
			if err != nil {
				return err
			}
			if len(all) == 0 {
				fmt.Fprintln(out, "No image has been built yet. 'berth image build' builds what the lessons need.")
				return nil
			}
			w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tID\tKIND\tENGINE\tSIZE\tBUILT")
			for _, i := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, i.ID, i.Kind, i.Engine, labs.Bytes(i.Size), i.Built.Format("2006-01-02 15:04"))
			}
			return w.Flush()
		}),
	}
	c.placeFlags(cmd.Flags())
	return cmd
}

// A progress shows how far a long step is: on a terminal in one line that
// changes, elsewhere a line for each thing that is done.
type progress struct {
	out  *os.File
	live bool
	last string
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	return &progress{out: out, live: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) step(s image.Step) {
	doing := s.Image + ": " + s.Doing
	switch {
	case p.live && s.Total > 0:
		fmt.Fprintf(p.out, "\r\x1b[K%s, %d of %d", doing, s.Done, s.Total)
	case p.live:
		fmt.Fprintf(p.out, "\r\x1b[K%s", doing)
	case doing != p.last:
		fmt.Fprintln(p.out, doing)
	}
	p.last = doing
}

func (p *progress) end() {
	if p.live && p.last != "" {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.last = ""
}
