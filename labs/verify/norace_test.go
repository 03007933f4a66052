//go:build !race

package verify

// slowdown is how much slower than usual the code may be here.
const slowdown = 1
