package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// headroom is by how many bytes the heap grows between two collections. By itself Go lets it double: a server with few
// sessions would collect ten times a second under load, and one with full caches would keep as much garbage again.
const headroom = 40 << 20

// A pacer sets the collector's pace after each collection.
type pacer struct {
	percent int              // that is set
	live    []metrics.Sample // of what a collection looks at
}

// paceCollector begins it, for the whole process and for good. It is not for a process whose GOGC is set. A memory limit
// holds all the same.
func paceCollector() {
	newPacer().pace()
}

func newPacer() *pacer {
	return &pacer{live: []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}}
}

// pace sets what holds until the next collection, after which it is called again.
func (p *pacer) pace() {
	metrics.Read(p.live)
	live := uint64(0)
	for _, s := range p.live {
		live += s.Value.Uint64()
	}
	if percent := growth(live); percent != p.percent {
		debug.SetGCPercent(percent)
		p.percent = percent
	}
	runtime.AddCleanup(&struct{ _ *byte }{}, (*pacer).pace, p)
}

// growth is by how many percent a heap of live bytes may grow: never so little that a large one is collected all the time.
func growth(live uint64) int {
	const least, most = 25, 1000
	return int(min(most, max(least, headroom*100/max(live, 1))))
}
