package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"berth/labs"
	"berth/runner/local"

	"github.com/spf13/cobra"
)

func newPs() *cobra.Command {
	var c config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the sandboxes that run on this machine, and what they use",
		Args:  cobra.NoArgs,
		RunE: c.runs(func(_ context.Context, log *slog.Logger, out io.Writer, _ []string) error {
			cfg, err := c.looking(log)
			if err != nil {
				return err
			}
			all, err := local.List(cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(out).Encode(all)
			}
			if len(all) == 0 {
				fmt.Fprintln(out, "No sandbox is running.")
				return nil
			}
			w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tIMAGE\tEGRESS\tAGE\tMEMORY\tDISK\tPROCESSES\tCPU TIME")
			for _, s := range all {
				u := s.Usage
				fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%s of %s\t%s of %s\t%d of %d\t%v\n", s.ID, s.Image, s.Egress, time.Since(s.Created).Round(time.Second),
					labs.Bytes(u.Memory), labs.Bytes(u.Limits.Memory), labs.Bytes(u.Disk), labs.Bytes(u.Limits.Disk), u.Processes, u.Limits.Processes, u.CPU.Round(10*time.Millisecond))
			}
			return w.Flush()
		}),
	}
	c.placeFlags(cmd.Flags())
	c.runnerFlags(cmd.Flags(), serverIdentity)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
