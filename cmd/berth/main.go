// Command berth runs hands-on labs in the browser: the server, its sandboxes
// and, inside each of them, the agent.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"berth/labs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set by the linker.
var version = "dev"

func main() {
	// The agent is PID 1 of every sandbox: it starts without the rest.
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(agentMain(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends a server that takes too long to stop
	os.Exit(run(ctx, os.Args[1:]))
}

// run gives the exit status: 0 fine, 1 a problem, 2 could not be run.
func run(ctx context.Context, args []string) int {
	parsed := false // from then on it is not about usage
	root := newRoot(&parsed)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var exit exitStatus
	if errors.As(err, &exit) {
		return int(exit)
	}
	fmt.Fprintln(os.Stderr, "berth: "+plain(say(err)))
	var u unable
	if errors.As(err, &u) {
		return 2
	}
	if cmd != nil && !parsed {
		fmt.Fprintf(os.Stderr, "Try '%s --help'.\n", cmd.CommandPath())
		return 2
	}
	return 1
}

// exitStatus ends the program without a message; it has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// unable is an error of a command that could not do what it was asked, where
// exit status 1 says what it found.
type unable struct{ error }

func (u unable) Unwrap() error { return u.error }

// plain takes out of what is said everything but text and its lines: it may
// name the files of a stranger's labs.
func plain(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = shown(lines[i])
	}
	return strings.Join(lines, "\n")
}

// say gives the sentence for whoever runs the command.
func say(err error) string {
	text := err.Error()
	var p *labs.Problem
	if errors.As(err, &p) {
		text = p.Say
		if p.Cause != nil {
			text += "\n  cause: " + p.Cause.Error()
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		text += "\nYou are not root, whose files these are: try it with sudo."
	case errors.Is(err, syscall.ENOSPC):
		text += "\nThe disk is full: free some space (df -h shows where) and try again."
	case errors.Is(err, syscall.EROFS):
		text += "\nThe state directory is on a file system that is read-only: choose another with --state, or mount it writable."
	}
	return text
}

func newRoot(parsed *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "berth",
		Short: "Hands-on labs in the browser, with a real Docker Engine for every learner",
		Long: `Berth serves hands-on labs: a lesson, beside it a real shell, behind the shell
a Docker Engine of the learner's own in a sandbox whose root is nobody outside.

Every flag can also be given by the environment: --listen is BERTH_LISTEN.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := flagsFromEnv(cmd.Flags()); err != nil {
				return err
			}
			*parsed = true
			return nil
		},
	}
	root.AddCommand(newFormat(), newServe(), newNew(), newLint(), newTest(), newImport(), newDoctor(), newImage(), newMirror(), newPs(), newSweep(), newShell(), newAgentHelp())
	root.CompletionOptions.HiddenDefaultCmd = false
	visit(root, func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "version" && !strings.Contains(f.Usage, "[$") {
				f.Usage += " [$" + envName(f.Name) + "]"
			}
		})
	})
	return root
}

func visit(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		visit(c, f)
	}
}

// flagsFromEnv sets the flags that were not given from their twins in the
// environment.
func flagsFromEnv(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		v, ok := os.LookupEnv(envName(f.Name))
		if !ok || f.Changed || f.Name == "help" || f.Name == "version" {
			return
		}
		if err := flags.Set(f.Name, v); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", envName(f.Name), v, err))
		}
	})
	return errors.Join(errs...)
}

func envName(flag string) string {
	return "BERTH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// newLog logs to standard error.
func newLog(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}
