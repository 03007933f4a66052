package katacoda

import (
	"regexp"
	"slices"
	"strings"
)

// Authors also write marks where the places that read them first showed them
// as they are: inside the code, or where a backtick is missing. No learner
// should see them, or run them as part of a command; only a page that explains
// marks keeps those that stand inside code.

var (
	// A mark as code, or code with a mark behind it as code.
	explains = regexp.MustCompile("(?i)(?:^|[\\s(>*:|])`+ ?\\{\\{ ?(?:execute|exec|copy|open)[^{}\\n]{0,40}\\}\\} ?`|`\\{\\{(?:execute|exec|copy|open)[^{}\\n]{0,40}\\}\\} ?``")
	// Words and signs of sentences.
	sentence = regexp.MustCompile(`[a-z][,:] |[a-z]\. +[A-Z]|[:;,]$| (?:is|are|the|this|that|then|which|following|below) `)
	option   = regexp.MustCompile(` --?[a-zA-Z]`)
	program  = regexp.MustCompile(`^[a-z.~/][a-z0-9._/-]*$`)
)

// programs are commands that a line may begin with and have no options.
var programs = strings.Fields(`apk apt apt-get awk bash cargo cat cd chmod chown cp crictl ctr curl df dig dnf docker docker-compose dotnet
	du echo env etcdctl exit export free git go gradle grep head helm ip istioctl java jq k9s kill kubectl ls minikube mkdir mv mvn mysql nano
	netstat node npm npx oc ping pip pip3 pnpm podman ps psql pwd python python3 rm rsync sed service sh source ss ssh sudo systemctl tail tar
	terraform top touch tree uname unzip useradd vi vim watch wget which whoami yarn yum`)

// looksLikeCommand reports whether a line of text is nothing but a command.
func looksLikeCommand(line string) bool {
	line = strings.TrimSpace(line)
	first, _, _ := strings.Cut(line, " ")
	return program.MatchString(first) && !sentence.MatchString(line) && (slices.Contains(programs, first) || option.MatchString(line))
}

// documents reports whether the page explains how marks are written.
func (t *translation) documents() bool {
	if !t.asked {
		t.asked = true
		for _, line := range t.src {
			f, ok := openingFence(bare(line))
			lang, _ := firstWord(strings.ToLower(f.info))
			if ok && (lang == "markdown" || lang == "md") || explains.MatchString(line) {
				t.explained = true
				break
			}
		}
	}
	return t.explained
}

// marksInside takes marks off the lines of a block of code that end with them,
// and gives what they say together with the mark of the block.
func (t *translation) marksInside(b *block, lang string, m mark) mark {
	if !slices.ContainsFunc(b.lines, func(line string) bool { return strings.Contains(line, "{{") }) || t.documents() {
		return m
	}
	last := len(b.lines) - 1
	for last > 0 && isBlank(b.lines[last]) {
		last--
	}
	word := language(lang)
	shell := word == "" || word == "sh" || word == "text"
	document := slices.ContainsFunc(b.lines, func(line string) bool { return strings.Contains(line, "<<") })
	var found mark
	var kept block
	for i, line := range b.lines {
		kept.add(line, b.nums[i])
		line = strings.TrimRight(line, " \t")
		if strings.Contains(line, "`{{") {
			return m // about marks
		}
		if !endsWithMark(" " + line) {
			continue
		}
		at := strings.LastIndex(line, "{{")
		for at > 0 && line[at-1] == '{' {
			at--
		}
		o, _, _, _ := parseMark(line[at:])
		alone := isBlank(line[:at])
		glued := !alone && strings.IndexByte(" \t:=\"'", line[at-1]) < 0
		if i != last && document {
			continue // of a here-document, which may be about marks
		}
		if !glued && !(shell && (o.action == runs || i == last)) || o.action != runs && i != last {
			continue
		}
		end := len(kept.lines) - 1
		kept.lines[end] = strings.TrimRight(line[:at], " \t")
		if found.action == unmarked {
			t.warnAt(b.nums[i], "write it behind the backticks that end the block", "the mark %s stands inside the code", quote(line[at:]))
		}
		found = found.and(o)
		if alone {
			kept.lines, kept.nums = kept.lines[:end], kept.nums[:end]
		}
	}
	if found.action == unmarked {
		return m
	}
	*b = kept
	return found.and(m)
}
