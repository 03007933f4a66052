package labs

import "context"

// A Verifier evaluates checks.
type Verifier interface {
	// Watch evaluates the lesson's checks against the sandbox, again whenever
	// something happens inside that they can concern, until ctx ends or the
	// sandbox is gone. It reports every evaluation whose status, Expected, Seen
	// or Reason differs from the check's last one; report is called from one
	// goroutine at a time. A problem with the sandbox is reported as Unknown
	// and tried again; it is not an error.
	Watch(ctx context.Context, lesson *Lesson, sb Sandbox, report func(Result)) error
	// Check evaluates one check now.
	Check(ctx context.Context, lesson *Lesson, check *Check, sb Sandbox) Result
}

// ImageSource says where a container image that a lesson names comes from.
type ImageSource string

const (
	FromUpstream ImageSource = "upstream" // the real image, fetched from its registry
	FromStock    ImageSource = "stock"    // the real image, put into the mirror by the operator
	FromStandin  ImageSource = "stand-in" // not the real image: built here from a recipe
	FromNowhere  ImageSource = "nowhere"  // it cannot be had
	FromUnknown  ImageSource = ""         // not looked for yet
)

// A Mirror is the built-in registry as the page sees it.
type Mirror interface {
	Source(ref string) ImageSource
}
