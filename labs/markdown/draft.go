package markdown

import "berth/labs"

// A Draft is a lesson on its way from another format into ours: settings, and
// parts in Markdown of our format, each read by itself.
type Draft struct {
	Lesson  labs.Lesson // what a front matter says, with ID, Format, Dir, Source, Assets, Hosts, …; its Intro, Steps and Finish are not looked at
	Parts   []DraftPart // an introduction first, if there is one, then steps, then a finish, if there is one
	Lenient bool        // what our own authors would have to mend is shown as text, with a warning
}

// A DraftPart is the introduction, a step or the finish of a Draft.
type DraftPart struct {
	ID    string // labs.IntroID, labs.FinishID, or of the step; "" makes one of the title
	Title string // of the step, plain text
	Text  string // Markdown of our format, without the step's own heading
	File  string // where the text comes from, relative to Lesson.Dir: for messages, and what images are relative to
	Lines []int  // for each line of Text its line in File, 0 for none; nil when they are the same

	// What has no form in the text, or comes from files of its own. Checks get
	// their IDs from Build, and come before those in the text.
	Arrival  labs.Arrival
	Checks   []labs.Check
	Hints    []string // Markdown
	Solution string   // Markdown whose commands are the solution's, or ""
}
