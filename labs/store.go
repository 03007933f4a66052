package labs

import "context"

// A Store keeps learners, sessions and what was recorded about them. Methods
// may be called concurrently; what a method returned without error survives a
// crash. ErrNotFound when what is asked for is not there.
type Store interface {
	// AddLearner makes a learner known by the hash of a token.
	AddLearner(ctx context.Context, l Learner, tokenHash []byte) error
	// LearnerByToken finds the learner whose token has this hash.
	LearnerByToken(ctx context.Context, tokenHash []byte) (Learner, error)

	// AddSession stores a new open session. ErrBusy when the learner already
	// has an open one for the lesson.
	AddSession(ctx context.Context, s Session) error
	// UpdateSession stores Sandbox, Others, Expires, Active, Ended and Reason.
	UpdateSession(ctx context.Context, s Session) error
	Session(ctx context.Context, id string) (Session, error)
	// LastSession is the newest session of a learner with a lesson.
	LastSession(ctx context.Context, learner, lesson string) (Session, error)
	// OpenSessions lists all that have not ended.
	OpenSessions(ctx context.Context) ([]Session, error)

	Record(ctx context.Context, a Attempt) error
	Note(ctx context.Context, e Entry) error
	// Progress computes how far the learner is in the lesson: the checks that
	// passed since the newest "reset" entry. Nothing recorded is not an error.
	Progress(ctx context.Context, learner, lesson string) (Progress, error)
	// Attempts lists the newest recorded result of every check since the last reset.
	Attempts(ctx context.Context, learner, lesson string) ([]Attempt, error)

	Close() error
}
