package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sessiond.example/sessiond"
)

// A Statement is one that stores run, for tests of its plan.
type Statement struct {
	Name, Text string
	Params     []string
}

// Statements are those whose cost must not depend on the number of sessions.
func Statements() (all []Statement) {
	list := []*statement{
		getSQL, relookSQL, updateSQL, touchSQL, eraseSQL, roomSQL, evictSQL, expireSQL, removeSQL, trimSQL,
		lookSQL, scanSQL, eventsSQL, newsSQL, foldSQL, forgetSQL,
	}
	for _, st := range listSQL {
		list = append(list, st)
	}
	for _, st := range list {
		all = append(all, Statement{st.name, st.text, st.pars})
	}
	return all
}

// Pooled reports whether the store works as behind a pooler.
func (s *Store) Pooled() bool { return s.pooled }

// WriteError and ReadError map errors of the driver.
func WriteError(sent bool, err error) error { return writeError("test", sent, err) }
func ReadError(err error) error             { return readError("test", err) }

// Acquire takes a connection from the pool.
func (s *Store) Acquire(ctx context.Context) (*pgxpool.Conn, error) { return s.pool.Acquire(ctx) }

// Reparse is a position that was parsed and written again.
func Reparse(p sessiond.Position) (again sessiond.Position, ok bool) {
	parsed, ok := parsePlace(p)
	if !ok {
		return "", false
	}
	return parsed.position(), true
}

// LongestPosition is a position with as many running transactions as fit.
func LongestPosition() sessiond.Position {
	s := snapshot{xmax: 1 << 60}
	for i := range uint64(5000) {
		s.running = append(s.running, 1<<59+i<<40)
	}
	s = s.upTo(1 << 59 << 1)
	p := place{seen: s, until: s, open: true, last: 1 << 61}
	return p.position()
}

// Facts make a guarantee.
func GuaranteeOf(standby bool, settings map[string]string, standbys, hidden, confirming int) sessiond.Guarantee {
	f := facts{standby, settings, standbys, hidden, confirming}
	return f.guarantee()
}

// Status tells of the schema in the database of url.
func Status(ctx context.Context, url string) (schemaStatus, error) {
	c, err := connect(ctx, url)
	if err != nil {
		return schemaStatus{}, err
	}
	defer closeConn(c)
	return readStatus(ctx, c)
}

// Reads puts reads that wait together into groups, over any server.
type Reads struct{ r reads }

// Bounds of reads.
const (
	MaxFlights = maxFlights
	MaxGroup   = maxGroup
	LateFlight = lateFlight
)

// NewReads reads groups with a function that gives the record of each key.
func NewReads(read func(keys []sessiond.Key) ([]*sessiond.Record, error)) *Reads {
	return &Reads{reads{read: func(keys []sessiond.Key) ([]answer, time.Time, error) {
		records, err := read(keys)
		answers := make([]answer, len(records))
		for i := range records {
			answers[i].rec = records[i]
		}
		return answers, time.Time{}, err
	}}}
}

// Get reads one record.
func (r *Reads) Get(ctx context.Context, k sessiond.Key) (*sessiond.Record, error) {
	one, _, err := r.r.get(ctx, k)
	return one.rec, err
}

// Wait returns when nothing is under way.
func (r *Reads) Wait() { r.r.wait() }

// ReadLabels reads a column of labels.
func ReadLabels(text string) (map[string]string, error) {
	r := row{values: [][]byte{append([]byte{1}, text...)}}
	labels := r.labels()
	return labels, r.end()
}

// PutArgs puts arguments of a statement whose parameters are tenant and id.
func PutArgs(names ...string) {
	a := (&statement{name: "test", pars: []string{"tenant", "id"}}).args()
	for _, name := range names {
		a.text(name, "")
	}
	a.list()
}
