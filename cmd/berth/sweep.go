package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"berth/runner/local"

	"github.com/spf13/cobra"
)

func newSweep() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "End all sandboxes and remove every trace of them",
		Long: `End all sandboxes that a stopped server left running, and remove what is left of
any other: mounts, control groups, network interfaces, firewall rules, files.
Images, the mirror and progress stay. A running server has to be stopped first.`,
		Args: cobra.NoArgs,
		RunE: c.runs(func(ctx context.Context, log *slog.Logger, out io.Writer, _ []string) error {
			if err := needRoot("Ending sandboxes and taking their mounts and firewall rules away needs root."); err != nil {
				return err
			}
			cfg, err := c.looking(log)
			if err != nil {
				return err
			}
			// Whatever --max the server had: as many as the addresses allow.
			cfg.Max = min(4096, 1<<(32-cfg.Network.Bits())-3)
			boxes, err := local.New(ctx, cfg)
			if err != nil {
				return err
			}
			all, err := boxes.Adopt(ctx)
			for _, b := range all {
				if derr := b.Destroy(); derr != nil && err == nil {
					err = fmt.Errorf("end sandbox %s: %w", b.ID(), derr)
				}
			}
			if cerr := boxes.Close(); err == nil {
				err = cerr
			}
			if err == nil {
				fmt.Fprintf(out, "%d sandbox%s ended; nothing is left.\n", len(all), map[bool]string{true: "", false: "es"}[len(all) == 1])
			}
			return err
		}),
	}
	c.placeFlags(cmd.Flags())
	c.runnerFlags(cmd.Flags(), serverIdentity)
	return cmd
}
