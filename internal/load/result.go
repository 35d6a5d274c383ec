package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result is what a [Load] gave. Requests belong to it that were due while it
// was measured.
type Result struct {
	Elapsed time.Duration // the measured time
	// Succeeded counts the answers with a status of 2xx that came in that time.
	Succeeded int64
	Total     int64           // answers of all requests, those of the warm-up too
	Statuses  map[int]*Status // the answers, by status
	Failed    int64           // requests that were sent, or tried to, and not answered
	Failure   error           // of the first of them
	// Unsent counts requests that were due and not sent because no connection was
	// free: given up beyond the backlog, or still waiting a second after the end. 0
	// in a closed loop.
	Unsent  int64
	Backlog int64     // the most requests that ever waited for a connection
	Windows []*Window // one for each Load.Window
}

// A Status is the answers with one status.
type Status struct {
	Count   int64
	Latency *hdrhistogram.Histogram // microseconds from when the request was due
	Service *hdrhistogram.Histogram // microseconds from when it was sent
}

// A Window is the successful requests that were due in one part of the time.
type Window struct {
	Latency *hdrhistogram.Histogram // microseconds, to two digits
}

// Rate is how many successful answers came a second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Succeeded) / r.Elapsed.Seconds()
}

// Latency merges the latencies of the successful answers.
func (r *Result) Latency() *hdrhistogram.Histogram {
	all := newHistogram()
	for status, s := range r.Statuses {
		if success(status) {
			all.Merge(s.Latency)
		}
	}
	return all
}

// Count is the number of answers with a status.
func (r *Result) Count(status int) int64 {
	if s := r.Statuses[status]; s != nil {
		return s.Count
	}
	return 0
}

func success(status int) bool { return status >= 200 && status <= 299 }

// longest is the longest latency that is told apart, in microseconds.
const longest = 120_000_000

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, 3) }

func newWindow() *Window { return &Window{hdrhistogram.New(1, longest, 2)} }

// Merge is one window of several.
func Merge(windows []*Window) *Window {
	all := newWindow()
	for _, w := range windows {
		all.Latency.Merge(w.Latency)
	}
	return all
}

func recordIn(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), longest)) // which is in range
}

// maxShards bounds how many shards there are: histograms are large.
const maxShards = 8

// A shard records the answers of some connections.
type shard struct {
	mu       sync.Mutex
	run      *run
	total    int64
	inTime   int64 // successful answers in the measured time
	statuses map[int]*Status
	failed   int64
	failure  error
	windows  []*Window
}

func (s *shard) init(r *run) {
	s.run, s.statuses = r, make(map[int]*Status)
	if r.Window > 0 {
		for range int((r.Duration + r.Window - 1) / r.Window) {
			s.windows = append(s.windows, newWindow())
		}
	}
}

// An answer is what became of a request.
type answer struct {
	due, sent, came time.Time
	status          int
	err             error
}

func (s *shard) record(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	measured := !a.due.Before(s.run.start)
	if a.err != nil {
		if measured {
			s.failed++
		}
		if s.failure == nil {
			s.failure = a.err
		}
		return
	}
	s.total++
	if success(a.status) && !a.came.Before(s.run.start) && !a.came.After(s.run.end) {
		s.inTime++
	}
	if !measured {
		return
	}
	st := s.statuses[a.status]
	if st == nil {
		st = &Status{Latency: newHistogram(), Service: newHistogram()}
		s.statuses[a.status] = st
	}
	st.Count++
	recordIn(st.Latency, a.came.Sub(a.due))
	recordIn(st.Service, a.came.Sub(a.sent))
	if s.windows != nil && success(a.status) {
		recordIn(s.windows[a.due.Sub(s.run.start)/s.run.Window].Latency, a.came.Sub(a.due))
	}
}

// result merges the shards.
func (r *run) result(elapsed time.Duration) *Result {
	res := &Result{
		Elapsed: elapsed, Statuses: make(map[int]*Status), Unsent: r.unsent.Load(), Backlog: r.maxBacklog.Load(),
	}
	for i := range r.shards {
		s := &r.shards[i]
		res.Total += s.total
		res.Succeeded += s.inTime
		res.Failed += s.failed
		if res.Failure == nil {
			res.Failure = s.failure
		}
		for status, from := range s.statuses {
			to := res.Statuses[status]
			if to == nil {
				res.Statuses[status] = from
				continue
			}
			to.Count += from.Count
			to.Latency.Merge(from.Latency)
			to.Service.Merge(from.Service)
		}
		for n, from := range s.windows {
			if len(res.Windows) <= n {
				res.Windows = append(res.Windows, newWindow())
			}
			res.Windows[n].Latency.Merge(from.Latency)
		}
	}
	return res
}
