// Package markdown reads labs in our own format. This comment is the manual of
// that format.
//
// # A lab
//
// A lab is a folder with a file lab.md, and beside it what it needs: files in
// the folder files/ are put into the learner's home (those that begin with #!
// can be executed), images can be shown. The folder's name is the lab's id and
// part of its address: small letters, digits and "-". Nothing outside the folder
// is ever read; a link that leads out of it is left out.
//
// A folder of labs may hold course.yaml:
//
//	title: Containers from the ground up
//	order: [container-image, first-container]
//
// Labs that order does not name follow by name.
//
// Schema gives JSON Schemas of the settings, of a check and of course.yaml.
//
// # Front matter
//
// lab.md begins with settings in YAML between two lines ---:
//
//	---
//	title: What is a container image?
//	summary: Take an image apart with tar.     # one sentence
//	level: beginner                            # beginner, intermediate or advanced
//	minutes: 25
//	image: docker                              # sandbox image: a recipe, or a reference; docker if not said
//	pulls:                                     # container images to have ready
//	  - alpine:3.22
//	  - {image: redis:3.2.11-alpine, standin: redis}
//	egress: mirror                             # none, mirror (our registry only; if not said) or internet
//	cannot: It needs a cluster.                # why it can only be read; no sandbox is started
//	hosts: 2                                   # sandboxes on one private network; 1 if not said, at most 9
//	hostname: host01                           # of the first of them
//	assets:                                    # more files for the sandbox, besides files/
//	  - {file: assets/setup.sh, to: /usr/local/bin, mode: "0755"}
//	  - {file: "conf/**", to: /etc/app, host: 2}
//	vars:                                      # values that differ per learner
//	  port: {random: 8000-8999}
//	  colour: {pick: [red, green]}
//	  app: {value: shop}
//	paged: true                                # one step is shown at a time
//	layout: editor                             # terminal (if not said), or an editor above it
//	open: ~/app                                # what the editor opens first
//	greeting: "\e[1mHello\e[0m"                # shown once in the first terminal
//	terminals:                                 # those that are open from the start
//	  - {name: "1", title: Shell}
//	  - {name: logs, host: 2, command: tail -f /var/log/app.log}
//	tabs:                                      # pages beside the terminals
//	  - {title: Shop, port: 8080}
//	  - {title: Admin, port: 80, host: 2, path: /admin}
//	  - {title: Manual, url: "https://example.com/manual"}
//	---
//
// Only title must be there. A stand-in is a recipe that is used where the image
// itself cannot be had; the page says so.
//
// In the file of an asset * and ? stand for characters of a name, and ** for any
// folders; what is matched keeps its place below the part without such signs:
// conf/a/b.conf goes to /etc/app/a/b.conf above. A lab brings at most 10,000
// files with 64 MiB.
//
// # Values
//
// {{name}} stands for a value of vars, in the text, in commands, files, checks,
// quizzes, hints, solutions and setups, and in open, greeting and the commands
// of terminals; "port: \"{{port}}\"" makes it the port of a check. A learner has
// the same value every time. {{preview 8080}} is the address at which a browser
// finds that port of the sandbox, without a "/" at its end, {{preview 2:8080}}
// that of the second sandbox; they need not be declared. All other {{…}} stay as
// they are.
//
// # Steps
//
// Text before the first heading of the second level is the introduction. Each
// such heading begins a step, and what stands below belongs to it:
//
//	## Pull and unpack
//
// A step's id is made of its heading; {#id} behind the heading gives another.
// The last one may be marked as the text of the page that ends the lab:
//
//	## Finish {.finish}
//
// # Commands
//
// A block of the language sh is typed into the terminal by a click:
//
//	```sh
//	docker pull redis:3.2.11-alpine
//	```
//
// Attributes behind the word, in braces, change that:
//
//	{copy}        it can only be copied
//	{.norun}      it is only shown
//	{terminal=2}  it is typed into the terminal of that name, which is opened
//	{interrupt}   Ctrl-C is sent first
//	{once}        it is offered once only
//	{host=2}      it is typed in the second sandbox
//	{no-enter}    Enter is not pressed behind it
//	{keys}        it is keys, sent as they are: ^C is Ctrl-C, ^M is Enter
//
// Inline code that is a paragraph by itself is a command too, unless {.norun}
// stands behind it. In a sentence it takes attributes directly behind it:
//
//	Type `docker ps`{run}, or `docker ps -a`{run terminal=2}, end it with
//	`^C`{keys}, keep `--no-trunc`{copy} in mind and look at `~/app/main.go`{open}.
//
// With run, copy or keys it does what a block does; open opens a file in the
// editor. Line breaks in it are kept.
//
// A transcript
// shows commands with what they print; lines that begin with "$ " (or "# ", as
// root) run one by one, and go on through lines that begin with "> ":
//
//	```console
//	$ ls image
//	blobs  index.json  manifest.json  oci-layout  repositories
//	```
//
// In the introduction, in hints and in the finish nothing runs: there commands
// can only be copied, and keys are only shown. Every other word names a language, for its colours; with
// {copy} such a block can be copied.
//
// # Files
//
//	```file {path=~/app/Dockerfile}
//	FROM scratch
//	```
//
// A click writes the file. One that is there already is replaced, or changed
// with an attribute: mode=append and mode=prepend add to it, and mode=insert
// replaces the first line that holds marker="…". With {host=2} it is a file of
// the second sandbox. Between double quotes \" is a quote and \\ a backslash.
//
// # Help
//
// A hint is Markdown, shown on request; a step may have several, which come one
// after the other. A solution is shell, kept from the page until it is asked
// for; it is what a test of the lab types, one command at a time. With
// {markdown} a solution is Markdown, and what runs in it is the solution.
//
//	```hint
//	Look at the list of images.
//	```
//
//	```solution
//	docker pull redis:3.2.11-alpine
//	```
//
//	````solution {markdown}
//	First see what there is, then remove it:
//
//	```sh
//	docker ps -a
//	```
//	````
//
// # Beginnings
//
// A setup is bash that runs as root, hidden; a start is typed where the learner
// sees it. Both happen together when the learner first comes to the step, or to
// the introduction or the finish, that they stand in; in a lab that is not paged,
// before it begins. A setup takes {host=2}; a start takes terminal, host,
// interrupt, keys and no-enter, as a command does.
//
//	```setup
//	touch ~/prepared
//	```
//
//	```start {terminal=2}
//	docker events
//	```
//
// # Questions
//
// A quiz counts for its step as a check does. Question and choices are Markdown
// of one line each, the question of any number of lines. ( ) is for questions
// with one right choice, [ ] where any number may be right, and x marks those
// that are. Instead of choices there can be one line "= answer", or "~ part" of
// which the answer is to hold; case and blanks do not count.
//
//	```quiz
//	Which file names the **layers** of an image?
//	( ) index.html
//	(x) manifest.json
//	```
//
// # Checks
//
// A check says in YAML what must be true for the step to be done. One block
// holds one check, and a check has one subject:
//
//	```check
//	name: Redis is in your engine     # what the learner reads
//	hint: Look at the list of images. # where to look, never the command
//	image: redis:3.2.11-alpine
//	```
//
// Beside name and hint there are two settings for every check: with "optional:
// true" the step is done without it, and "not: true" inverts it; then the
// opposite must have been seen first. The subjects, each with what may be
// expected of it:
//
//	image: REF          layers, size, entrypoint, cmd, env, label; path with a rule about the text
//	container: NAME     state, exit, logs, health, publishes, mounts, limits: {memory: …}
//	container: {image: REF, command: REGEXP}   likewise, for the newest that fits
//	volume: NAME
//	network: NAME
//	file: PATH          a rule about the text; mode, dir, tar-has, archive: REF (what docker save writes)
//	layer: REF          under: PATH; a layer of the unpacked image was unpacked itself
//	ran: REGEXP         exit (0 if not said); a command that the learner ran
//	port: N             path, status, body
//	script: BASH        prints: LINE, a line that it has to print too; run as root in the sandbox,
//	                    passes with exit status 0; the last resort
//
// A rule about a text is made of equals, contains, matches (a regular
// expression) and exists (false: it must not be there). For logs and body it is
// a value of its own: "logs: {contains: ready}". Numbers take a sign, in
// quotes: "<20M", ">0". Paths begin with / or ~/; in that of a file * and ?
// stand for any characters of a name, and ** for any folders.
//
// # Text
//
// Markdown as GitHub reads it: tables, task lists, strikethrough, footnotes,
// links of plain addresses, and callouts:
//
//	> [!NOTE]
//	> Also TIP, IMPORTANT, WARNING and CAUTION.
//
// HTML may be mixed in, such as <details>, <kbd> and <img>. It is sanitized,
// since labs come from strangers: what could run, style, submit, frame or load
// something is dropped with a warning, and so are classes and ids. Links lead
// to https, http, mailto, a #heading of the lab, or to a port of a sandbox:
// [the shop](preview:8080/cart), [the other](preview:2:8080). Of two headings
// that are alike a link means the one in its own step. Images come from the
// lab's folder.
//
// # Other formats
//
// Build makes a lesson of a Draft, what another format was translated into, and
// Write makes a lab.md of it. A lenient Draft has no mistakes but warnings: what
// our own authors would have to mend is shown as text.
//
// # Mistakes
//
// Every key, word and attribute that is not known is a mistake with the line
// where it stands and the nearest word that is. A lab with a mistake is not
// loaded; one with warnings is.
package markdown
