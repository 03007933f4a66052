package runnertest

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/labs"
)

func listing(t *testing.T, sb labs.Sandbox) {
	ctx := within(t)
	home := strings.TrimSpace(sh(t, sb, `cd ~; pwd; mkdir -p d/sub d/empty; cd d; printf 12345 > 'ünï ©ode 🐳'; : > -rf; : > .hidden
		chmod 640 .hidden; ln -s sub way; ln -s /no/such nowhere; ln -s loop loop; mkfifo fifo; printf x > sub/x`))
	all, err := sb.List(ctx, "~/d", 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range all {
		name, inside := strings.CutPrefix(f.Path, home+"/d/")
		if !inside {
			t.Errorf("%s is listed", f.Path)
		}
		if name == "ünï ©ode 🐳" && f.Size != 5 || name == ".hidden" && f.Mode.Perm() != 0o640 || f.MTime.IsZero() {
			t.Errorf("%+v", f)
		}
		if f.Mode.IsDir() {
			name += "/"
		}
		got = append(got, name)
	}
	if want := "-rf|.hidden|empty/|fifo|loop|nowhere|sub/|way/|ünï ©ode 🐳"; strings.Join(got, "|") != want {
		t.Errorf("listed %s; want %s", strings.Join(got, "|"), want)
	}
	if all, err := sb.List(ctx, "~/d", 2); err != nil || len(all) != 2 || all[1].Path != home+"/d/.hidden" {
		t.Errorf("with a limit: %+v, %v", all, err)
	}
	if all, err := sb.List(ctx, "~/d/way", 9); err != nil || len(all) != 1 || all[0].Path != home+"/d/way/x" {
		t.Errorf("through a link: %+v, %v", all, err)
	}
	if all, err := sb.List(ctx, "~/d/empty", 9); err != nil || len(all) != 0 {
		t.Errorf("an empty one: %+v, %v", all, err)
	}
	if all, err := sb.List(ctx, "~", 9); err != nil || len(all) == 0 {
		t.Errorf("the home: %+v, %v", all, err)
	}
	for dir, want := range map[string]error{"~/none": labs.ErrNotFound, "~/d/.hidden": labs.ErrNotFound, "~/d/fifo": labs.ErrNotFound, "~/d/nowhere": labs.ErrNotFound, "d": labs.ErrInvalid, "": labs.ErrInvalid, "~/\x00": labs.ErrInvalid} {
		if all, err := sb.List(ctx, dir, 9); !errors.Is(err, want) {
			t.Errorf("list %q: %v, %v; want %v", dir, all, err, want)
		}
	}
}

func editing(t *testing.T, sb labs.Sandbox) {
	ctx := within(t)
	text := []byte("über 🐳\x00\xff\r\nno end")
	v1, err := sb.WriteFile(ctx, "~/new dir/ünï/©.txt", text, "")
	if err != nil || v1 == "" {
		t.Fatal(v1, err)
	}
	got, v, err := sb.ReadFile(ctx, "~/new dir/ünï/©.txt", int64(len(text)))
	if err != nil || !bytes.Equal(got, text) || v != v1 {
		t.Errorf("read %q, version %q, %v; want version %q", got, v, err, v1)
	}
	// The same content has the same version, wherever it is; another has another.
	same, err := sb.WriteFile(ctx, "/tmp/berth-same", text, "")
	if err != nil || same != v1 {
		t.Errorf("the same again: %q, %v", same, err)
	}
	empty, err := sb.WriteFile(ctx, "/tmp/berth-same", nil, same)
	if err != nil || empty == v1 || empty == "" {
		t.Errorf("empty: %q, %v", empty, err)
	}
	if got, v, err := sb.ReadFile(ctx, "/tmp/berth-same", 0+1); err != nil || len(got) != 0 || v != empty {
		t.Errorf("read empty: %q, %q, %v", got, v, err)
	}
	sh(t, sb, "rm /tmp/berth-same")

	// What was changed meanwhile is left alone, and told.
	for change, now := range map[string]string{"echo theirs > f": "theirs\n", ": > f": "", "rm f": "(none)"} {
		was, err := sb.WriteFile(ctx, "~/f", []byte("mine"), "")
		if err != nil {
			t.Fatal(err)
		}
		sh(t, sb, "cd ~; "+change)
		_, current, err := sb.ReadFile(ctx, "~/f", 100)
		if now == "(none)" == (err == nil) {
			t.Errorf("%s: %v", change, err)
		}
		told, err := sb.WriteFile(ctx, "~/f", []byte("mine 2"), was)
		if !errors.Is(err, labs.ErrChanged) || told != current {
			t.Errorf("after %q: version %q, %v; want %q", change, told, err, current)
		}
		if got := sh(t, sb, "cd ~; if [ -e f ]; then cat f; else echo -n '(none)'; fi"); got != now {
			t.Errorf("after %q it holds %q", change, got)
		}
		if current != "" {
			if told, err := sb.WriteFile(ctx, "~/f", nil, ""); !errors.Is(err, labs.ErrChanged) || told != current {
				t.Errorf("made again after %q: %q, %v", change, told, err)
			}
		}
		sh(t, sb, "rm -f ~/f")
	}
	if left := sh(t, sb, "cd ~; find . -name '.saving*'"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func editKeeps(t *testing.T, sb labs.Sandbox) {
	ctx := within(t)
	sh(t, sb, `cd ~; mkdir real links; printf old > real/run; chmod 4751 real/run
		printf old > real/secret; chmod 600 real/secret; chown 0:1 real/secret; printf old > real/locked; chmod 400 real/locked
		ln -s ../real/run links/run; ln -s ~/links/run links/again; ln -s ../real/fresh links/nowhere
		ln -s real way; ln -s ../way/../real/secret links/round; ln -s loop links/loop`)
	for path, real := range map[string]string{
		"~/links/again": "run 4751 0:0", "~/links/round": "secret 600 0:1", "~/way/locked": "locked 400 0:0", "~/links/nowhere": "fresh 644 0:0",
	} {
		var was labs.Version
		if path != "~/links/nowhere" {
			var err error
			if _, was, err = sb.ReadFile(ctx, path, 100); err != nil {
				t.Error(err)
			}
		}
		if _, err := sb.WriteFile(ctx, path, []byte("saved"), was); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		name, _, _ := strings.Cut(real, " ")
		if got := sh(t, sb, fmt.Sprintf(`cd ~/real; echo "$(cat %s) $(stat -c '%%n %%a %%u:%%g' %s)"`, name, name)); got != "saved "+real+"\n" {
			t.Errorf("%s: %q; want %q", path, got, real)
		}
	}
	if got := sh(t, sb, "cd ~; for l in links/* way; do [ -h $l ] || echo $l; done"); got != "" {
		t.Errorf("no link any more: %s", got)
	}
	if _, err := sb.WriteFile(ctx, "~/links/loop", nil, ""); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("a link to itself: %v", err)
	}
}

func editAtOnce(t *testing.T, sb labs.Sandbox) {
	ctx := within(t)
	const writers, rounds = 8, 10
	var was labs.Version
	for round := range rounds {
		versions, errs := make([]labs.Version, writers), make([]error, writers)
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				versions[i], errs[i] = sb.WriteFile(ctx, "~/raced", fmt.Appendf(nil, "round %d writer %d", round, i), was)
			})
		}
		all.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				if winner >= 0 {
					t.Fatalf("round %d: %d and %d both wrote", round, winner, i)
				}
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody wrote: %v", round, errs)
		}
		for i, err := range errs {
			if i != winner && (!errors.Is(err, labs.ErrChanged) || versions[i] != versions[winner]) {
				t.Errorf("round %d, writer %d: version %q, %v; want %q", round, i, versions[i], err, versions[winner])
			}
		}
		text, v, err := sb.ReadFile(ctx, "~/raced", 100)
		if err != nil || v != versions[winner] || string(text) != fmt.Sprintf("round %d writer %d", round, winner) {
			t.Errorf("round %d: %q, %q, %v", round, text, v, err)
		}
		was = v
	}
	// Somebody who reads sees one content or the other, never a piece.
	a, b := bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)
	v, err := sb.WriteFile(ctx, "~/whole", a, "")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() { // ends with the script, which is bounded by ctx
		var out bytes.Buffer
		sb.Exec(ctx, labs.Cmd{Args: []string{"bash", "-c", "for i in {1..100}; do md5sum < ~/whole; done | sort -u"}, Stdout: &out, Stderr: &out})
		seen <- out.String()
	}()
	sums := []string{fmt.Sprintf("%x  -", md5.Sum(a)), fmt.Sprintf("%x  -", md5.Sum(b))}
	for i := 0; ; i++ {
		text := a
		if i%2 == 0 {
			text = b
		}
		if v, err = sb.WriteFile(ctx, "~/whole", text, v); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-seen:
			for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
				if !slices.Contains(sums, line) {
					t.Errorf("somebody saw %q", line)
				}
			}
			return
		default:
		}
	}
}

func editFullDisk(t *testing.T, sb labs.Sandbox) {
	sh(t, sb, "cd ~; mkdir small; mount -t tmpfs -o size=256k,mode=755 small small; printf old > small/f")
	defer sh(t, sb, "umount ~/small")
	_, was, err := sb.ReadFile(within(t), "~/small/f", 100)
	if err != nil {
		t.Fatal(err)
	}
	for path, v := range map[string]labs.Version{"~/small/f": was, "~/small/new": ""} {
		if v, err := sb.WriteFile(within(t), path, make([]byte, 1<<20), v); !errors.Is(err, labs.ErrBusy) || v != "" {
			t.Errorf("%s: %q, %v", path, v, err)
		}
	}
	if got := sh(t, sb, "cd ~/small; ls -A; cat f"); got != "f\nold" {
		t.Errorf("afterwards: %q", got)
	}
	if _, err := sb.WriteFile(within(t), "~/small/f", make([]byte, 100<<10), was); err != nil {
		t.Errorf("what there is room for: %v", err)
	}
}

func editRefused(t *testing.T, sb labs.Sandbox) {
	sh(t, sb, "cd ~; mkdir dir; mkfifo fifo; ln -s fifo way; ln -s /dev/zero zero; ln -s /dev/null null; echo text > f; head -c 20000000 /dev/zero > huge")
	long := "~/" + strings.Repeat("x", 300)
	for path, want := range map[string]error{
		"~/dir": labs.ErrInvalid, "~": labs.ErrInvalid, "/": labs.ErrInvalid, "~/fifo": labs.ErrInvalid, "~/way": labs.ErrInvalid, "~/zero": labs.ErrInvalid,
		"~/null": labs.ErrInvalid, "/dev/null": labs.ErrInvalid, "/dev/tty": labs.ErrInvalid, "relative": labs.ErrInvalid, "": labs.ErrInvalid, "~/a\x00b": labs.ErrInvalid, "~/huge": labs.ErrInvalid, long: labs.ErrInvalid, "~/f/x": labs.ErrInvalid,
	} {
		if v, err := sb.WriteFile(within(t), path, []byte("x"), ""); !errors.Is(err, want) {
			t.Errorf("write %.40q: %q, %v; want %v", path, v, err, want)
		}
		if path == "~/f/x" {
			want = labs.ErrNotFound
		}
		if _, _, err := sb.ReadFile(within(t), path, 1<<20); !errors.Is(err, want) {
			t.Errorf("read %.40q: %v; want %v", path, err, want)
		}
	}
	if _, _, err := sb.ReadFile(within(t), "~/none", 100); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("read what is not there: %v", err)
	}
	if _, _, err := sb.ReadFile(within(t), "~/f", 4); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("read more than the limit: %v", err)
	}
	if text, _, err := sb.ReadFile(within(t), "~/f", 5); err != nil || string(text) != "text\n" {
		t.Errorf("read as much as the limit: %q, %v", text, err)
	}
	if v, err := sb.WriteFile(within(t), "~/f", []byte("x"), "no version"); !errors.Is(err, labs.ErrChanged) || v == "" {
		t.Errorf("with a version that is none: %q, %v", v, err)
	}
	if v, err := sb.WriteFile(within(t), "~/big", make([]byte, 64<<20), ""); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("64 MiB: %q, %v", v, err)
	}
	if got := sh(t, sb, "cd ~; ls; cat f; find . -name '.saving*'"); got != "dir\nf\nfifo\nhuge\nnull\nway\nzero\ntext\n" {
		t.Errorf("afterwards: %q", got)
	}
}
