package markdown

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

var shellCases = []struct {
	code string
	want []string // nil when the code does not end
}{
	{"ls", []string{"ls"}},
	{"ls\npwd", []string{"ls", "pwd"}},
	{"\n# comment\n\nls\n\n", []string{"ls"}},
	{"a \\\n b", []string{"a \\\n b"}},
	{"a |\nb", []string{"a |\nb"}},
	{"a &&\nb", []string{"a &&\nb"}},
	{"a ||\n\nb", []string{"a ||\n\nb"}},
	{"a &\nb", []string{"a &", "b"}},
	{"a;\nb", []string{"a;", "b"}},
	{"echo 'a\nb'", []string{"echo 'a\nb'"}},
	{"echo \"a\n\\\"b\"", []string{"echo \"a\n\\\"b\""}},
	{"echo it\\'s\npwd", []string{"echo it\\'s", "pwd"}},
	{"echo $'it\\'s'\npwd", []string{"echo $'it\\'s'", "pwd"}},
	{"echo \"$(ls \"a b\")\"\npwd", []string{"echo \"$(ls \"a b\")\"", "pwd"}},
	{"echo \"it's\"\npwd", []string{"echo \"it's\"", "pwd"}},
	{"echo $(ls\n)", []string{"echo $(ls\n)"}},
	{"echo `ls\n`\npwd", []string{"echo `ls\n`", "pwd"}},
	{"echo ${a:-'}'}\npwd", []string{"echo ${a:-'}'}", "pwd"}},
	{"echo $# ${#a} a#b # it's\npwd", []string{"echo $# ${#a} a#b # it's", "pwd"}},
	{"cat <<E\n'x\nE\npwd", []string{"cat <<E\n'x\nE", "pwd"}},
	{"cat <<'E F'\n$(\nE F\npwd", []string{"cat <<'E F'\n$(\nE F", "pwd"}},
	{"cat <<-E\n\tx\n\tE\npwd", []string{"cat <<-E\n\tx\n\tE", "pwd"}},
	{"cat <<A <<B\na\nA\nb\nB\npwd", []string{"cat <<A <<B\na\nA\nb\nB", "pwd"}},
	{"cat <<E | (\nx\nE\ncat)\npwd", []string{"cat <<E | (\nx\nE\ncat)", "pwd"}},
	{"cat <<<x\npwd", []string{"cat <<<x", "pwd"}},
	{"echo $((1<<2))\n((a<<=1))\npwd", []string{"echo $((1<<2))", "((a<<=1))", "pwd"}},
	{"for i in a b; do\necho $i\ndone\npwd", []string{"for i in a b; do\necho $i\ndone", "pwd"}},
	{"for i in a\ndo echo done\ndone", []string{"for i in a\ndo echo done\ndone"}},
	{"while true; do if a; then b; fi; done\npwd", []string{"while true; do if a; then b; fi; done", "pwd"}},
	{"if a\nthen b\nelif c; then d\nelse e\nfi\npwd", []string{"if a\nthen b\nelif c; then d\nelse e\nfi", "pwd"}},
	{"case $a in\na|b) c;;\n(d) e\nesac\npwd", []string{"case $a in\na|b) c;;\n(d) e\nesac", "pwd"}},
	{"f() {\nls\n}\npwd", []string{"f() {\nls\n}", "pwd"}},
	{"{ ls\n}\necho }\npwd", []string{"{ ls\n}", "echo }", "pwd"}},
	{"(cd /\nls)\npwd", []string{"(cd /\nls)", "pwd"}},
	{"echo for if while\npwd", []string{"echo for if while", "pwd"}},
	{"echo $(date) for you\npwd", []string{"echo $(date) for you", "pwd"}},
	{"tar cv --files-from /dev/null | docker import - empty", []string{"tar cv --files-from /dev/null | docker import - empty"}},
	{"tar -xvf \"image/$(jq -r '.[0].Layers[2]' image/manifest.json)\" -C layer\npwd",
		[]string{"tar -xvf \"image/$(jq -r '.[0].Layers[2]' image/manifest.json)\" -C layer", "pwd"}},
	{"echo 'a", nil},
	{"cat <<E\nx", nil},
	{"if a; then", nil},
	{"a |", nil},
	{"(a", nil},
	{"f() {", nil},
}

func TestSplitCommands(t *testing.T) {
	for _, c := range shellCases {
		got, whole := splitCommands(c.code)
		if whole != (c.want != nil) {
			t.Errorf("%q: whole: %v, commands %q", c.code, whole, got)
		}
		if c.want != nil && !slices.Equal(got, c.want) {
			t.Errorf("%q:\ngot  %q\nwant %q", c.code, got, c.want)
		}
	}
}

// The shell itself must agree that every part is a command, and that what is
// said not to end does not.
func TestSplitCommandsAsBashDoes(t *testing.T) {
	for _, c := range shellCases {
		for _, part := range c.want {
			if out := bashSays(t, part); out != "" {
				t.Errorf("bash says about %q: %s", part, out)
			}
		}
		if c.want == nil && bashSays(t, c.code) == "" {
			t.Errorf("bash finds %q complete", c.code)
		}
	}
}

func bashSays(t *testing.T, code string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-n")
	cmd.Stdin = strings.NewReader(code + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}
