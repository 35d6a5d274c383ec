package sessiond

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync"
	"time"
)

// ImportParams are how to import.
type ImportParams struct {
	// DryRun reads and checks everything, and tells what would become of it, but
	// writes nothing. Default false
	DryRun bool
	// Skip passes over that many lines, as ImportResult.Lines of an import that
	// ended early tells. Default 0
	Skip int64
	// AcceptOld takes an export that is older than Policy.Retention: a session that
	// has ended here since, and whose record is gone, may live again by it. Default
	// false
	AcceptOld bool
	// Header is called with the header of an export before anything is written; an
	// error that it returns ends the import. Default: none
	Header func(ExportHeader) error
	// Failed is called for each line that could not be imported, one call at a
	// time. The error names no data, token or hash. Default: none
	Failed func(line int64, err error)
	Report func(ImportResult) // called after every batch of lines, and at the end. Default: none
}

// An ExportHeader is the first line of an export.
type ExportHeader struct {
	ExportedAt time.Time // by the clock of the store it is from
	Source     string    // what ExportParams.Source said
	Sealed     bool      // data is sealed
	DataKeys   []uint32  // the keys that the data may be sealed with
}

// An ImportResult counts lines by what became of them.
type ImportResult struct {
	Lines   int64 // lines that are done, from the first one of the input
	Created int64 // sessions that are new here
	Updated int64 // sessions that were here, and are now as the input says
	Ended   int64 // sessions that ended, because the input says that they have
	Same    int64 // there was nothing to do
	Expired int64 // sessions whose deadline has passed, which were left out
	Kept    int64 // sessions that were changed later, or have ended, here: they stay as they are
	Failed  int64 // lines that could not be imported
}

// Import reads what [Manager.Export] has written. A session that is not here is
// created: with its id, incarnation (so that ETags go on matching), token,
// version, times and deadlines, whatever the policy says of new ones. Data is
// opened, so that a line that was moved to another session or made up is found
// out, and sealed again with the present key. The event is session.created.
//
// A session that is here already is changed if the input has a higher version of
// it and it was not changed here later than that; with the same version it gets
// the later activity. One that has ended here stays so, whatever the input says.
// An id that another session has fails. A session that was revoked in the other
// place ends, whatever has happened to it here.
//
// So an import can be repeated, in full or from any line on, also when it is not
// known how far it has come, and later exports of the same place bring what has
// changed there. They must come in their order. A session that is idle here
// meanwhile ends here: let less than the shortest idle timeout pass between two.
// That a session has ended here is known as long as its record is retained, so an
// export that is older than [Policy].Retention is refused unless
// ImportParams.AcceptOld is set. An erased session can be imported again.
//
// Lines that are wrong are counted, told to ImportParams.Failed and passed over.
// Another error ends the import, and so does an input that is not an export
// ([ErrInvalid]) or was cut off ([io.ErrUnexpectedEOF]; what is there has been
// imported then). Import trusts its input: whoever writes it makes sessions.
func (m *Manager) Import(ctx context.Context, r io.Reader, p ImportParams) (ImportResult, error) {
	i := importer{m: m, p: p}
	i.format = &exportReader{header: i.header}
	return i.run(ctx, r)
}

// header refuses an export that tells of sessions whose end may be forgotten here.
func (i *importer) header(h ExportHeader) error {
	if remembered := i.m.policy.Retention; !i.p.AcceptOld && i.now().Sub(h.ExportedAt) >= remembered {
		return fmt.Errorf("%w: the export is of %s, and ended sessions are remembered here for %v: one that has ended since "+
			"could live again", ErrInvalid, h.ExportedAt.Format(lineTime), remembered)
	}
	if i.p.Header != nil {
		return i.p.Header(h)
	}
	return nil
}

const (
	importBatch = 1000    // lines
	importBytes = 4 << 20 // of lines in a batch, and one more
	// maxLine is the longest line, in bytes: of 1 MiB of data, sealed and in base64.
	maxLine = 2 << 20
)

var errCut = fmt.Errorf("the input is cut off: %w", io.ErrUnexpectedEOF)

var errLongLine = fmt.Errorf("%w: longer than %d bytes", ErrMalformed, maxLine)

// A lineFormat knows how the lines of an input are to be read.
type lineFormat interface {
	// parse reads a line. The arrival is nil for a line without a session. fatal
	// ends the import.
	parse(line []byte, number int64, skip bool) (a arrival, err, fatal error)
	// end judges the end of the input after so many lines.
	end(lines int64) error
}

// An arrival is a session, or the end of one, that an import brings.
type arrival interface {
	key() Key
	// creation is the record to create, nil if none is to be: the arrival is an
	// end, or its deadline has passed.
	creation(m *Manager, now time.Time) (*Record, error)
	// absent is the outcome when creation is nil and there is no record here.
	absent() outcome
	// judge tells what is to become of the record that is here, which is up to date.
	judge(m *Manager, here *Record, now time.Time) (outcome, error)
	// apply makes the change that judge has called outcomeUpdated or outcomeEnded.
	apply(m *Manager, r *Record, now time.Time) error
	// activity is the last one, for outcomeTouched.
	activity() time.Time
}

type outcome int

const (
	outcomeSame outcome = iota
	outcomeCreated
	outcomeUpdated
	outcomeTouched
	outcomeEnded
	outcomeExpired
	outcomeKept
)

func (res *ImportResult) count(o outcome) {
	switch o {
	case outcomeSame:
		res.Same++
	case outcomeCreated:
		res.Created++
	case outcomeUpdated, outcomeTouched:
		res.Updated++
	case outcomeEnded:
		res.Ended++
	case outcomeExpired:
		res.Expired++
	case outcomeKept:
		res.Kept++
	}
}

// An importer is one import.
type importer struct {
	m      *Manager
	p      ImportParams
	format lineFormat

	began   time.Time // by the clock of this process
	storeAt time.Time // the store's time then
	seed    maphash.Seed

	mu  sync.Mutex // guards res and calls of p.Failed
	res ImportResult
}

// A numbered is an arrival and its line.
type numbered struct {
	line int64
	arrival
}

func (i *importer) run(ctx context.Context, r io.Reader) (ImportResult, error) {
	stats, err := i.m.store.Stats(ctx)
	if err != nil {
		return i.res, err
	}
	i.began, i.storeAt, i.seed = time.Now(), stats.Now, maphash.MakeSeed()
	lines := lineReader{r: bufio.NewReaderSize(r, 64<<10)}
	for {
		batch, last, fatal := i.read(ctx, &lines)
		if err := i.take(ctx, batch); err != nil {
			return i.res, err
		}
		if fatal == nil || errors.Is(fatal, io.ErrUnexpectedEOF) {
			i.res.Lines = lines.number
		}
		if i.p.Report != nil {
			i.p.Report(i.res)
		}
		if last || fatal != nil {
			return i.res, fatal
		}
	}
}

// read reads a batch of lines.
func (i *importer) read(ctx context.Context, lines *lineReader) (batch []numbered, last bool, fatal error) {
	size := 0
	for begin := lines.number; lines.number-begin < importBatch && size < importBytes; {
		if err := ctx.Err(); err != nil {
			return batch, true, err
		}
		line, err := lines.next()
		switch {
		case err == io.EOF:
			return batch, true, i.format.end(lines.number)
		case err == errLongLine:
			i.fail(lines.number, err)
			continue
		case err != nil:
			return batch, true, fmt.Errorf("read line %d: %w", lines.number+1, err)
		}
		size += len(line)
		skip := lines.number <= i.p.Skip
		a, err, fatal := i.format.parse(line, lines.number, skip)
		switch {
		case lines.cut && (err != nil || errors.Is(fatal, ErrMalformed)):
			lines.number-- // not done: the whole line may be there next time
			return batch, true, fmt.Errorf("%w within line %d", errCut, lines.number+1)
		case fatal != nil:
			return batch, true, fatal
		case skip:
		case err != nil:
			i.fail(lines.number, err)
		case a != nil:
			batch = append(batch, numbered{lines.number, a})
		}
	}
	return batch, false, nil
}

func (i *importer) fail(line int64, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.res.Failed++
	if i.p.Failed != nil {
		i.p.Failed(line, err)
	}
}

// take imports a batch, lines about one session in their order and others side
// by side, so that stores can commit them together.
func (i *importer) take(ctx context.Context, batch []numbered) error {
	var queues [eachWorkers][]numbered
	for _, n := range batch {
		q := &queues[maphash.Comparable(i.seed, n.key())%eachWorkers]
		*q = append(*q, n)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for _, q := range queues {
		if len(q) == 0 {
			continue
		}
		wg.Go(func() {
			for _, n := range q {
				if ctx.Err() != nil {
					return
				}
				if err := i.one(ctx, n); err != nil {
					stop(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// one imports a line. An error is one that ends the import.
func (i *importer) one(ctx context.Context, n numbered) error {
	o, err := i.settle(ctx, n.arrival)
	switch {
	case err == nil:
		i.mu.Lock()
		i.res.count(o)
		i.mu.Unlock()
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrSealed), errors.Is(err, ErrExists):
		i.fail(n.line, err)
	default:
		return fmt.Errorf("line %d: %w", n.line, err)
	}
	return nil
}

// settle does what the arrival asks for, and tells what that was.
func (i *importer) settle(ctx context.Context, a arrival) (outcome, error) {
	for {
		here, now, o, err := i.meet(ctx, a)
		if err != nil || here == nil {
			return o, err
		}
		if o, err = a.judge(i.m, here, now); err != nil || i.p.DryRun {
			return o, err
		}
		switch o {
		case outcomeTouched:
			_, err = i.m.store.Touch(ctx, here.Key, here.Incarnation, a.activity())
		case outcomeUpdated, outcomeEnded:
			o, err = i.change(ctx, a)
		default:
			return o, nil
		}
		// What was removed, or has ended, just now is looked at once more.
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrEnded) && !errors.Is(err, errAgain) {
			return o, err
		}
	}
}

// meet creates the session of a, or gets the record that is in its place. When
// there is none, o is what became of a.
func (i *importer) meet(ctx context.Context, a arrival) (here *Record, now time.Time, o outcome, err error) {
	r, err := a.creation(i.m, i.now())
	if err != nil {
		return nil, now, o, err
	}
	create := r != nil && !i.p.DryRun
	var res Result
	if create {
		res, err = i.m.store.Create(ctx, Creation{Record: r, Imported: true, RequestID: RequestID(ctx)})
	} else {
		res, err = i.m.store.Get(ctx, a.key())
	}
	switch {
	case create && err == nil, r != nil && errors.Is(err, ErrNotFound):
		return nil, now, outcomeCreated, nil
	case errors.Is(err, ErrNotFound):
		return nil, now, a.absent(), nil
	case err != nil && !errors.Is(err, ErrExists):
		return nil, now, o, err
	}
	return res.Record, res.Now, o, nil
}

// change makes the change that a asks for, if it still does.
func (i *importer) change(ctx context.Context, a arrival) (o outcome, err error) {
	_, err = i.m.store.Update(ctx, a.key(), func(now time.Time, r *Record) (Change, error) {
		var err error
		if o, err = a.judge(i.m, r, now); err != nil {
			return Change{}, err
		}
		if o != outcomeUpdated && o != outcomeEnded {
			return Change{}, errUnchanged
		}
		if err := a.apply(i.m, r, now); err != nil {
			return Change{}, err
		}
		var e Event
		switch {
		case !r.EndedAt.IsZero():
			e = r.EndEvent(RequestID(ctx))
		case !now.Before(r.Deadline()):
			r.Expire()
			o = outcomeEnded
			e = r.EndEvent(RequestID(ctx))
		default:
			e = r.Event(EventUpdated, i.m.by(), RequestID(ctx))
		}
		e.Time = now
		return Change{Event: &e}, nil
	})
	switch {
	case errors.Is(err, errUnchanged) && o == outcomeTouched:
		return o, errAgain
	case errors.Is(err, errUnchanged):
		return o, nil
	default:
		return o, err
	}
}

// errAgain: what was there has become something else meanwhile.
var errAgain = errors.New("once more")

// now is about the store's time. The store itself decides what is live.
func (i *importer) now() time.Time {
	return i.storeAt.Add(time.Since(i.began)).UTC().Truncate(time.Millisecond)
}

// A lineReader reads lines of bounded length.
type lineReader struct {
	r      *bufio.Reader
	number int64 // of the line that was read last
	cut    bool  // it has no newline
	buf    []byte
}

// next is the next line without its newline, valid until the next call. It is
// io.EOF after the last, and errLongLine, with nothing kept of it, for a line
// that is too long.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	long := false
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > maxLine+1 {
			long = true
			l.buf = l.buf[:0]
		} else {
			l.buf = append(l.buf, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(l.buf) == 0 && !long:
			return nil, io.EOF
		case err != nil && err != io.EOF:
			return nil, err
		}
		l.number++
		l.cut = err == io.EOF
		if long {
			return nil, errLongLine
		}
		return bytes.TrimSuffix(l.buf, []byte{'\n'}), nil
	}
}
