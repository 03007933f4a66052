package rehearsal

import (
	"slices"
	"testing"

	"berth/labs"
)

func TestAnswers(t *testing.T) {
	for name, q := range map[string]*labs.Quiz{
		"one":      {Choices: []labs.Choice{{Right: true}, {}}},
		"the last": {Choices: []labs.Choice{{}, {}, {Right: true}}},
		"several":  {Several: true, Choices: []labs.Choice{{Right: true}, {}, {Right: true}}},
		"all":      {Several: true, Choices: []labs.Choice{{Right: true}, {Right: true}}},
		"exact":    {Equals: "Forty two"},
		"a part":   {Contains: "container"},
		"short":    {Contains: "z"},
		"a guess":  {Equals: "No  idea"},
	} {
		wrong, right, ok := answers(q)
		if !ok || !q.Test(right) {
			t.Errorf("%s: %+v is no right answer", name, right)
		}
		if q.Test(wrong) {
			t.Errorf("%s: %+v is no wrong answer", name, wrong)
		}
	}
	if _, _, ok := answers(&labs.Quiz{}); ok {
		t.Error("a question without an answer has one")
	}
}

func TestActsComeAsThePageHasThem(t *testing.T) {
	st := &labs.Step{
		HTML:     `<div data-command="s/1"></div><div data-file="s/file-1"></div><div data-command="s/2"></div><div data-file="s/file-2">`,
		Commands: []labs.Command{{ID: "s/1"}, {ID: "s/2"}},
		Files:    []labs.FileBlock{{ID: "s/file-1"}, {ID: "s/file-2"}},
	}
	names := func() (all []string) {
		for _, a := range actsOf(st) {
			if a.file != nil {
				all = append(all, a.file.ID)
			} else {
				all = append(all, a.command.ID)
			}
		}
		return all
	}
	if got, want := names(), []string{"s/1", "s/file-1", "s/2", "s/file-2"}; !slices.Equal(got, want) {
		t.Errorf("acts %v, want %v", got, want)
	}
	st.Solution.Commands = []labs.Command{{ID: "solution"}}
	if got, want := names(), []string{"s/file-1", "s/file-2", "solution"}; !slices.Equal(got, want) {
		t.Errorf("with a solution: acts %v, want %v", got, want)
	}
}
