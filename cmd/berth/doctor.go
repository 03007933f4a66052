package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"berth/runner/local"

	"github.com/spf13/cobra"
)

func newDoctor() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what sandboxes need on this machine, and what is missing",
		Args:  cobra.NoArgs,
		RunE: c.runs(func(ctx context.Context, log *slog.Logger, out io.Writer, _ []string) error {
			cfg, err := c.looking(log)
			if err != nil {
				return err
			}
			missing := 0
			for _, f := range local.Check(ctx, cfg) {
				sign := "ok  "
				switch {
				case !f.OK && f.Optional:
					sign = "note"
				case !f.OK:
					sign = "MISS"
					missing++
				}
				fmt.Fprintf(out, "%s  %s: %s\n", sign, f.Name, f.Detail)
				if !f.OK && f.Fix != "" {
					fmt.Fprintf(out, "      %s\n", f.Fix)
				}
			}
			for _, name := range []string{"docker", "redis", "busybox"} {
				img, err := c.imageStore(log).Find(name)
				if err != nil {
					missing++
					fmt.Fprintf(out, "MISS  image %s: it has not been built\n      Build it with: berth image build %s\n", name, name)
					continue
				}
				fmt.Fprintf(out, "ok    image %s: %s\n", name, img.About)
			}
			if missing > 0 {
				fmt.Fprintf(out, "\n%d thing%s missing.\n", missing, map[bool]string{true: " is", false: "s are"}[missing == 1])
				return exitStatus(1)
			}
			fmt.Fprintln(out, "\nNothing is missing: 'berth serve' can start.")
			return nil
		}),
	}
	c.placeFlags(cmd.Flags())
	c.runnerFlags(cmd.Flags(), serverIdentity)
	return cmd
}
