package agent

import (
	"bytes"
	"path/filepath"
)

// maxGreeting is how many bytes of a greeting are shown.
const maxGreeting = 16 << 10

// greetingFile is where the greeting is in the run directory.
const greetingFile = "greeting"

// greeting gives what the first terminal shows first, as a terminal has it.
func (c Config) greeting() []byte {
	f, err := openRegular(filepath.Join(c.RunDir, greetingFile))
	if err != nil {
		return nil
	}
	defer f.Close()
	text := make([]byte, maxGreeting)
	n, _ := f.ReadAt(text, 0) // what could be read is better than nothing
	text = bytes.ToValidUTF8(text[:n], []byte("?"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
}
