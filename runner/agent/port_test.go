package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestListening(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(addr string, port int, state string) string {
		return fmt.Sprintf("   0: %s:%04X 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 1\n", addr, port, state)
	}
	for _, c := range []struct {
		name, table string
		want        []int
	}{
		{"empty", "", nil},
		{"nothing", head, nil},
		{"any", head + line("00000000", 80, "0A"), []int{80}},
		{"loopback", head + line("0100007F", 8080, "0A"), []int{8080}},
		{"twice", head + line("0100007F", 80, "0A") + line("00000000", 80, "0A"), []int{80}},
		{"another loopback address", head + line("0B00007F", 53, "0A"), nil},
		{"an address of its own", head + line("0200D50A", 80, "0A"), nil},
		{"IPv6 any", head + line("00000000000000000000000000000000", 80, "0A"), []int{80}},
		{"IPv6 loopback", head + line("00000000000000000000000001000000", 81, "0A"), []int{81}},
		{"IPv6 with an IPv4 address", head + line("0000000000000000FFFF00000100007F", 82, "0A") + line("0000000000000000FFFF00000200D50A", 83, "0A"), []int{82}},
		{"another IPv6 address", head + line("000080FE000000000000000001000000", 80, "0A"), nil},
		{"connected", head + line("00000000", 80, "0A") + line("0100007F", 81, "01") + line("0100007F", 82, "06"), []int{80}},
		{"no table", "what\never\nit is\n", nil},
		{"broken lines", head + line("xyz", 80, "0A") + line("0100", 80, "0A") + line("", 80, "0A") + line("00000000", 0, "0A") + line("00000000", 443, "0A"), []int{443}},
	} {
		open := map[int]bool{}
		if err := listening(strings.NewReader(c.table), open); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := slices.Sorted(maps.Keys(open)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %d; want %d", c.name, got, c.want)
		}
	}
}
