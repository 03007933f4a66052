package agent

import (
	"sync"

	"berth/labs"
)

// typing is what is typed into a terminal on its way to the shell, in order.
// A keystroke goes straight to the shell. What the shell does not take yet
// waits here, at most labs.MaxInput bytes twice, and then whoever types more.
type typing struct {
	mu      sync.Mutex
	shell   *shell // nil: there is none, what is typed is lost
	queue   []byte
	taken   sync.Cond // the queue got shorter or the shell changed; L is mu
	flushes sync.WaitGroup
	busy    bool // flush runs
}

// to says which shell gets what is typed from now on. What the one before did
// not take is dropped.
func (ty *typing) to(sh *shell) {
	ty.mu.Lock()
	defer ty.mu.Unlock()
	ty.taken.L = &ty.mu
	ty.shell = sh
	ty.queue = nil
	ty.taken.Broadcast()
}

// enter types b. When there is no room it waits if it may, and otherwise gives
// false and has done nothing.
func (ty *typing) enter(b []byte, mayWait bool) bool {
	ty.mu.Lock()
	defer ty.mu.Unlock()
	for sh := ty.shell; len(ty.queue) > 0 && len(ty.queue)+len(b) > labs.MaxInput; {
		if !mayWait {
			return false
		}
		ty.taken.Wait()
		if ty.shell != sh {
			return true // it was meant for the shell that ended
		}
	}
	sh := ty.shell
	if sh == nil {
		return true
	}
	if !ty.busy && len(ty.queue) == 0 {
		b = b[sh.write(b):]
	}
	if len(b) == 0 {
		return true
	}
	ty.queue = append(ty.queue, b...)
	if !ty.busy {
		ty.busy = true
		ty.flushes.Add(1)
		go ty.flush()
	}
	return true
}

// flush passes the queue on as the shell takes it.
func (ty *typing) flush() {
	defer ty.flushes.Done()
	ty.mu.Lock()
	defer ty.mu.Unlock()
	for len(ty.queue) > 0 && ty.shell != nil {
		b, sh := ty.queue, ty.shell
		ty.queue = nil
		ty.taken.Broadcast()
		ty.mu.Unlock()
		sh.writeAll(b)
		ty.mu.Lock()
	}
	ty.busy = false
}
