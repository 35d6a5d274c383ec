package sessiond

import (
	"context"
	"time"
)

// A Store keeps records durably. What every store does the same way is done
// once, in [Manager]; a Store is only what differs.
//
// Consistency. All operations on one session are linearizable: each takes
// effect at one instant between its call and its return, and everything a
// method returns is durable. Nothing a store shows is taken back by a crash.
//
// Time. The store's clock alone decides what is live, within the step that
// reads or writes, and every result says at which time it was true. It never
// runs backwards and has milliseconds. An ended record never becomes live
// again, on any path.
//
// Outcomes. A write returns nil when it is durable, [ErrUnavailable] (wrapped)
// when it was certainly not applied, [ErrUnknown] (wrapped) when it may have
// been. Stores do not retry writes of which the outcome is unknown. A context
// that ends before the write was sent prevents it; after that the outcome is
// that of the write, or ErrUnknown.
//
// Stores are safe for concurrent use. They trust their caller: authorization
// and validation have happened above. After Close every method returns
// ErrUnavailable. Tenants whose name begins with - are the service's own:
// managers never show them.
type Store interface {
	// Create inserts the record of c with its event, stamped with the store's
	// time. It returns the new record; ErrExists, with the record that holds
	// the key, whatever its status; or ErrLimit.
	Create(ctx context.Context, c Creation) (Result, error)

	// Get returns the record of k as of Result.Now, ended if its deadline has
	// passed, or ErrNotFound.
	Get(ctx context.Context, k Key) (Result, error)

	// Update changes the live record of k in one atomic step. It calls fn with
	// the store's time and a copy of the record, which fn may change except for
	// Key, Incarnation and the creation; maps and slices are replaced, not
	// modified. The change takes effect only if the session is still live
	// and unchanged at that instant, so fn may run more than once. LastActiveAt
	// merges by maximum with touches that race.
	//
	// An error of fn is returned as it is and nothing is written. It returns
	// ErrNotFound, ErrEnded for a record that is not live, or ErrLimit. With
	// ErrEnded and errors of fn the result still carries the record.
	Update(ctx context.Context, k Key, fn func(now time.Time, r *Record) (Change, error)) (Result, error)

	// Touch records activity of the live session k at the time at, or at the
	// store's present when at is zero; a time in the future counts as the
	// present, one before the last activity changes nothing. If inc is not
	// zero, a record of another incarnation is ErrNotFound. Version and
	// UpdatedAt stay and there is no event. It returns the record,
	// ErrNotFound, or ErrEnded with the record.
	Touch(ctx context.Context, k Key, inc Incarnation, at time.Time) (Result, error)

	// Erase removes the record of k, live or ended, with the events that fn
	// returns for it. fn gets the record as it is stored: its deadline may have
	// passed without having been written down and told. An error of fn is
	// returned as it is and nothing is written. ErrNotFound when there is none.
	Erase(ctx context.Context, k Key, fn func(now time.Time, r *Record) ([]Event, error)) error

	// List returns a page of records by (CreatedAt, ID), newest first. See Query.
	List(ctx context.Context, q Query) (Page, error)

	// Scan returns up to limit records of all tenants whose key comes after a
	// key, ordered by tenant and ID, each brought up to date; fewer than limit
	// only at the end. The zero Key comes before all. It is for walks over
	// everything: records that exist throughout a walk are in it.
	Scan(ctx context.Context, after Key, limit int) ([]*Record, error)

	// Events returns events of q.Tenant after q.After, oldest first; those of
	// one session are in order of version. It waits until there is one, until
	// q.Wait has passed (an empty batch, no error), or until ctx ends. With an
	// empty q.After it returns at once with the position of the end of the feed.
	// A position that is malformed or no longer kept gives a batch with Reset
	// that goes on from the oldest event kept.
	Events(ctx context.Context, q EventQuery) (EventBatch, error)

	// Sweep does one bounded pass: it ends up to p.Limit records whose deadline
	// has passed, with their events, removes up to p.Limit records that ended
	// longer than p.Retention ago, and trims the feed. Among replicas one
	// sweeps at a time; the others return an empty result.
	Sweep(ctx context.Context, p SweepParams) (SweepResult, error)

	// Stats returns what a gauge wants to know, at a cost that does not depend
	// on the number of sessions.
	Stats(ctx context.Context) (Stats, error)

	// Close releases the store. Calls under way are finished first.
	Close() error
}

// A Result is a record and the time of the store at which it was so.
type Result struct {
	Record  *Record
	Now     time.Time
	Evicted int // sessions ended to keep the subject's limit
}

// A Creation is what Store.Create is to insert.
type Creation struct {
	// Record is complete but for its times, which the store sets with Start.
	// It must not be used again by the caller.
	Record    *Record
	Lifetime  time.Duration // from CreatedAt to ExpiresAt
	Imported  bool          // Record is live and has its times, from another store; Lifetime is not used
	Limit     SubjectLimit
	RequestID string
}

// Start stamps the record with the time of its creation, unless it was imported
// with its times, and returns its event.
func (c *Creation) Start(now time.Time) Event {
	r := c.Record
	if !c.Imported {
		r.CreatedAt, r.UpdatedAt, r.LastActiveAt = now, now, now
		r.ExpiresAt = now.Add(c.Lifetime)
	}
	e := r.Event(EventCreated, r.CreatedBy, c.RequestID)
	e.Time = now
	return e
}

// A SubjectLimit bounds the live sessions of the subject that a write adds a
// session to. It holds exactly, also under parallel writes.
type SubjectLimit struct {
	Max int // 0: no limit. Guests are not counted.
	// Evict ends the oldest live sessions of the subject by CreatedAt, with
	// reason EndLimit, to make room. Without it the write fails with ErrLimit.
	Evict     bool
	By        Actor  // ended the evicted
	RequestID string // of the evictions' events
}

// A Change is what an update function asks its store to commit together with
// the record.
type Change struct {
	Event *Event       // nil: the change is not told to anyone
	Limit SubjectLimit // applies when the update gave a guest session its subject
}

// A Query asks for one page of a tenant's sessions.
type Query struct {
	Tenant string
	Filter Filter
	After  *Cursor // only records that come after it, that is, older ones
	Limit  int     // largest number of records in the page
}

// Start is the place after which the page begins: After, or the place before
// all records that Filter.CreatedBefore lets through, whichever is later in
// the order.
func (q *Query) Start() Cursor {
	// No ID is as large as this one.
	start := Cursor{CreatedAt: time.UnixMilli(1 << 47).UTC(), ID: "\x7f"}
	if b := q.Filter.CreatedBefore; !b.IsZero() && b.Before(start.CreatedAt) {
		start.CreatedAt = b.Add(-time.Nanosecond).Truncate(time.Millisecond).UTC()
	}
	if q.After != nil && start.Before(*q.After) {
		start = *q.After
	}
	return start
}

// Done reports whether no record from place c on can be in the page, because
// Filter.CreatedAfter excludes it and all older ones.
func (q *Query) Done(c Cursor) bool {
	return !q.Filter.CreatedAfter.IsZero() && c.CreatedAt.Before(q.Filter.CreatedAfter)
}

// MaxScan is the largest number of records that a page looks at.
const MaxScan = 2000

// A Cursor is the place of a record in the order of lists.
type Cursor struct {
	CreatedAt time.Time
	ID        ID
}

// Before reports whether c comes before o in lists: newest first.
func (c Cursor) Before(o Cursor) bool {
	if !c.CreatedAt.Equal(o.CreatedAt) {
		return c.CreatedAt.After(o.CreatedAt)
	}
	return c.ID > o.ID
}

// Cursor is the place of r in lists.
func (r *Record) Cursor() Cursor { return Cursor{r.CreatedAt, r.ID} }

// A Page is the records that a query found, brought up to date for Now. Next
// is the place after which to look on; nil when there is nothing more. A page
// may be empty and still have a Next.
type Page struct {
	Records []*Record
	Next    *Cursor
	Now     time.Time
}

// An EventQuery asks for events of a tenant.
type EventQuery struct {
	Tenant string
	After  Position
	Limit  int           // largest number of events in the batch
	Wait   time.Duration // longest wait for the first
}

// SweepParams bound one pass of the sweeper.
type SweepParams struct {
	Limit          int
	Retention      time.Duration // how long ended records stay
	EventRetention time.Duration // how long events stay
	MaxEvents      int64         // how many events stay
}

// A SweepResult tells what one pass did.
type SweepResult struct {
	Idle, Absolute int           // records ended, by reason
	Removed        int           // records removed
	Trimmed        int           // events removed
	Backlog        int           // due now and not done; counting stops at 10,000
	Lag            time.Duration // age of the oldest deadline not acted on
	More           bool          // another pass would find work now
}

// Stats tell of a store as a whole.
type Stats struct {
	Active      map[string]int64 // sessions not written down as ended, by tenant; without zero counts
	DataKeys    map[uint32]int64 // records with sealed data, by Record.DataKey; without zero counts
	ClockOffset time.Duration    // how far the host's clock is ahead of the store's
	Now         time.Time
}
