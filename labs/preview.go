package labs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// PreviewName names the previews of a learner's sandboxes for a lesson: 32
// letters and digits that nobody else can guess, the same in every session.
func PreviewName(learner, lesson string) string {
	h := sha256.Sum256([]byte("preview\x00" + learner + "\x00" + lesson))
	return hex.EncodeToString(h[:16])
}

// Preview gives the sandbox that a preview of this name shows, waiting
// until it has started, and its session. ErrNotFound when it is not the
// learner's.
func (d *Desk) Preview(ctx context.Context, learner, name string, host int) (sb Sandbox, session string, err error) {
	d.mu.Lock()
	for id, v := range d.visits {
		if v.session.Learner == learner && PreviewName(learner, v.session.Lesson) == name {
			session = id
		}
	}
	d.mu.Unlock()
	if session == "" {
		return nil, "", fmt.Errorf("preview %q: %w", name, ErrNotFound)
	}
	sb, err = d.SandboxOn(ctx, learner, session, host)
	return sb, session, err
}
