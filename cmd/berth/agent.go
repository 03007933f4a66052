package main

import (
	"berth/runner/agent"

	"github.com/spf13/cobra"
)

// agentMain is "berth agent", which every sandbox runs.
func agentMain(args []string) int { return agent.Main(version, args) }

// newAgentHelp shows the agent to those who ask; main runs it before any
// command is parsed.
func newAgentHelp() *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Short:  "The half that runs inside a sandbox (internal)",
		Hidden: true,
		RunE:   func(*cobra.Command, []string) error { return exitStatus(agentMain(nil)) },
	}
}
