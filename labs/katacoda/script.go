package katacoda

import (
	"regexp"
	"slices"
	"strings"

	"berth/labs"
)

// shellLine is the first line of a script for some shell.
var shellLine = regexp.MustCompile(`^#!\s*(/\S*/)?(env\s+(-\S+\s+)*)?(ba|da|z|k|a)?sh\b`)

// asBash gives bash that runs a script of any language that names its
// interpreter in its first line.
func asBash(script string) string {
	if !strings.HasPrefix(script, "#!") || shellLine.MatchString(script) {
		return script
	}
	end := "END_OF_SCRIPT"
	for strings.Contains(script, end) {
		end += "_"
	}
	return "f=$(mktemp) && cat > \"$f\" <<'" + end + "' && chmod 700 \"$f\" && \"$f\"; s=$?; rm -f \"$f\"; exit $s\n" +
		strings.TrimSuffix(script, "\n") + "\n" + end + "\n"
}

// prints finds a script's way to say that it is content: done as the whole of
// what echo or printf writes, or as a value of its own. The word that ends a
// loop is none, and neither is one in a comment or within a sentence.
var (
	prints  = regexp.MustCompile(`(?:\b(?:echo|printf)(?:\s+-\w+)*\s+|=)(?:done\b(?:\\n)?|"done(?:\\n)?"|'done(?:\\n)?')\s*(?:$|[;&|)}>#])`)
	comment = regexp.MustCompile(`(^|\s)#.*$`)
)

// printsDone reports whether a script that verifies a step passes by writing a
// line "done", as Katacoda wants it, and not by its exit status alone, which is
// what O'Reilly and Killercoda look at.
func printsDone(script string) bool {
	for line := range strings.SplitSeq(script, "\n") {
		if prints.MatchString(line) && prints.MatchString(comment.ReplaceAllString(line, "$1")) {
			return true
		}
	}
	return false
}

// verifyCheck makes a check of the script that verifies a step.
func verifyCheck(script string) labs.Check {
	c := labs.Check{Name: "This step's task is done", Script: asBash(script)}
	if printsDone(script) {
		c.Prints = "done"
	}
	return c
}

// Commands that only the machines of Katacoda had, in scripts and between the
// backticks of a text.
var (
	helperInScript = regexp.MustCompile(`(?m)(?:^|[;&|(]|\b(?:until|while|if|then|do|bash|sh|source|sudo)\s)[ \t]*(` + helpers + `)(?:$|[\s;&|)])`)
	helperInText   = regexp.MustCompile("`[ \t]*(" + helpers + ")(?:[\\s;&|]|`)")
)

const helpers = `(?:~/|/root/|/usr/local/bin/|/usr/bin/|\./)?\.?launch\.sh|katacoda-[a-z][a-z-]*`

// helpers warns about commands that do not exist here, unless the scenario
// brings or makes them.
func (s *scenario) helpers(file, text string, re *regexp.Regexp) {
	for _, at := range re.FindAllStringSubmatchIndex(text, 20) {
		name := text[at[2]:at[3]]
		base := name[strings.LastIndexByte(name, '/')+1:]
		if slices.Contains(s.assetNames, base) || s.told["helper "+base] || regexp.MustCompile(`(>|-O|-o|tee|chmod \S+)\s*\S*`+regexp.QuoteMeta(base)).MatchString(text) {
			continue
		}
		s.told["helper "+base] = true
		s.warn(file, 1+strings.Count(text[:at[2]], "\n"), "a learner can leave it out", "the command %s was part of the machines that this lab was made for, and does not exist here", quote(name))
	}
}

// echoed finds what a script says to the learner.
var echoed = regexp.MustCompile(`(?m)^[ \t]*(?:echo|printf)(?:[ \t]+-\w+)*[ \t]+(?:"((?:[^"\\$` + "`" + `]|\\.)*)"|'([^']*)')[ \t]*(?:;.*)?$`)

// saidBy gives the sentences that a script of hints would say, in its order:
// it runs on nobody's machine here, and a learner may read them all.
func saidBy(script string) []string {
	var said []string
	for _, m := range echoed.FindAllStringSubmatch(script, 50) {
		t := m[1] + m[2]
		if m[1] != "" {
			t = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(t)
		}
		t = strings.TrimSpace(strings.ReplaceAll(t, `\n`, "\n"))
		if len(strings.Fields(t)) > 1 && !slices.Contains(said, t) {
			said = append(said, t)
		}
	}
	return said
}

// trafficFile is where Killercoda tells programs the address of a port, with
// the word PORT in it.
const trafficFile = "/etc/killercoda/host"

// trafficSetup writes trafficFile. The address is that of a port that nothing
// listens on, whose number is then turned into the word.
const trafficSetup = `address='{{preview 54321}}'
mkdir -p /etc/killercoda
printf '%s\n' "${address/54321/PORT}" > ` + trafficFile + "\n"

// tutorialFolder is where Katacoda's first machines kept what the editor showed.
const tutorialFolder = "/home/scrapbook/tutorial"

// tutorialSetup makes tutorialFolder another name of the home.
const tutorialSetup = `mkdir -p /home/scrapbook
[ -e ` + tutorialFolder + ` ] || ln -s "$HOME" ` + tutorialFolder + "\n"
