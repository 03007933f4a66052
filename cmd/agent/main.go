// Command agent is the agent alone: what sandboxes run as PID 1. It is built
// first and embedded in berth, because the whole program takes ten times as
// long to start and three times the memory, in every sandbox.
package main

import (
	"os"

	"berth/runner/agent"
)

var version = "dev" // set by the linker

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "agent" { // as runners call it, like "berth agent"
		args = args[1:]
	}
	os.Exit(agent.Main(version, args))
}
