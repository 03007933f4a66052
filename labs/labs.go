// Package labs is what Berth is about: lessons, the sandboxes they run in, the
// checks that tick their steps, and the sessions that bring a learner to both.
//
// A Lesson is text with Steps; a Step has Commands to run and Checks that say
// what must be true. A learner who opens a lesson gets a Session, and with it a
// Sandbox: a small machine with shells and a Docker Engine of its own. A
// Verifier watches the sandbox and reports a Result for every check; the Desk
// records what it reports and publishes it as Events, which the page shows.
//
// The package imports only the standard library. Everything that touches a
// technology (Markdown, the Docker API, SQL, namespaces, HTTP) lives in a
// package of its own, implements an interface declared here, and knows only
// this package; cmd/berth puts them together.
package labs

import "errors"

// The kinds of failure that callers tell apart. Wrap them with what was being
// done: fmt.Errorf("open session %s: %w", id, labs.ErrNotFound).
var (
	ErrNotFound  = errors.New("not found")
	ErrForbidden = errors.New("not allowed")
	ErrInvalid   = errors.New("not valid")
	ErrBusy      = errors.New("no room at the moment") // try again later
	ErrGone      = errors.New("gone")                  // it was there and has ended
	ErrChanged   = errors.New("changed meanwhile")     // somebody else was first
)

// A Problem is an error that carries a sentence for the person who meets it,
// which says what to do. Kind is one of the kinds above; Cause is for the log.
type Problem struct {
	Kind  error
	Say   string
	Cause error
}

// Error gives the sentence and the cause.
func (p *Problem) Error() string {
	if p.Cause == nil {
		return p.Say
	}
	return p.Say + " (" + p.Cause.Error() + ")"
}

// Unwrap lets errors.Is find the kind and the cause.
func (p *Problem) Unwrap() []error {
	if p.Cause == nil {
		return []error{p.Kind}
	}
	return []error{p.Kind, p.Cause}
}
