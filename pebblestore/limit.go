package pebblestore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// lockSubject locks a subject, the stripe of k and the stripes of all sessions of
// the subject that are not written down as ended, and returns their keys, newest
// first. Until unlock nobody who keeps the limit adds a session to the subject.
func (s *Store) lockSubject(k sessiond.Key, subject string) (unlock func(), rivals []sessiond.Key, err error) {
	mu := s.subject(k.Tenant, subject)
	mu.Lock()
	rivals, err = s.rivals(k.Tenant, subject)
	if err != nil {
		mu.Unlock()
		return nil, nil, unavailable(err)
	}
	unlockStripes := s.lockAll(append([]sessiond.Key{k}, rivals...))
	return func() {
		unlockStripes()
		mu.Unlock()
	}, rivals, nil
}

func (s *Store) rivals(tenant, subject string) ([]sessiond.Key, error) {
	run := appendRun(nil, tenant, subject, classLive)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: run, UpperBound: after(run)})
	if err != nil {
		return nil, err
	}
	var keys []sessiond.Key
	for ok := it.First(); ok; ok = it.Next() {
		c, err := parsePlace(it.Key()[len(run):])
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		keys = append(keys, sessiond.Key{Tenant: tenant, ID: c.ID})
	}
	return keys, errors.Join(it.Error(), it.Close())
}

// makeRoom ends the oldest live rivals until one more session fits. It moves the
// time of the transaction on.
func (t *tx) makeRoom(rivals []sessiond.Key, limit sessiond.SubjectLimit) (evicted int, err error) {
	victims, err := t.surplus(rivals, limit.Max-1)
	if err != nil || len(victims) == 0 {
		return 0, err
	}
	if !limit.Evict {
		return 0, sessiond.ErrLimit
	}
	// Nobody may be told that one of them is live at a time after its end.
	for _, v := range victims {
		t.s.cache.remove(v.hash)
	}
	t.now = t.s.now()
	if victims, err = t.surplus(rivals, limit.Max-1); err != nil {
		return 0, err
	}
	for _, v := range victims {
		r := *v.rec
		r.End(t.now, sessiond.EndLimit, "", limit.By)
		t.put(v.hash, &v.state, &r)
		e := r.EndEvent(limit.RequestID)
		t.event(&e)
	}
	return len(victims), nil
}

type rival struct {
	state
	hash uint64
}

// surplus are the live sessions among the rivals but for the newest.
func (t *tx) surplus(rivals []sessiond.Key, newest int) ([]rival, error) {
	var found []rival
	for _, k := range rivals {
		hash := t.s.hash(k)
		cur, err := t.s.load(hash, k, readState)
		if err != nil {
			return nil, unavailable(err)
		}
		if cur.rec == nil || !cur.rec.Live(t.now) {
			continue
		}
		if newest > 0 {
			newest--
			continue
		}
		found = append(found, rival{cur.state, hash})
	}
	return found, nil
}
