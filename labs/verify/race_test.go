//go:build race

package verify

// slowdown is how much slower than usual the code may be here: the race
// detector costs.
const slowdown = 4
