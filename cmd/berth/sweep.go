package main

import (
	"fmt"

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
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLog(c.logLevel)
			if err != nil {
				return err
			}
			if err := needRoot("Ending sandboxes and taking their mounts and firewall rules away needs root."); err != nil {
				return err
			}
			cfg, err := c.local(log)
			if err != nil {
				return err
			}
			// Whatever --max the server had: as many as the addresses allow.
			cfg.Max = min(4096, 1<<(32-cfg.Network.Bits())-3)
			boxes, err := local.New(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			all, err := boxes.Adopt(cmd.Context())
			for _, b := range all {
				if derr := b.Destroy(); derr != nil && err == nil {
					err = fmt.Errorf("end sandbox %s: %w", b.ID(), derr)
				}
			}
			if cerr := boxes.Close(); err == nil {
				err = cerr
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d sandbox%s ended; nothing is left.\n", len(all), map[bool]string{true: "", false: "es"}[len(all) == 1])
			}
			return err
		},
	}
	c.placeFlags(cmd.Flags())
	c.runnerFlags(cmd.Flags())
	return cmd
}
