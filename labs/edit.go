package labs

import "slices"

// A LessonEvent is the Data of a "lesson" event: the lab's files were read
// again.
type LessonEvent struct {
	Mistakes []Mistake `json:"mistakes"`
}

// Edit replaces the catalogue while lessons are being written. mistakes are
// those of each lesson, by Lesson.ID; a lesson that is not in lessons any more
// but has mistakes stays as it was last. Open sessions go on with the new text
// and the new checks, and the pages of lessons that changed are told.
func (d *Desk) Edit(lessons []*Lesson, mistakes map[string][]Mistake) {
	d.mu.Lock()
	before, wrong := d.lessons, d.wrong
	lessons = slices.Clone(lessons)
	for i, l := range before {
		has := slices.ContainsFunc(lessons, func(n *Lesson) bool { return n.ID == l.ID })
		if !has && len(mistakes[l.ID]) > 0 {
			lessons = slices.Insert(lessons, min(i, len(lessons)), l)
		}
	}
	d.lessons, d.wrong = lessons, mistakes
	var open []*visit
	for _, v := range d.visits {
		open = append(open, v)
	}
	d.mu.Unlock()
	for _, l := range lessons {
		same := slices.Contains(before, l) && slices.Equal(wrong[l.ID], mistakes[l.ID])
		if same {
			continue
		}
		for _, v := range open {
			if v.get().Lesson == l.ID && v.edit(l, d.personal(l, v.get().Learner)) {
				d.publishState(v)
			}
		}
		d.bus.Publish(Event{Session: changesOf(l.ID), Kind: "lesson", Data: LessonEvent{Mistakes: d.Mistakes(l.ID)}})
	}
}

// edit gives the visit another text of its lesson, or false when it has it.
func (v *visit) edit(catalog, personal *Lesson) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.catalog == catalog {
		return false
	}
	v.catalog, v.lesson = catalog, personal
	close(v.edited)
	v.edited = make(chan struct{})
	return true
}

// Mistakes gives those of a lesson, while lessons are being written.
func (d *Desk) Mistakes(lesson string) []Mistake {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.wrong[lesson]; m != nil {
		return m
	}
	return []Mistake{}
}

// Changes gives "lesson" events of a lesson from now on. cancel may be called
// more than once.
func (d *Desk) Changes(lesson string) (events <-chan Event, cancel func()) {
	return d.bus.Subscribe(changesOf(lesson))
}

// changesOf is what events about a lesson's files are published under. No
// session has such an id.
func changesOf(lesson string) string { return "lesson/" + lesson }
