package web

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"

	"berth/labs"
)

// A lab is a lesson as the pages show it, with how far the learner is in it.
type lab struct {
	ID, Title, Summary, Level string
	Course, Cannot            string // the course it belongs to; why it can only be read
	Minutes, StepCount        int
	URL                       string
	Done, Total               int  // steps, of those that have checks
	Started, Complete         bool // something was recorded; all steps are done
	Action                    string
}

func newLab(l *labs.Lesson, p labs.Progress) lab {
	v := lab{
		ID: l.ID, Title: l.Title, Summary: l.Summary, Level: l.Level, Minutes: l.Minutes,
		Course: l.Course, Cannot: l.Cannot, StepCount: len(l.Steps), URL: "/labs/" + url.PathEscape(l.ID), Action: "Start",
	}
	v.Done, v.Total = p.Count(l)
	v.Started = len(p.Passed) > 0 || !p.Last.IsZero()
	v.Complete = v.Total > 0 && v.Done == v.Total
	switch {
	case v.Complete:
		v.Action = "Open again"
	case v.Cannot != "":
		v.Action = "Read"
	case v.Started:
		v.Action = "Continue"
	}
	return v
}

// progress gives how far the learner is; nobody is nowhere.
func (s *Server) progress(r *http.Request, l labs.Learner, lesson string) (labs.Progress, error) {
	if l.ID == "" {
		return labs.Progress{Lesson: lesson}, nil
	}
	p, err := s.Desk.Progress(r.Context(), l.ID, lesson)
	if err != nil {
		return p, fmt.Errorf("progress in %s: %w", lesson, err)
	}
	return p, nil
}

// A homePage is the data of the template "home".
type homePage struct {
	page
	Labs []lab
}

func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	l, err := s.learner(r)
	if err != nil {
		return err
	}
	lessons := s.Desk.Lessons()
	data := &homePage{page: s.newPage(r, "Labs"), Labs: make([]lab, 0, len(lessons))}
	for _, lesson := range lessons {
		p, err := s.progress(r, l, lesson.ID)
		if err != nil {
			return err
		}
		data.Labs = append(data.Labs, newLab(lesson, p))
	}
	return s.page(w, r, http.StatusOK, "home", data)
}

// A step is a step as the pages show it.
type step struct {
	ID, Title string
	HTML      template.HTML
	Counts    bool // it has checks that are not optional
	Done      bool
	Checks    []check
	Hints     int // how many there are; their text is asked for
	Solution  bool
}

// A check is a check as the lesson page first shows it.
type check struct {
	ID, Name string
	Optional bool
	Quiz     bool   // a question, which stands in the text
	Status   string // "passed" or "pending"
}

func newSteps(l *labs.Lesson, p labs.Progress) []step {
	steps := make([]step, len(l.Steps))
	for i := range l.Steps {
		st := &l.Steps[i]
		v := step{
			ID: st.ID, Title: st.Title, HTML: template.HTML(st.HTML),
			Hints: len(st.Hints), Solution: st.Solution.HTML != "", Checks: make([]check, len(st.Checks)),
		}
		v.Done, v.Counts = p.StepDone(st)
		for j, c := range st.Checks {
			v.Checks[j] = check{ID: c.ID, Name: c.Name, Optional: c.Optional, Quiz: c.Quiz != nil, Status: "pending"}
			if _, passed := p.Passed[c.ID]; passed {
				v.Checks[j].Status = "passed"
			}
		}
		steps[i] = v
	}
	return steps
}

// An image is a container image that the lesson names and that may not be what
// it seems.
type image struct {
	Ref    string
	Source string // a labs.ImageSource; the page's script follows State.Images
}

func (s *Server) images(l *labs.Lesson) []image {
	var list []image
	if s.Images == nil {
		return nil
	}
	for _, p := range l.Pulls {
		list = append(list, image{p.Ref, string(s.Images.Source(p.Ref))})
	}
	return list
}

// A lessonPage is the data of the template "lesson".
type lessonPage struct {
	page
	Lab         lab
	Intro       template.HTML
	Steps       []step
	Done, Total int
	Images      []image
	FinishURL   string
	Data        lessonData

	Paged    bool
	Layout   labs.Layout
	Cannot   string // why no session can be opened, or ""
	Watch    bool   // the page follows the lab's files
	Mistakes []labs.Mistake
	Broken   bool // one of them is no warning: the text is the last good one
}

// lessonData is what the scripts need to know and the markup does not say. It
// stands in the page as JSON.
type lessonData struct {
	Lab       string         `json:"lab"`
	Title     string         `json:"title"`
	Next      string         `json:"next"` // address of the finish page
	Steps     []stepData     `json:"steps"`
	Paged     bool           `json:"paged"`
	Layout    labs.Layout    `json:"layout"`
	Open      string         `json:"open,omitempty"` // what the editor opens first
	Hosts     int            `json:"hosts"`
	Terminals []terminalData `json:"terminals"`
	Tabs      []tabData      `json:"tabs"`
}

type terminalData struct {
	Name    string `json:"name"`
	Title   string `json:"title,omitempty"`
	Command string `json:"command,omitempty"`
}

type tabData struct {
	Title string `json:"title"`
	Port  int    `json:"port,omitempty"`
	Host  int    `json:"host,omitempty"`
	Path  string `json:"path,omitempty"`
	URL   string `json:"url,omitempty"`
}

type stepData struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Checks   []string `json:"checks"`
	Hints    int      `json:"hints"`
	Solution bool     `json:"solution"`
}

func newLessonData(l *labs.Lesson, finish string, steps []step) lessonData {
	d := lessonData{
		Lab: l.ID, Title: l.Title, Next: finish, Steps: make([]stepData, len(steps)),
		Paged: l.Paged, Layout: layout(l), Open: l.Open, Hosts: max(1, l.Hosts),
		Terminals: make([]terminalData, len(l.Terminals)), Tabs: make([]tabData, len(l.Tabs)),
	}
	for i, t := range l.Terminals {
		d.Terminals[i] = terminalData(t)
	}
	for i, t := range l.Tabs {
		d.Tabs[i] = tabData(t)
	}
	for i, st := range steps {
		d.Steps[i] = stepData{ID: st.ID, Title: st.Title, Hints: st.Hints, Solution: st.Solution, Checks: make([]string, len(st.Checks))}
		for j, c := range st.Checks {
			d.Steps[i].Checks[j] = c.ID
		}
	}
	return d
}

// layout gives what stands beside the text.
func layout(l *labs.Lesson) labs.Layout {
	if l.Layout == "" {
		return labs.LayoutTerminal
	}
	return l.Layout
}

// lookUp gives the lesson of the address, who asks, and how far they are.
func (s *Server) lookUp(r *http.Request) (*labs.Lesson, labs.Learner, labs.Progress, error) {
	lesson, err := s.Desk.Lesson(r.PathValue("lab"))
	if err != nil {
		return nil, labs.Learner{}, labs.Progress{}, err
	}
	l, err := s.learner(r)
	if err != nil {
		return nil, l, labs.Progress{}, err
	}
	p, err := s.progress(r, l, lesson.ID)
	return lesson, l, p, err
}

func (s *Server) lesson(w http.ResponseWriter, r *http.Request) error {
	lesson, l, p, err := s.lookUp(r)
	if err != nil {
		return err
	}
	if len(lesson.Vars) > 0 { // the text has values of the learner's own
		if l.ID == "" {
			if l, err = s.signIn(w, r); err != nil {
				return err
			}
		}
		if lesson, err = s.Desk.Personal(l.ID, lesson.ID); err != nil {
			return err
		}
	}
	v := newLab(lesson, p)
	steps := newSteps(lesson, p)
	finish := v.URL + "/finish"
	mistakes := s.Desk.Mistakes(lesson.ID)
	s.allowPreviews(w, r)
	return s.page(w, r, http.StatusOK, "lesson", &lessonPage{
		page: s.newPage(r, lesson.Title), Lab: v, Intro: template.HTML(lesson.Intro.HTML), Steps: steps,
		Done: v.Done, Total: v.Total, Images: s.images(lesson), FinishURL: finish, Data: newLessonData(lesson, finish, steps),
		Paged: lesson.Paged, Layout: layout(lesson), Cannot: lesson.Cannot, Watch: s.Watch, Mistakes: mistakes,
		Broken: slices.ContainsFunc(mistakes, func(m labs.Mistake) bool { return !m.Warn }),
	})
}

// A finishPage is the data of the template "finish".
type finishPage struct {
	page
	Lab         lab
	HTML        template.HTML
	Steps       []step
	Done, Total int
	Complete    bool
	Took        string // "24 minutes", or "" when it cannot be said
	Next        *lab   // the next lab that is not done, or nil
}

func (s *Server) finish(w http.ResponseWriter, r *http.Request) error {
	lesson, l, p, err := s.lookUp(r)
	if err != nil {
		return err
	}
	if len(lesson.Vars) > 0 && l.ID != "" {
		if lesson, err = s.Desk.Personal(l.ID, lesson.ID); err != nil {
			return err
		}
	}
	v := newLab(lesson, p)
	data := &finishPage{
		page: s.newPage(r, "Finish: "+lesson.Title), Lab: v, HTML: template.HTML(lesson.Finish.HTML), Steps: newSteps(lesson, p),
		Done: v.Done, Total: v.Total, Complete: v.Complete,
	}
	if v.Complete {
		last, err := s.Desk.LastSession(r.Context(), l.ID, lesson.ID)
		if err != nil && !errors.Is(err, labs.ErrNotFound) {
			return fmt.Errorf("last session with %s: %w", lesson.ID, err)
		}
		if err == nil {
			data.Took = took(last.Started, p)
		}
	}
	if data.Next, err = s.next(r, lesson, l); err != nil {
		return err
	}
	return s.page(w, r, http.StatusOK, "finish", data)
}

// next gives the first lab after this one, and around, that is not done.
func (s *Server) next(r *http.Request, lesson *labs.Lesson, l labs.Learner) (*lab, error) {
	all := s.Desk.Lessons()
	at := 0
	for i := range all {
		if all[i].ID == lesson.ID {
			at = i
		}
	}
	for i := 1; i < len(all); i++ {
		other := all[(at+i)%len(all)]
		p, err := s.progress(r, l, other.ID)
		if err != nil {
			return nil, err
		}
		if v := newLab(other, p); !v.Complete && other.ID != lesson.ID {
			return &v, nil
		}
	}
	return nil, nil
}

// took says how long it was from the start to the last tick. It says nothing
// when the ticks are older than the start or a day later: then the lab was not
// done in one go.
func took(start time.Time, p labs.Progress) string {
	var last time.Time
	first := true
	for _, at := range p.Passed {
		if at.Before(start) {
			return ""
		}
		if first || at.After(last) {
			first, last = false, at
		}
	}
	d := last.Sub(start)
	switch m := int(d.Round(time.Minute).Minutes()); {
	case d <= 0 || d > 24*time.Hour:
		return ""
	case d < 90*time.Second:
		return fmt.Sprintf("%d seconds", int(d.Round(time.Second).Seconds()))
	case m < 120:
		return fmt.Sprintf("%d minutes", m)
	default:
		return fmt.Sprintf("%d hours and %d minutes", m/60, m%60)
	}
}
