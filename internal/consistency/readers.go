package consistency

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

// A Lap is what a reader of the feed got without resuming elsewhere.
type Lap struct {
	Reader string
	// Start says where it began: at the beginning of the run or, with Source, after
	// the first Skip events of that lap. Neither: at the end of the feed, as it was
	// between Call and Return.
	Beginning    bool
	Source       int // number of the lap whose position was taken; -1: none
	Skip         int
	Call, Return int64
	Batches      []Batch
	Events       []sessiond.Event
	Final        bool   // read until the event that ends the run, and nothing more came
	Err          string `json:",omitempty"` // why it broke off
}

// A Batch is one answer of the feed.
type Batch struct {
	Call, Return int64
	Events       int // of Lap.Events, those up to and with this batch
	Reset        bool
	Position     sessiond.Position
}

// readers follow the feed while clients work.
type readers struct {
	run     *run
	closing chan struct{} // closed before the last event is made
	end     chan struct{} // closed when it was made
	marker  string        // its request ID; set before end is closed

	mu   sync.Mutex
	laps []*Lap
}

// begin makes the first reader's lap, before any client works.
func (f *readers) begin(ctx context.Context) (*Lap, error) {
	lap := &Lap{Reader: "first", Beginning: true, Source: -1}
	if err := f.join(ctx, 0, lap); err != nil {
		return nil, err
	}
	f.add(lap)
	return lap, nil
}

func (f *readers) add(lap *Lap) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.laps = append(f.laps, lap)
	return len(f.laps) - 1
}

// join begins a lap at the end of the feed.
func (f *readers) join(ctx context.Context, replica int, lap *Lap) error {
	for {
		lap.Call = f.run.clock()
		b, err := f.run.stores[replica].Events(ctx, sessiond.EventQuery{Tenant: sessiond.DefaultTenant, Limit: 100})
		lap.Return = f.run.clock()
		if err == nil {
			lap.Batches = append(lap.Batches, Batch{Call: lap.Call, Return: lap.Return, Position: b.Position})
			return nil
		}
		if !pause(ctx, retryPause) {
			return err
		}
	}
}

const retryPause = 5 * time.Millisecond

// pause waits, or reports that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow reads on until the run has ended, or until leave says so after a batch.
// A switching reader asks the replicas in turn.
func (f *readers) follow(ctx context.Context, lap *Lap, rng *rand.Rand, replica int, switching bool, leave func() bool) {
	after := f.last(lap).Position
	ended, seen := false, false
	for {
		if switching {
			replica = rng.IntN(2)
		}
		q := sessiond.EventQuery{
			Tenant: sessiond.DefaultTenant, After: after, Limit: 1 + rng.IntN(200), Wait: 50 * time.Millisecond,
		}
		if rng.IntN(4) == 0 {
			q.Limit = 1 + rng.IntN(3)
		}
		b := Batch{Call: f.run.clock()}
		got, err := f.run.stores[replica].Events(ctx, q)
		b.Return = f.run.clock()
		if err != nil {
			if !errors.Is(err, sessiond.ErrUnavailable) || !pause(ctx, retryPause) {
				lap.Err = err.Error()
				return
			}
			continue
		}
		after = got.Position
		f.mu.Lock()
		lap.Events = append(lap.Events, got.Events...)
		b.Events, b.Reset, b.Position = len(lap.Events), got.Reset, got.Position
		lap.Batches = append(lap.Batches, b)
		f.mu.Unlock()
		if !ended {
			select {
			case <-f.end:
				ended = true
				seen = f.hasMarker(lap.Events) || f.skipped(lap)
			default:
			}
		} else {
			seen = seen || f.hasMarker(got.Events)
		}
		if ended && seen && len(got.Events) == 0 {
			lap.Final = true
			return
		}
		if !ended && leave != nil && leave() {
			return
		}
	}
}

func (f *readers) hasMarker(events []sessiond.Event) bool {
	for i := range events {
		if events[i].RequestID == f.marker {
			return true
		}
	}
	return false
}

// skipped reports whether the last event is among those that the lap has left out.
func (f *readers) skipped(lap *Lap) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return lap.Source >= 0 && f.hasMarker(f.laps[lap.Source].Events[:lap.Skip])
}

func (f *readers) last(lap *Lap) Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return lap.Batches[len(lap.Batches)-1]
}

// resume begins laps at positions that the first reader has passed, over and
// over, each on a random replica.
func (f *readers) resume(ctx context.Context, first *Lap, rng *rand.Rand) {
	for {
		lap := &Lap{Reader: "resuming", Source: 0, Call: f.run.clock()}
		f.mu.Lock()
		// Not from too far back: each lap has to catch up.
		recent := first.Batches
		if rng.IntN(8) > 0 {
			recent = recent[max(0, len(recent)-200):]
		}
		from := recent[rng.IntN(len(recent))]
		f.mu.Unlock()
		lap.Skip = from.Events
		lap.Batches = append(lap.Batches, Batch{Call: lap.Call, Return: lap.Call, Position: from.Position})
		lap.Return = lap.Call
		f.add(lap)
		leaveAt := time.Now().Add(time.Duration(50+rng.IntN(500)) * time.Millisecond)
		f.follow(ctx, lap, rng, rng.IntN(2), rng.IntN(2) == 0, func() bool { return time.Now().After(leaveAt) })
		if lap.Final || lap.Err != "" {
			return
		}
	}
}

// late begins one lap at the end of the feed when the run is under way.
func (f *readers) late(ctx context.Context, rng *rand.Rand, after time.Duration) {
	wait := time.NewTimer(after)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-f.closing: // the run was shorter
		return
	case <-ctx.Done():
		return
	}
	lap := &Lap{Reader: "late", Source: -1}
	if err := f.join(ctx, 1, lap); err != nil {
		return
	}
	select {
	case <-f.closing:
		return // too late, perhaps, to be told of the end
	default:
	}
	f.add(lap)
	f.follow(ctx, lap, rng, 1, false, nil)
}
