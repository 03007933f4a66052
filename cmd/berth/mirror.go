package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"berth/labs"
	"berth/runner/mirror"

	"github.com/spf13/cobra"
)

func newMirror() *cobra.Command {
	cmd := &cobra.Command{Use: "mirror", Short: "The built-in registry that sandboxes pull from"}
	cmd.AddCommand(newMirrorAdd(), newMirrorList())
	return cmd
}

func newMirrorAdd() *cobra.Command {
	var c config
	var as string
	cmd := &cobra.Command{
		Use:   "add IMAGE|TARBALL|OCI-DIR…",
		Short: "Put container images in stock, for rooms without a network",
		Long: `Put container images in stock: an image reference, which is fetched now, an
archive as 'docker save' writes it, or an OCI layout. What is in stock is served
when its registry cannot be reached, and is never thrown away. A running server
has it at once.`,
		Example: "  berth mirror add redis:3.2.11-alpine\n  berth mirror add images.tar\n  berth mirror add ./layout --as example/app:1",
		Args:    cobra.MinimumNArgs(1),
		RunE: c.runs(func(ctx context.Context, log *slog.Logger, out io.Writer, sources []string) error {
			m, err := mirror.Open(mirror.Config{Dir: c.mirrorDir(), Upstream: c.upstream, Log: log})
			if err != nil {
				return err
			}
			defer m.Close()
			for _, source := range sources {
				images, err := m.Add(ctx, source, as)
				if err != nil {
					return fmt.Errorf("add %s: %w", source, err)
				}
				for _, i := range images {
					fmt.Fprintf(out, "%s is in stock: %s\n", i.Ref, labs.Bytes(i.Size))
				}
			}
			return nil
		}),
	}
	c.placeFlags(cmd.Flags())
	cmd.Flags().StringVar(&c.upstream, "mirror-upstream", "", "registry that docker.io names are fetched from (default: Docker Hub)")
	cmd.Flags().StringVar(&as, "as", "", "name to give the image")
	return cmd
}

func newMirrorList() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images that can be had without a network",
		Args:  cobra.NoArgs,
		RunE: c.runs(func(_ context.Context, log *slog.Logger, out io.Writer, _ []string) error {
			m, err := mirror.Open(mirror.Config{Dir: c.mirrorDir(), Upstream: "none", Log: log})
			if err != nil {
				return err
			}
			defer m.Close()
			images, err := m.List()
			if err != nil {
				return err
			}
			if len(images) == 0 {
				fmt.Fprintln(out, "The mirror holds no images yet. 'berth mirror add redis:3.2.11-alpine' fetches one; a running server fetches those that its labs name.")
				return nil
			}
			w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tFROM\tSIZE\tWHOLE\tSINCE")
			for _, i := range images {
				whole := "yes"
				if !i.Complete {
					whole = "no"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Ref, i.Source, labs.Bytes(i.Size), whole, i.At.Format("2006-01-02 15:04"))
			}
			return w.Flush()
		}),
	}
	c.placeFlags(cmd.Flags())
	return cmd
}
