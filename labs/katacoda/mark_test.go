package katacoda

import "testing"

func TestParseMark(t *testing.T) {
	run := func(m mark) mark { m.action = runs; return m }
	cases := []struct {
		in     string
		want   mark
		found  found
		length int // 0: all of in
	}{
		{"{{execute}}", run(mark{}), goodMark, 0},
		{"{{exec}}", run(mark{}), goodMark, 0},
		{"{{EXECUTE}}", run(mark{}), goodMark, 0},
		{"{{ execute }}", run(mark{}), goodMark, 0},
		{"{{Copy}}", mark{action: copies}, goodMark, 0},
		{"{{open}}", mark{action: opens}, goodMark, 0},
		{"{{}}", mark{action: plain}, goodMark, 0},
		{"{{ }}", mark{action: plain}, goodMark, 0},
		{"{{execute T1}}", run(mark{}), goodMark, 0},
		{"{{execute T2}}", run(mark{terminal: "2"}), goodMark, 0},
		{"{{T2 execute}}", run(mark{terminal: "2"}), goodMark, 0},
		{`{{execute "T12"}}`, run(mark{terminal: "12"}), goodMark, 0},
		{`{{execute 'T3'}}`, run(mark{terminal: "3"}), goodMark, 0},
		{`{{execute “T3”}}`, run(mark{terminal: "3"}), goodMark, 0},
		{`{{execute "Terminal 2"}}`, run(mark{terminal: "2"}), goodMark, 0},
		{`{{execute "Terminal Host 2"}}`, run(mark{host: 2}), goodMark, 0},
		{`{{execute "Terminal"}}`, run(mark{}), goodMark, 0},
		{"{{execute HOST1}}", run(mark{host: 1}), goodMark, 0},
		{"{{EXECUTE HOST2}}", run(mark{host: 2}), goodMark, 0},
		{"{{execute host2 t3 interrupt}}", run(mark{host: 2, terminal: "3", interrupt: true}), goodMark, 0},
		{"{{interrupt execute}}", run(mark{interrupt: true}), goodMark, 0},
		{"{{execute ctrl-seq}}", run(mark{keys: true}), goodMark, 0},
		{"{{execute no-newline}}", run(mark{noEnter: true}), goodMark, 0},
		{"{{execute Data Base}}", run(mark{terminal: "base"}), goodMark, 0},
		{`{{execute "Data Base"}}`, run(mark{terminal: "data-base"}), goodMark, 0},
		{"{{execute test-one}}", run(mark{}), goodMark, 0},
		{"{{execute}} and {{copy}}", run(mark{}), goodMark, len("{{execute}}")},
		{"{{execute}}}", run(mark{broken: true}), goodMark, 0},
		{"{{exeucte}}", mark{}, typo, -1},
		{"{{exex}}", mark{}, typo, -1},
		{"{{ecopy}}", mark{}, typo, -1},
		{"{{execute`}}", run(mark{broken: true}), goodMark, 0},
		{"{{execute T1}", run(mark{broken: true}), goodMark, 0},
		{"{{execute\n}}", run(mark{broken: true}), goodMark, 0},
		{"{{{execute}}}", run(mark{broken: true}), goodMark, 0},
		{"{{execute", run(mark{broken: true}), goodMark, 0},
		{"{{execute\nmore", run(mark{broken: true}), goodMark, len("{{execute")},
		{"{{execute}, and", run(mark{broken: true}), goodMark, len("{{execute}")},
		{"{{[copy]}}", mark{action: copies, broken: true}, goodMark, 0},
		{"{{{{{execute}}}}}", mark{}, typo, -1},
		{"{{{copy .}}}", mark{}, typo, -1},
		{"{{{.Names}}}", mark{}, noMark, -1},
		{"{{execute more", mark{}, typo, -1},
		{"{{execute}})", run(mark{}), goodMark, len("{{execute}}")},
		{"{{execute}}]", run(mark{}), goodMark, len("{{execute}}")},
		{"{{interrupt}}", mark{}, typo, -1},
		{"{{.Names}}", mark{}, noMark, -1},
		{"{{ .State.Running }}", mark{}, noMark, -1},
		{"{{json .}}", mark{}, noMark, -1},
		{"{{ name }}", mark{}, noMark, -1},
		{"{{T2}}", run(mark{terminal: "2", broken: true}), goodMark, 0},
		{"{{host2}}", run(mark{host: 2, broken: true}), goodMark, 0},
		{"{{", mark{}, noMark, -1},
		{"{execute}", mark{}, noMark, -1},
		{"", mark{}, noMark, -1},
	}
	for _, c := range cases {
		got, length, _, f := parseMark(c.in)
		want := c.length
		switch want {
		case 0:
			want = len(c.in)
		case -1:
			want = 0
		}
		if f == typo {
			got = mark{}
			length = 0
		}
		if got != c.want || f != c.found || length != want {
			t.Errorf("%q: %+v, %d bytes, found %d; want %+v, %d bytes, found %d", c.in, got, length, f, c.want, want, c.found)
		}
	}
}

func TestSlipInMarkIsTold(t *testing.T) {
	m, _, wrong, f := parseMark("{{execute interupt}}")
	if f != goodMark || m.action != runs || m.terminal != "" || wrong != "interupt" {
		t.Errorf("%+v, %q, %d", m, wrong, f)
	}
}

func TestCaret(t *testing.T) {
	for in, want := range map[string]string{
		"^C": "^C", "^c": "^C", "^ESC": "^[", "^esc": "^[", "^ESC:wq^M": "^[:wq^M", "q": "q", "^": "^", "^^": "^^", "": "",
	} {
		if got := caret(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
