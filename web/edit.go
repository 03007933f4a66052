package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"berth/labs"
)

// The editor's files: what a directory holds, and texts that are read and
// saved as a whole. A text is saved only over the version that was read.

const (
	textPattern = "/api/sessions/{id}/file"

	maxEntries = 1000    // of a directory that are listed
	maxEdited  = 1 << 20 // bytes of a text
	// Every byte of a text can take six as JSON.
	maxSaved   = 6*maxEdited + maxBody
	maxFileArg = 4096             // bytes of a path
	maxSaving  = 4                // texts that one learner reads or saves at a time
	savedWait  = 60 * time.Second // for a text to arrive
)

type entryBody struct {
	Name  string    `json:"name"`
	Path  string    `json:"path"`
	Dir   bool      `json:"dir"`
	Size  int64     `json:"size"`
	MTime time.Time `json:"mtime"`
}

type entriesBody struct {
	Dir     string      `json:"dir"`
	Entries []entryBody `json:"entries"`
	More    bool        `json:"more"` // there are more than were listed
}

type textBody struct {
	Path    string       `json:"path"`
	Text    string       `json:"text"`
	Version labs.Version `json:"version"`
}

type savedBody struct {
	Version labs.Version `json:"version"`
}

type changedBody struct {
	Error   string       `json:"error"`
	Version labs.Version `json:"version"` // that the file has now; "": it is not there
}

// entries lists a directory of the sandbox.
func (s *Server) entries(w http.ResponseWriter, r *http.Request) error {
	dir := r.URL.Query().Get("dir")
	if dir == "" || dir == "~" {
		dir = "~/"
	}
	if err := checkPath(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), startWait)
	defer cancel()
	_, sb, err := s.files(ctx, r)
	if err != nil {
		return err
	}
	found, err := sb.List(ctx, dir, maxEntries+1)
	if err != nil {
		return fileError(err, "There is no such directory in your sandbox.", "This is no directory that can be listed.")
	}
	b := entriesBody{Dir: dir, More: len(found) > maxEntries, Entries: make([]entryBody, 0, min(len(found), maxEntries))}
	for _, f := range found[:min(len(found), maxEntries)] {
		b.Entries = append(b.Entries, entryBody{
			Name: f.Path[strings.LastIndexByte(f.Path, '/')+1:], Path: f.Path, Dir: f.Mode.IsDir(), Size: f.Size, MTime: f.MTime,
		})
	}
	return writeJSON(w, http.StatusOK, b)
}

// readText gives a text of the sandbox and its version.
func (s *Server) readText(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("path")
	if err := checkPath(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), startWait)
	defer cancel()
	session, sb, err := s.files(ctx, r)
	if err != nil {
		return err
	}
	if !s.editing.take(session, maxSaving) {
		return errTooOften
	}
	defer s.editing.give(session)
	text, version, err := sb.ReadFile(ctx, name, maxEdited)
	if err != nil {
		return fileError(err, "There is no such file in your sandbox.", "This cannot be edited here: it is a directory or a device, or larger than 1 MiB.")
	}
	if !isText(text) {
		return invalid("This file is not text, so that it cannot be edited here.")
	}
	s.Desk.Touch(session)
	return writeJSON(w, http.StatusOK, textBody{name, string(text), version})
}

// saveText replaces a text of the sandbox when it has the version that was
// read, or makes it when none was.
func (s *Server) saveText(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("path")
	if err := checkPath(name); err != nil {
		return err
	}
	if strings.HasSuffix(name, "/") {
		return invalid("Give the file a name.")
	}
	ctx, cancel := context.WithTimeout(r.Context(), startWait)
	defer cancel()
	session, sb, err := s.files(ctx, r)
	if err != nil {
		return err
	}
	if !s.editing.take(session, maxSaving) {
		return errTooOften
	}
	defer s.editing.give(session)
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(savedWait)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("bound the time of a save: %w", err)
	}
	text, was, err := parseSave(r.Body)
	if err != nil {
		return err
	}
	version, err := sb.WriteFile(ctx, name, []byte(text), was)
	if errors.Is(err, labs.ErrChanged) {
		say := "The file was changed in the sandbox meanwhile. Look at both before you save."
		switch {
		case version == "":
			say = "The file was removed in the sandbox meanwhile. Save it as a new one, or close it."
		case was == "":
			say = "There is a file of this name already. Open it, or choose another name."
		}
		return writeJSON(w, http.StatusConflict, changedBody{say, version})
	}
	if err != nil {
		return fileError(err, "The directory of this file is not there.", "A file cannot be saved under this name: it is a directory or a device, or a part of it is no directory.")
	}
	s.Desk.Touch(session)
	return writeJSON(w, http.StatusOK, savedBody{version})
}

// parseSave reads the text to save and the version it was made from.
func parseSave(body io.Reader) (text string, was labs.Version, err error) {
	tooLarge := &labs.Problem{Kind: labs.ErrInvalid, Say: "The text is larger than 1 MiB, which is more than can be saved here."}
	b, err := io.ReadAll(io.LimitReader(body, maxSaved+1))
	if tooMany := new(http.MaxBytesError); errors.As(err, &tooMany) || len(b) > maxSaved {
		return "", "", tooLarge
	}
	if err != nil {
		return "", "", &labs.Problem{Kind: labs.ErrInvalid, Say: "The text did not arrive as a whole. Save it again.", Cause: err}
	}
	// encoding/json would put replacement characters where it is not UTF-8.
	if !utf8.Valid(b) {
		return "", "", invalid("Only text in UTF-8 can be saved here.")
	}
	var save struct {
		Text *string      `json:"text"`
		Was  labs.Version `json:"was"`
	}
	if err := json.Unmarshal(b, &save); err != nil || save.Text == nil || len(save.Was) > 256 {
		return "", "", &labs.Problem{Kind: labs.ErrInvalid, Say: "The server did not understand what to save.", Cause: err}
	}
	if len(*save.Text) > maxEdited {
		return "", "", tooLarge
	}
	if !isText([]byte(*save.Text)) {
		return "", "", invalid("Only text can be saved here.")
	}
	return *save.Text, save.Was, nil
}

// files gives the session of the request and the sandbox whose files it is
// about, the first unless another is named.
func (s *Server) files(ctx context.Context, r *http.Request) (session string, sb labs.Sandbox, err error) {
	learner, session, err := s.session(r)
	if err != nil {
		return "", nil, err
	}
	host := 1
	if text := r.URL.Query().Get("host"); text != "" {
		if host, err = strconv.Atoi(text); err != nil || host < 1 || host > 9 {
			return "", nil, invalid("Sandboxes are numbered from 1.")
		}
	}
	if sb, err = s.Desk.SandboxOn(ctx, learner, session, host); err != nil {
		return "", nil, sessionError(err)
	}
	return session, sb, nil
}

// checkPath refuses paths that the sandbox would not take.
func checkPath(name string) error {
	if len(name) > maxFileArg || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return invalid("This is no path of a file.")
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "~/") {
		return invalid("A path begins with / or with ~/, the home.")
	}
	return nil
}

func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// fileError gives what went wrong with a file a sentence. missing and wrong
// are for a file that is not there, and for one that cannot be used.
func fileError(err error, missing, wrong string) error {
	for _, k := range []struct {
		kind error
		say  string
	}{
		{labs.ErrNotFound, missing},
		{labs.ErrInvalid, wrong},
		{labs.ErrForbidden, "The sandbox does not allow this: the file, or the place it is in, is read-only."},
		{labs.ErrBusy, "The disk of your sandbox is full. Remove something and save again."},
	} {
		if errors.Is(err, k.kind) {
			return &labs.Problem{Kind: k.kind, Say: k.say, Cause: err}
		}
	}
	return err
}
