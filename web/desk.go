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
	Personal(learner, lesson string) (*labs.Lesson, error)
	Mistakes(lesson string) []labs.Mistake
	Changes(lesson string) (<-chan labs.Event, func())
	NewLearner(ctx context.Context) (l labs.Learner, token string, err error)
	LearnerByToken(ctx context.Context, token string) (labs.Learner, error)
	Progress(ctx context.Context, learner, lesson string) (labs.Progress, error)
	LastSession(ctx context.Context, learner, lesson string) (labs.Session, error)

	Open(ctx context.Context, learner, lesson string) (labs.State, error)
	State(ctx context.Context, learner, session string) (labs.State, error)
	Sandbox(ctx context.Context, learner, session string) (labs.Sandbox, error)
	SandboxOn(ctx context.Context, learner, session string, host int) (labs.Sandbox, error)
	Preview(ctx context.Context, learner, name string, host int) (sb labs.Sandbox, session string, err error)
	Extend(ctx context.Context, learner, session string) (labs.State, error)
	Reset(ctx context.Context, learner, session string) (labs.State, error)
	End(ctx context.Context, learner, session string) (labs.State, error)
	Check(ctx context.Context, learner, session, check string) (labs.Result, error)
	Answer(ctx context.Context, learner, session, check string, a labs.Answer) (labs.Result, error)
	Arrive(ctx context.Context, learner, session, part string) error
	WriteFile(ctx context.Context, learner, session, block string) error
	Hint(ctx context.Context, learner, session, step string, n int) (html string, more bool, err error)
	Solution(ctx context.Context, learner, session, step string) (html string, err error)
	Touch(session string)
	Subscribe(ctx context.Context, learner, session string) (<-chan labs.Event, func(), error)
}
