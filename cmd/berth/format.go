package main

import (
	"fmt"

	"berth/labs/markdown"

	"github.com/spf13/cobra"
)

func newFormat() *cobra.Command {
	return &cobra.Command{
		Use:   "format",
		Short: "Print the manual of the lesson format",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), markdown.Manual())
			return err
		},
	}
}
