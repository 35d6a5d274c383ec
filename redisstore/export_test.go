package redisstore

import (
	"context"
	"errors"

	"sessiond.example/sessiond"
)

// WithClock makes the store's scripts take the time, in milliseconds, from now instead of
// from the server.
func (o *Options) WithClock(now func() int64) *Options {
	o.shift = func() shift { return shift{ms: now(), given: true} }
	return o
}

// Target is what a URL says.
type Target struct {
	Kind             int
	Addrs            []string
	Master           string
	User, Password   string
	DB               int
	TLS              bool
	SentinelUser     string
	SentinelPassword string
	Prefix           string
	Timeout, Wait    string
	Replicas         int
	AOF              bool
}

func ParseURL(url string) (Target, error) {
	t, err := parseURL(url)
	if err != nil {
		return Target{}, err
	}
	return Target{
		int(t.kind), t.addrs, t.master, t.user, t.password, t.db, t.tls, t.sentinelUser, t.sentinelPassword, t.prefix,
		t.timeout.String(), t.patience().String(), t.replicas, t.aof,
	}, nil
}

// FormatPosition makes a position of numbers and nonces.
func FormatPosition(epoch string, n uint64, nonce string) sessiond.Position {
	var marks [partitions]mark
	for i := range marks {
		marks[i] = mark{n, nonce}
	}
	return formatPosition(epoch, &marks)
}

// ParsePosition returns the first number and the sum.
func ParsePosition(p sessiond.Position, epoch string) (n, sum uint64, ok bool) {
	v, ok := parsePosition(p, epoch)
	return v.n[0], v.sum, ok
}

// GetAround is Get with something done between the two commands that it sends together. It
// reports whether Get would look again.
func (s *Store) GetAround(ctx context.Context, k sessiond.Key, between func()) (res sessiond.Result, again bool, err error) {
	p, t := s.layout.partition(k), s.shift()
	server, err := s.client.Do(ctx, s.client.B().Time().Build()).ToMessage()
	if err != nil {
		return res, false, err
	}
	between()
	values, err := s.client.Do(ctx, s.client.B().Mget().Key(p.clock, p.record(k)).Build()).ToArray()
	if err != nil {
		return res, false, err
	}
	v, err := parseView(t, server, values)
	if err != nil {
		return res, false, err
	}
	st, err := v.record(k)
	res.Now = v.now
	if err == nil {
		res.Record = st.rec.At(v.now)
	}
	return res, v.doubtful(st), err
}

// Tag is what the keys of a session begin with.
func (s *Store) Tag(k sessiond.Key) string { return s.layout.partition(k).tag }

// SubjectKeys are the keys of the index of a subject.
func (s *Store) SubjectKeys(tenant, subject string) (pending, live, ended string) {
	k := s.layout.subject(tenant, subject)
	return k.pending, k.live, k.ended
}

// PendingEntry is the pending entry of a record.
func PendingEntry(r *sessiond.Record) string { return pendingEntry(r.Incarnation, r.ID) }

// Spot is the entry of a record among the live or the ended ones.
func Spot(r *sessiond.Record) string { return spot(r) }

// Meta is the key of the facts about the store.
func (s *Store) Meta() string { return s.layout.meta }

// Lease is the key of the sweeper's lease.
func (s *Store) Lease() string { return s.layout.lease }

// CreateWithStamp is Create when its entry in the subject index has been made at a time.
func (s *Store) CreateWithStamp(ctx context.Context, c *sessiond.Creation, stamp string) error {
	_, err := s.create(ctx, c, stamp)
	return err
}

// IsStale reports whether an entry in the subject index was too old.
func IsStale(err error) bool { return errors.Is(err, errStale) }

// SetWaitAOF makes writes wait for disks.
func (s *Store) SetWaitAOF() { s.target.aof = true }
