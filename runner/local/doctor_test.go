package local

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth/labs"
)

func TestDoctorFindsEverythingHere(t *testing.T) {
	cfg := testConfig(t)
	before := machine(t, cfg)
	for _, f := range Check(within(t, 60*time.Second), cfg) {
		if !f.OK && !f.Optional {
			t.Errorf("%s: %s; %s", f.Name, f.Detail, f.Fix)
		}
		if f.Name == "" || f.Detail == "" || f.OK == (f.Fix != "") {
			t.Errorf("not a whole finding: %+v", f)
		}
		t.Logf("%-20s %v %s", f.Name, f.OK, f.Detail)
	}
	if after := machine(t, cfg); !slices.Equal(before, after) {
		t.Errorf("left behind:\n%s", diff(before, after))
	}
	if entries, err := os.ReadDir(cfg.State); err != nil || len(entries) > 0 {
		t.Errorf("left in the state directory: %v %v", entries, err)
	}
}

func TestDoctorNamesWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		finding string
		change  func(*Config)
	}{
		{"settings", func(c *Config) { c.Name = "no good" }},
		{"OCI runtime", func(c *Config) { c.Runtime = "no-such-runtime" }},
		{"agent program", func(c *Config) { c.Binary = "/bin/ls" }},
		{"agent program", func(c *Config) { c.Binary = filepath.Join(c.State, "missing") }},
		{"disk space", func(c *Config) { c.Defaults.Disk = 1 << 50 }},
		{"memory", func(c *Config) { c.Defaults.Memory = 1 << 50 }},
		{"addresses", func(c *Config) { c.Network = netip.MustParsePrefix("127.0.0.0/24") }},
		{"state directory", func(c *Config) { c.State = "/proc/berth" }},
	} {
		cfg := testConfig(t)
		c.change(&cfg)
		findings := Check(within(t, 60*time.Second), cfg)
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.Name == c.finding && !f.OK })
		if i < 0 {
			t.Errorf("%s: not found: %+v", c.finding, findings)
		} else if findings[i].Fix == "" {
			t.Errorf("%s: %q says no remedy", c.finding, findings[i].Detail)
		}
	}
}

func TestDoctorKnowsTakenIDs(t *testing.T) {
	for _, c := range []struct {
		file, text string
		ok         bool
	}{
		{"passwd", "root:x:0:0:root:/root:/bin/sh\n", true},
		{"passwd", "ann:x:100500:100500::/home/ann:/bin/sh\n", false},
		{"group", "staff:x:165535:\n", false},
		{"subuid", "ann:165536:65536\n", true},
		{"subuid", "ann:34464:65536\n", true},
		{"subuid", "ann:34465:65536\n", false},
		{"subgid", "bob:100000:1\n", false},
		{"subgid", "nonsense\nbob:many:1\n", true},
	} {
		etc := t.TempDir()
		if err := os.WriteFile(filepath.Join(etc, c.file), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := checkIDs(etc, 100000, 165535); (err == nil) != c.ok {
			t.Errorf("%s with %q: %v", c.file, c.text, err)
		}
	}
}

func TestLimitsOfASpecAreFilledIn(t *testing.T) {
	cfg := testConfig(t)
	cfg, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	got, err := cfg.spec(labs.Spec{Limits: labs.Limits{Memory: 64 << 20, Disk: 100<<20 + 1}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (labs.Limits{Memory: 64 << 20, CPU: 1, Processes: 100, Disk: 101 << 20}); got.Limits != want || got.Egress != labs.EgressNone {
		t.Errorf("%+v, want %+v and no egress", got, want)
	}
}
