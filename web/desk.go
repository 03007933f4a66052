package web

import (
	"context"

	"berth/labs"
)

// A Desk is the service behind the pages; *labs.Desk is one. Methods are
// called concurrently. Whatever is asked of a session that is not the
// learner's own must fail with labs.ErrNotFound: that is how the server keeps
// learners apart.
type Desk interface {
	Lessons() []*labs.Lesson
	Lesson(id string) (*labs.Lesson, error)
	NewLearner(ctx context.Context) (l labs.Learner, token string, err error)
	LearnerByToken(ctx context.Context, token string) (labs.Learner, error)
	Progress(ctx context.Context, learner, lesson string) (labs.Progress, error)
	LastSession(ctx context.Context, learner, lesson string) (labs.Session, error)

	Open(ctx context.Context, learner, lesson string) (labs.State, error)
	State(ctx context.Context, learner, session string) (labs.State, error)
	Sandbox(ctx context.Context, learner, session string) (labs.Sandbox, error)
	Extend(ctx context.Context, learner, session string) (labs.State, error)
	Reset(ctx context.Context, learner, session string) (labs.State, error)
	End(ctx context.Context, learner, session string) (labs.State, error)
	Check(ctx context.Context, learner, session, check string) (labs.Result, error)
	WriteFile(ctx context.Context, learner, session, block string) error
	Hint(ctx context.Context, learner, session, step string, n int) (html string, more bool, err error)
	Solution(ctx context.Context, learner, session, step string) (html string, err error)
	Touch(session string)
	Subscribe(ctx context.Context, learner, session string) (<-chan labs.Event, func(), error)
}
