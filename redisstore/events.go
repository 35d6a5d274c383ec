package redisstore

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// Events implements [sessiond.Store]. The order of events of different sessions is that of
// the servers' clocks.
func (s *Store) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.EventBatch{}, err
	}
	defer s.end()
	deadline := time.NewTimer(q.Wait)
	defer deadline.Stop()
	h, err := s.probe(ctx)
	for waiting := q.Wait > 0; err == nil; {
		if q.After == "" {
			return sessiond.EventBatch{Position: h.end()}, nil
		}
		r := feedReader{s: s, h: h, q: q}
		batch, err := r.read(ctx)
		if err != nil || len(batch.Events) > 0 || batch.Reset || !waiting {
			return batch, err
		}
		q.After = batch.Position
		if h, err = s.feed.wait(ctx, s, h, deadline.C); err != nil {
			return sessiond.EventBatch{}, err
		}
		if h == nil {
			return batch, nil
		}
	}
	return sessiond.EventBatch{}, err
}

// end is the position of the end of the feed.
func (h *heads) end() sessiond.Position {
	var marks [partitions]mark
	for i := range marks {
		marks[i] = h.feeds[i].last
	}
	return formatPosition(h.epoch, &marks)
}

// probe reads how far the feeds of all partitions go.
func (s *Store) probe(ctx context.Context) (*heads, error) {
	own, cancel := context.WithTimeout(ctx, s.target.timeout)
	defer cancel()
	commands := make(valkey.Commands, 0, partitions+1)
	for i := range s.layout.sessions {
		commands = append(commands, s.client.B().Hmget().Key(s.layout.sessions[i].meta).Field("n", "c", "f", "fc").Build())
	}
	commands = append(commands, s.client.B().Hmget().Key(s.layout.meta).Field("epoch").Build())
	results := s.client.DoMulti(own, commands...)
	h := &heads{}
	for i := range h.feeds {
		fields, err := results[i].ToArray()
		if err != nil {
			return nil, s.readError(ctx, err)
		}
		if err := h.feeds[i].parse(fields); err != nil {
			return nil, unavailable(err)
		}
	}
	epoch, err := results[partitions].ToArray()
	if err != nil {
		return nil, s.readError(ctx, err)
	}
	if len(epoch) == 1 && !epoch[0].IsNil() {
		h.epoch, err = epoch[0].ToString()
		if err != nil || len(h.epoch) != 16 || strings.Trim(h.epoch, "0123456789abcdef") != "" {
			return nil, unavailable(corrupt("epoch of the feed"))
		}
		return h, nil
	}
	// The server has lost everything.
	if h.epoch, err = s.found(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// parse reads numbers and nonces of the last event and the last trimmed one.
func (f *feedHead) parse(fields []valkey.ValkeyMessage) error {
	if len(fields) != 4 {
		return corrupt("facts of a feed")
	}
	for i, m := range []*mark{&f.last, &f.trimmed} {
		if fields[2*i].IsNil() {
			continue
		}
		text, err := fields[2*i].ToString()
		nonce, err2 := fields[2*i+1].ToString()
		n, err3 := strconv.ParseUint(text, 10, 63)
		if err := errors.Join(err, err2, err3); err != nil {
			return corrupt("facts of a feed")
		}
		*m = mark{n, nonce}
	}
	if f.trimmed.n > f.last.n {
		return corrupt("a feed that was trimmed beyond its end")
	}
	return nil
}

// A logged is an entry of the feed.
type logged struct {
	mark
	us    int64 // the server's time in microseconds
	event sessiond.Event
}

// A feedReader reads one batch, up to the heads that it was given.
type feedReader struct {
	s     *Store
	h     *heads
	q     sessiond.EventQuery
	at    [partitions]mark     // what it has come to
	ahead [partitions][]logged // read and not taken
	batch sessiond.EventBatch
}

func (r *feedReader) read(ctx context.Context) (sessiond.EventBatch, error) {
	ok, err := r.begin(ctx)
	for try := 0; err == nil; {
		if !ok {
			if try++; try > 3 {
				return sessiond.EventBatch{}, unavailable(corrupt("the feed lacks events"))
			}
			if try > 1 { // trimmed since the heads were read
				if r.h, err = r.s.probe(ctx); err != nil {
					break
				}
			}
			r.reset()
			ok = true
		}
		for len(r.batch.Events) < r.q.Limit && r.take() {
		}
		if len(r.batch.Events) == r.q.Limit || r.done() {
			r.batch.Position = formatPosition(r.h.epoch, &r.at)
			return r.batch, nil
		}
		if ok, err = r.fill(ctx, false); err == nil && !ok && len(r.batch.Events) > 0 {
			// The next batch says that something is missing.
			r.batch.Position = formatPosition(r.h.epoch, &r.at)
			return r.batch, nil
		}
	}
	return sessiond.EventBatch{}, err
}

// reset goes on from the oldest event kept.
func (r *feedReader) reset() {
	r.batch.Reset = true
	for i := range r.at {
		r.at[i] = r.h.feeds[i].trimmed
		r.ahead[i] = nil
	}
}

// begin goes to the reader's position, and reports whether everything after it is there.
func (r *feedReader) begin(ctx context.Context) (bool, error) {
	v, ok := parsePosition(r.q.After, r.h.epoch)
	if !ok {
		return false, nil
	}
	for i, n := range v.n {
		f := &r.h.feeds[i]
		switch {
		case n < f.trimmed.n || n > f.last.n:
			return false, nil
		case n == f.last.n:
			r.at[i] = f.last
		case n == f.trimmed.n:
			r.at[i] = f.trimmed
		default:
			r.at[i] = mark{n: n} // its entry has the nonce
		}
	}
	ok, err := r.fill(ctx, true)
	return ok && sum(&r.at) == v.sum, err
}

// done reports whether everything up to the heads was taken.
func (r *feedReader) done() bool {
	for i := range r.at {
		if r.at[i].n < r.h.feeds[i].last.n {
			return false
		}
	}
	return true
}

// take moves on by one event, the oldest one that is ahead. It can't when a partition has more
// that was not read yet.
func (r *feedReader) take() bool {
	best := -1
	for i := range r.ahead {
		if len(r.ahead[i]) == 0 {
			if r.at[i].n < r.h.feeds[i].last.n {
				return false
			}
			continue
		}
		if best < 0 || r.ahead[i][0].us < r.ahead[best][0].us {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	e := r.ahead[best][0]
	r.ahead[best] = r.ahead[best][1:]
	r.at[best] = e.mark
	if e.event.Tenant == r.q.Tenant {
		r.batch.Events = append(r.batch.Events, e.event)
	}
	return true
}

// fill reads on in the partitions of which nothing is ahead. It reports whether what
// follows was there; it may have been trimmed since. At first it also reads the
// entry that the reader has come to, for its nonce.
func (r *feedReader) fill(ctx context.Context, first bool) (ok bool, err error) {
	var commands valkey.Commands
	var which []int
	count := int64(min(r.q.Limit, 1000)/8 + 8)
	for i := range r.at {
		if len(r.ahead[i]) > 0 || r.at[i].n == r.h.feeds[i].last.n {
			continue
		}
		from := r.at[i].n + 1
		if first && r.at[i].nonce == "" && r.at[i].n > 0 {
			from--
		}
		commands = append(commands, r.s.client.B().Xrange().Key(r.s.layout.sessions[i].events).
			Start(strconv.FormatUint(from, 10)).End(strconv.FormatUint(r.h.feeds[i].last.n, 10)).Count(count).Build())
		which = append(which, i)
	}
	if len(commands) == 0 {
		return true, nil
	}
	own, cancel := context.WithTimeout(ctx, r.s.target.timeout)
	defer cancel()
	for j, res := range r.s.client.DoMulti(own, commands...) {
		entries, err := res.AsXRange()
		if err != nil {
			return false, r.s.readError(ctx, err)
		}
		i := which[j]
		if ok, err := r.add(i, entries); !ok || err != nil {
			return ok, err
		}
	}
	return true, nil
}

// add takes entries of partition i in, and reports whether they are those that follow.
func (r *feedReader) add(i int, entries []valkey.XRangeEntry) (bool, error) {
	next := r.at[i].n + 1
	for _, entry := range entries {
		e, err := parseEntry(entry)
		if err != nil {
			return false, unavailable(err)
		}
		switch {
		case e.n == r.at[i].n && len(r.ahead[i]) == 0 && r.at[i].nonce == "":
			r.at[i].nonce = e.nonce
		case e.n == next:
			r.ahead[i] = append(r.ahead[i], e)
			next++
		default:
			return false, nil
		}
	}
	return len(r.ahead[i]) > 0 && (r.at[i].nonce != "" || r.at[i].n == 0), nil
}

func parseEntry(x valkey.XRangeEntry) (e logged, err error) {
	number, us, _ := strings.Cut(x.ID, "-")
	e.n, err = strconv.ParseUint(number, 10, 63)
	var err2, err3 error
	e.us, err2 = strconv.ParseInt(us, 10, 64)
	ms, err3 := strconv.ParseInt(x.FieldValues["t"], 10, 64)
	e.nonce = x.FieldValues["c"]
	if errors.Join(err, err2, err3) != nil || e.nonce == "" {
		return e, corrupt("entry of the feed")
	}
	e.event, err = decodeEvent(x.FieldValues["e"], fromMS(ms))
	return e, err
}
