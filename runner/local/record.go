package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"berth/labs"
)

// A record is what is kept on disk about a sandbox, so that the next server
// can adopt it or sweep away what is left of it.
type record struct {
	ID      string      `json:"id"`
	Slot    slot        `json:"slot"`
	First   int         `json:"first"`   // user id of its root outside
	Address netip.Addr  `json:"address"` // of its interface
	Image   string      `json:"image"`
	Egress  labs.Egress `json:"egress"`
	Limits  labs.Limits `json:"limits"`
	Agent   string      `json:"agent"`         // program that runs as the agent
	PID     int         `json:"pid,omitempty"` // first process, once there is one
	Started uint64      `json:"started,omitempty"`
	Boot    string      `json:"boot"` // the machine's run in which it was made
	Ready   bool        `json:"ready"`
	Created time.Time   `json:"created"`
	Peers   []string    `json:"peers,omitempty"` // ids of sandboxes that it reaches, and they it
}

func (r record) member() member { return member{r.Slot, r.Egress} }

// write replaces the record at path in one step.
func (r record) write(path string) error {
	data, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(path+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write record of sandbox %s: %w", r.ID, err)
	}
	return nil
}

// readRecord reads a record; id is what it must be about.
func readRecord(path, id string) (record, error) {
	var r record
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	if r.ID != id || r.Slot < 0 {
		return r, fmt.Errorf("read %s: %w", path, errors.New("it is about another sandbox"))
	}
	return r, nil
}

// bootID names the machine's present run.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(id)
}
