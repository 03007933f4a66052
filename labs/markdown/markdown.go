// Package markdown reads labs in our own format. This comment is the manual of
// that format.
//
// # A lab
//
// A lab is a folder with a file lab.md, and beside it what it needs: files in
// the folder files/ are put into the learner's home (those that begin with #!
// can be executed), images can be shown. The folder's name is the lab's id and
// part of its address: small letters, digits and "-".
//
// A folder of labs may hold course.yaml:
//
//	title: Containers from the ground up
//	order: [container-image, first-container]
//
// Labs that order does not name follow by name.
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
//	---
//
// Only title must be there. A stand-in is a recipe that is used where the image
// itself cannot be had; the page says so.
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
//
// Inline code that is a paragraph by itself is a command too. A transcript
// shows commands with what they print; lines that begin with "$ " (or "# ", as
// root) run one by one, and go on through lines that begin with "> ":
//
//	```console
//	$ ls image
//	blobs  index.json  manifest.json  oci-layout  repositories
//	```
//
// In the introduction, in hints and in the finish nothing runs: there commands
// can only be copied. Every other word names a language, for its colours; with
// {copy} such a block can be copied.
//
// # Files
//
//	```file {path=~/app/Dockerfile}
//	FROM scratch
//	```
//
// A click writes the file.
//
// # Help
//
// A hint is Markdown, shown on request; a step may have several, which come one
// after the other. A solution is shell, kept from the page until it is asked
// for; it is what a test of the lab types, one command at a time. A setup is
// run by bash, hidden, before the step.
//
//	```hint
//	Look at the list of images.
//	```
//
//	```solution
//	docker pull redis:3.2.11-alpine
//	```
//
//	```setup
//	touch ~/prepared
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
//	script: BASH        run as root in the sandbox, passes with exit status 0; the last resort
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
// to https, http, mailto or a #heading of the lab. Images come from the lab's
// folder.
//
// # Mistakes
//
// Every key, word and attribute that is not known is a mistake with the line
// where it stands and the nearest word that is. A lab with a mistake is not
// loaded; one with warnings is.
package markdown
