package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 1000, 1 << 20: 1000, 10 << 20: 400, 40 << 20: 100, 80 << 20: 50, 160 << 20: 25, 4 << 30: 25, 1 << 62: 25,
	} {
		if got := growth(live); got != want {
			t.Errorf("%d live bytes may grow by %d %%, want %d", live, got, want)
		}
	}
}

// TestPacer holds a large heap, and lets it go again.
func TestPacer(t *testing.T) {
	p := newPacer()
	p.pace()
	percent := func() int {
		now := debug.SetGCPercent(-1)
		debug.SetGCPercent(now)
		return now
	}
	wait := func(what string, ok func(int) bool) {
		for deadline := time.Now().Add(30 * time.Second); !ok(percent()); time.Sleep(time.Millisecond) {
			runtime.GC()
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d %%", what, percent())
			}
		}
	}
	large := make([]byte, 400<<20)
	wait("a large heap", func(percent int) bool { return percent == 25 })
	runtime.KeepAlive(large)
	large = nil
	wait("a small heap", func(percent int) bool { return percent > 25 })
}
