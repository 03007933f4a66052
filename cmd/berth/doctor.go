package main

import (
	"fmt"
	"os"

	"berth/runner/local"

	"github.com/spf13/cobra"
)

func newDoctor() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what sandboxes need on this machine, and what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLog(c.logLevel)
			if err != nil {
				return err
			}
			if c.agent, err = os.Executable(); err != nil { // looking needs no files of ours
				return err
			}
			cfg, err := c.local(log)
			if err != nil {
				return err
			}
			missing := 0
			out := cmd.OutOrStdout()
			for _, f := range local.Check(cmd.Context(), cfg) {
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
			for _, name := range []string{"docker", "redis"} {
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
		},
	}
	c.placeFlags(cmd.Flags())
	c.runnerFlags(cmd.Flags())
	return cmd
}
