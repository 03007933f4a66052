package katacoda

import (
	"strings"
	"testing"
)

// show writes a value back, briefly.
func show(v *value) string {
	switch v.kind {
	case isNull:
		return "null"
	case isString:
		return "<" + v.text + ">"
	case isList:
		var parts []string
		for _, i := range v.items {
			parts = append(parts, show(i))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case isObject:
		var parts []string
		for _, m := range v.members {
			parts = append(parts, m.key+"="+show(m.value))
		}
		return "{" + strings.Join(parts, " ") + "}"
	}
	return v.text
}

func TestParseJSONAsPeopleWriteIt(t *testing.T) {
	for name, c := range map[string]struct {
		src, want string
		warns     int
	}{
		"plain":             {`{"a": 1, "b": [true, null, "x"], "c": {"d": -1.5e3}}`, "{a=1 b=[true null <x>] c={d=-1.5e3}}", 0},
		"escapes":           {`["\u001b[32m", "\ud83d\ude00", "\/\"\\\n\t"]`, "[<\x1b[32m> <😀> </\"\\\n\t>]", 0},
		"comma too many":    {"{\"a\": [1, 2,], \"b\": 2,}", "{a=[1 2] b=2}", 1},
		"comma missing":     {"{\"a\": 1\n \"b\": 2}", "{a=1 b=2}", 1},
		"comma between {}":  {`[{"a": 1} {"a": 2}]`, "[{a=1} {a=2}]", 1},
		"commas twice":      {`[1,,2]`, "[1 2]", 1},
		"comments":          {"// hello\n{\"a\": 1 /* one\n */, # two\n \"b\": 2}", "{a=1 b=2}", 1},
		"single quotes":     {`{'a': 'it"s'}`, `{a=<it"s>}`, 1},
		"curly quotes":      {`{“a”: “b”}`, `{a=<b>}`, 1},
		"bare key":          {`{a: "b"}`, "{a=<b>}", 1},
		"capitals":          {`[True, FALSE]`, "[true false]", 1},
		"line break":        {"[\"a\nb\"]", "[<a\nb>]", 1},
		"tab":               {"[\"a\tb\"]", "[<a\tb>]", 1},
		"escape of nothing": {`["a\_b\d"]`, `[<a\_b\d>]`, 1},
		"half surrogate":    {`["\ud83dx"]`, "[<\ufffdx>]", 0},
		"text behind":       {`{} hello`, "{}", 1},
		"no-break space":    {"{\u00a0\"a\":\u00a01}", "{a=1}", 0},
	} {
		warns := 0
		v, line, err := parseJSON(c.src, func(int, string, string) { warns++ })
		if err != nil {
			t.Errorf("%s: line %d: %v", name, line, err)
			continue
		}
		if got := show(v); got != c.want || warns != c.warns {
			t.Errorf("%s: got %q with %d warnings, want %q with %d", name, got, warns, c.want, c.warns)
		}
	}
}

func TestParseJSONSaysWhere(t *testing.T) {
	for name, c := range map[string]struct {
		src  string
		line int
		want string
	}{
		"empty":          {"", 1, "end in the middle"},
		"not closed":     {"{\n\"a\": [1,\n2", 3, "line 2 is not closed"},
		"open text":      {"{\n\"a\": \"b\n", 2, "not closed"},
		"no colon":       {"{\n\"a\" 1}", 2, "colon is missing behind `a`"},
		"a word":         {"{\"a\":\n nonsense}", 2, "not `nonsense`"},
		"a comma":        {"[1 :2]", 1, "comma was expected"},
		"a name":         {"{\n\n=}", 3, "name of a setting"},
		"open comment":   {"{\n/* a", 2, "comment is not closed"},
		"Markdown":       {"# Hello\nthis is text", 2, "not `this`"},
		"merge conflict": {"{\n<<<<<<< HEAD\n\"a\": 1}", 2, "name of a setting"},
	} {
		_, line, err := parseJSON(c.src, func(int, string, string) {})
		if err == nil || line != c.line || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got line %d, %v; want line %d, %q", name, line, err, c.line, c.want)
		}
	}
}

func TestValuesKnowTheirLines(t *testing.T) {
	v, _, err := parseJSON("{\n\"a\":\n\"b\",\n\"c\": [\n1\n]}", func(int, string, string) { t.Error("a warning") })
	if err != nil {
		t.Fatal(err)
	}
	if got := []int{v.line, v.members[0].line, v.members[0].value.line, v.members[1].line, v.members[1].value.items[0].line}; got[0] != 1 || got[1] != 2 || got[2] != 3 || got[3] != 4 || got[4] != 5 {
		t.Errorf("lines: %v", got)
	}
}
