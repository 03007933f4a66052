package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"berth/runner/agent"

	"github.com/spf13/cobra"
)

// inside holds the agent as a program of its own, when `make build` has put it
// there.
//
//go:embed all:inside
var inside embed.FS

// agentMain is "berth agent": what sandboxes run when there is no smaller one.
func agentMain(args []string) int { return agent.Main(version, args) }

// agentProgram gives the program that sandboxes are to run: a file in the state
// directory with the embedded agent, or this program itself.
func agentProgram(state string) (string, error) {
	b, err := fs.ReadFile(inside, "inside/agent")
	if errors.Is(err, fs.ErrNotExist) {
		return os.Executable()
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(state, 0o711); err != nil {
		return "", err
	}
	// A new file each time: one that runs cannot be written.
	f, err := os.CreateTemp(state, "agent-")
	if err != nil {
		return "", fmt.Errorf("unpack the agent: %w", err)
	}
	_, err = f.Write(b)
	path := filepath.Join(state, "agent-program")
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("unpack the agent: %w", err)
	}
	return path, nil
}

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
