package faultmatrix

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sessiond.example/sessiond"
)

// A state is everything that the observer sees of a scene's tenant.
type state struct {
	Records map[sessiond.ID]*sessiond.Record
	Events  []sessiond.Event
	// Unswept are the sessions whose expiry nobody has written down.
	Unswept map[sessiond.ID]bool
}

// settleTime is how long a tenant may take until everything about it agrees: a
// write of unknown outcome may be under way still.
const settleTime = 3 * time.Second

// settled reads the state of the tenant when it agrees with itself.
func (c *scene) settled() *state {
	c.Helper()
	deadline := time.Now().Add(settleTime)
	for {
		s, err := c.read()
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s: what is there does not agree: %v", c.op.name, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// read reads records, lists, counters and events and compares them.
func (c *scene) read() (*state, error) {
	s := &state{Records: make(map[sessiond.ID]*sessiond.Record), Unswept: make(map[sessiond.ID]bool)}
	all, err := c.list(sessiond.Filter{})
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		s.Records[r.ID] = r
	}
	if s.Events, err = c.events(); err != nil {
		return nil, err
	}
	for _, check := range []func(*state) error{c.checkGets, c.checkLists, c.checkScan, c.checkEvents, c.checkStats} {
		if err := check(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c *scene) list(f sessiond.Filter) ([]*sessiond.Record, error) {
	page, err := c.watch.List(c.Context(), sessiond.Query{Tenant: c.tenant, Filter: f, Limit: 100})
	if err == nil && page.Next != nil {
		err = errors.New("the list does not end")
	}
	return page.Records, err
}

func (c *scene) events() ([]sessiond.Event, error) {
	var all []sessiond.Event
	after := c.feed
	for {
		q := sessiond.EventQuery{Tenant: c.tenant, After: after, Limit: 100}
		batch, err := c.watch.Events(c.Context(), q)
		if err != nil {
			return nil, err
		}
		if batch.Reset {
			return nil, errors.New("the feed begins anew")
		}
		all = append(all, batch.Events...)
		if len(batch.Events) == 0 {
			return all, nil
		}
		after = batch.Position
	}
}

// checkGets holds lists to single reads.
func (c *scene) checkGets(s *state) error {
	for _, id := range []sessiond.ID{first, fresh} {
		res, err := c.watch.Get(c.Context(), c.key(id))
		if errors.Is(err, sessiond.ErrNotFound) {
			res.Record, err = nil, nil
		}
		if err != nil {
			return err
		}
		if diff := difference(s.Records[id], res.Record); diff != "" {
			return fmt.Errorf("list and get of %s differ (-list +get):\n%s", id, diff)
		}
	}
	return nil
}

// checkLists holds the lists by status and by subject to the whole list.
func (c *scene) checkLists(s *state) error {
	for _, f := range []sessiond.Filter{
		{ActiveOnly: true}, {Subject: subject}, {Subject: otherSubject}, {Subject: subject, ActiveOnly: true},
		{Subject: otherSubject, ActiveOnly: true},
	} {
		found, err := c.list(f)
		if err != nil {
			return err
		}
		got := make(map[sessiond.ID]*sessiond.Record)
		for _, r := range found {
			got[r.ID] = r
		}
		want := maps.Clone(s.Records)
		maps.DeleteFunc(want, func(_ sessiond.ID, r *sessiond.Record) bool { return !f.Match(r) })
		if diff := difference(want, got); diff != "" {
			return fmt.Errorf("the list of %+v differs from the list of all (-all +filtered):\n%s", f, diff)
		}
	}
	return nil
}

// checkScan holds the walk over everything to the list.
func (c *scene) checkScan(s *state) error {
	found, err := c.watch.Scan(c.Context(), sessiond.Key{Tenant: c.tenant}, 100)
	if err != nil {
		return err
	}
	got := make(map[sessiond.ID]*sessiond.Record)
	for _, r := range found {
		if r.Tenant == c.tenant {
			got[r.ID] = r
		}
	}
	if diff := difference(s.Records, got); diff != "" {
		return fmt.Errorf("list and scan differ (-list +scan):\n%s", diff)
	}
	return nil
}

// checkEvents wants one event for every version of every session.
func (c *scene) checkEvents(s *state) error {
	versions := make(map[sessiond.ID]int64)
	erased := make(map[sessiond.ID]bool)
	for _, e := range s.Events {
		if e.Version != versions[e.SessionID]+1 {
			return fmt.Errorf("after version %d of %s comes an event for version %d",
				versions[e.SessionID], e.SessionID, e.Version)
		}
		versions[e.SessionID] = e.Version
		erased[e.SessionID] = e.Type == sessiond.EventErased
	}
	for id, r := range s.Records {
		told := versions[id]
		if r.EndReason.Expiry() && told == r.Version-1 {
			s.Unswept[id] = true
			told++
		}
		if told != r.Version || erased[id] {
			return fmt.Errorf("%s has version %d, the last event is of version %d", id, r.Version, told)
		}
	}
	for id, version := range versions {
		if s.Records[id] == nil && !erased[id] {
			return fmt.Errorf("there is no %s, and the last event is of version %d", id, version)
		}
	}
	return nil
}

// checkStats holds the counters to the list.
func (c *scene) checkStats(s *state) error {
	stats, err := c.watch.Stats(c.Context())
	if err != nil {
		return err
	}
	var active, sealed int64
	for id, r := range s.Records {
		if r.EndedAt.IsZero() || s.Unswept[id] {
			active++
		}
		if r.DataKey != 0 {
			sealed++
		}
	}
	if got := stats.Active[c.tenant]; got != active {
		return fmt.Errorf("the counter of active sessions is %d, there are %d", got, active)
	}
	if got := stats.DataKeys[c.dataKey]; got != sealed {
		return fmt.Errorf("the counter of the data key is %d, there are %d", got, sealed)
	}
	return nil
}

// difference is how got differs from want; empty when they are equal. Nil and
// empty maps and slices are the same.
func difference(want, got any) string {
	if reflect.DeepEqual(want, got) { // much faster
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

// difference is how s differs from an earlier state.
func (s *state) difference(before *state) string { return difference(before, s) }

// types are the types of the events of a session since a state, in order.
func (s *state) types(before *state, id sessiond.ID) []sessiond.EventType {
	var types []sessiond.EventType
	for _, e := range s.Events[min(len(before.Events), len(s.Events)):] {
		if e.SessionID == id {
			types = append(types, e.Type)
		}
	}
	return types
}

// told wants exactly these events of a session since a state.
func (s *state) told(before *state, id sessiond.ID, want ...sessiond.EventType) error {
	if got := s.types(before, id); !slices.Equal(got, want) {
		return fmt.Errorf("the events of %s are %q, not %q", id, got, want)
	}
	return nil
}
