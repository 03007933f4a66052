package local

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
)

// BenchmarkStart measures from nothing to an agent that answers, and back to
// nothing, with the median of every phase.
func BenchmarkStart(b *testing.B) {
	for _, disk := range []int64{128 << 20, 4 << 30} {
		b.Run(fmt.Sprintf("disk=%dM", disk>>20), func(b *testing.B) {
			boxes := open(b, testConfig(b))
			var mu sync.Mutex
			phases := map[string][]time.Duration{}
			boxes.observe = func(name string, took time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				phases[name] = append(phases[name], took)
			}
			spec := labs.Spec{Image: "test", Limits: labs.Limits{Disk: disk}}
			if err := start(b, boxes, spec).Destroy(); err != nil { // formats the disk
				b.Fatal(err)
			}
			clear(phases)
			for b.Loop() {
				began := time.Now()
				x, err := boxes.Start(b.Context(), spec)
				boxes.observe("START", time.Since(began))
				if err != nil {
					b.Fatal(err)
				}
				began = time.Now()
				if err := x.Destroy(); err != nil {
					b.Fatal(err)
				}
				boxes.observe("DESTROY", time.Since(began))
			}
			var names []string
			for name := range phases {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				slices.Sort(phases[name])
				n := len(phases[name])
				median, worst := phases[name][n/2], phases[name][n-1]
				b.Logf("%-18s median %6.1f ms, worst %6.1f ms", name, ms(median), ms(worst))
				b.ReportMetric(ms(median), strings.ReplaceAll(name, " ", "-")+"-ms")
			}
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
