package labs

import "time"

// A State is everything a page needs to show a session as it is now.
type State struct {
	Session   string                `json:"session"`
	Lesson    string                `json:"lesson"`
	Phase     Phase                 `json:"phase"`
	Reason    string                `json:"reason,omitempty"` // why it ended or failed, one sentence
	Now       time.Time             `json:"now"`              // the server's clock
	Started   time.Time             `json:"started"`
	Expires   time.Time             `json:"expires"`
	CanExtend bool                  `json:"canExtend"` // Extend would move Expires now
	Ahead     int                   `json:"ahead"`     // sessions that wait for a sandbox before this one
	Engine    EngineState           `json:"engine"`
	Steps     map[string]StepState  `json:"steps"`  // by Step.ID
	Checks    map[string]CheckState `json:"checks"` // by Check.ID
	Done      int                   `json:"done"`   // steps done, of those that have checks
	Total     int                   `json:"total"`
	Images    map[string]string     `json:"images,omitempty"`  // Pull.Ref to ImageSource
	Preview   string                `json:"preview,omitempty"` // address of the previews, with the word PORT where the port belongs
}

// Phase is where a session stands.
type Phase string

const (
	PhaseWaiting  Phase = "waiting"  // no room: Ahead others first
	PhaseStarting Phase = "starting" // its sandbox is being started
	PhaseReady    Phase = "ready"
	PhaseFailed   Phase = "failed" // the sandbox could not be started; opening the lesson tries again
	PhaseEnded    Phase = "ended"
)

// StepState is a step as the page shows it.
type StepState struct {
	Done bool `json:"done"` // every check that is not optional has passed once
}

// CheckState is a check as the page shows it: a passed check stays passed for
// the learner, and Result says what is true right now.
type CheckState struct {
	Passed bool   `json:"passed"`
	Now    Result `json:"now"`
}

// ResultEvent is the Data of a "result" event: one check as it is now, and
// what that means for its step and the lesson.
type ResultEvent struct {
	Check    string `json:"check"`
	Step     string `json:"step"`
	StepDone bool   `json:"stepDone"`
	Done     int    `json:"done"`
	Total    int    `json:"total"`
	CheckState
}
