package storetest

import (
	"fmt"
	"slices"
	"time"

	"sessiond.example/sessiond"
)

// scans are walks over all records.
var scans = []test{
	{"order", scanOrder},
	{"ended", scanEnded},
	{"empty", scanEmpty},
	{"changing", scanChanging},
	{"data-keys", dataKeys},
}

// walk scans to the end in steps of limit.
func (t *tester) walk(limit int) []*sessiond.Record {
	t.Helper()
	var all []*sessiond.Record
	var after sessiond.Key
	for {
		records, err := t.store.Scan(t.Context(), after, limit)
		if err != nil || len(records) > limit {
			t.Fatalf("Scan after %v: %d records, %v", after, len(records), err)
		}
		for _, r := range records {
			if r.Key == after {
				t.Fatalf("Scan after %v has it again", after) // and would for ever
			}
		}
		all = append(all, records...)
		if len(records) < limit {
			return all
		}
		after = records[limit-1].Key
	}
}

// scanOrder has tenants and IDs that begin like others, and steps that end
// inside and between tenants.
func scanOrder(t *tester) {
	want := []sessiond.Key{
		{Tenant: "a", ID: "A"}, {Tenant: "a", ID: "a"}, {Tenant: "a", ID: "a-b"}, {Tenant: "a", ID: "ab"},
		{Tenant: "a-b", ID: "0"}, {Tenant: "ab", ID: "0"}, {Tenant: "b", ID: "z"}, {Tenant: "b", ID: "z~"},
	}
	for _, i := range []int{5, 2, 7, 0, 3, 6, 1, 4} {
		t.create(string(want[i].ID), inTenant(want[i].Tenant))
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []sessiond.Key
		for _, r := range t.walk(limit) {
			got = append(got, r.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("in steps of %d: got %v, want %v", limit, got, want)
		}
	}
}

// scanEnded shows every record as it stands, swept or not, with its activity.
func scanEnded(t *tester) {
	t.create("live")
	t.create("overdue", lifetime(mins))
	t.create("revoked")
	t.advance(sec)
	t.touch(key("live"))
	t.update(key("revoked"), revoke(""))
	t.advance(2 * mins)
	for _, when := range []string{"before", "after"} {
		records := t.walk(10)
		if len(records) != 3 {
			t.Errorf("%s the sweep there are %d records, want 3", when, len(records))
		}
		for _, r := range records {
			t.same("Scan "+when+" the sweep of "+string(r.ID), r, t.get(r.Key).Record)
		}
		t.sweep(keepAll())
	}
}

func scanEmpty(t *tester) {
	if got := t.walk(10); len(got) != 0 {
		t.Errorf("an empty store has %d records", len(got))
	}
	t.create("s1")
	t.erase(key("s1"))
	if got := t.walk(10); len(got) != 0 {
		t.Errorf("a store has %d records after the erase of its only one", len(got))
	}
}

// scanChanging walks while sessions come, change and go: what exists throughout
// is seen once.
func scanChanging(t *tester) {
	const n = 30
	for i := range n {
		t.create(fmt.Sprintf("s%02d", i))
	}
	seen := make(map[sessiond.ID]int)
	var after sessiond.Key
	for i := 0; ; i++ {
		records, err := t.store.Scan(t.Context(), after, 4)
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		for _, r := range records {
			seen[r.ID]++
		}
		if len(records) < 4 {
			break
		}
		after = records[3].Key
		t.create(fmt.Sprintf("t%02d", i))
		t.update(key(fmt.Sprintf("s%02d", i)), bump())
		t.update(key(fmt.Sprintf("s%02d", n-1-i)), revoke(""))
		t.create(fmt.Sprintf("r%02d", i))
		t.erase(key(fmt.Sprintf("r%02d", i)))
	}
	for i := range n {
		if id := sessiond.ID(fmt.Sprintf("s%02d", i)); seen[id] != 1 {
			t.Errorf("%s was seen %d times", id, seen[id])
		}
	}
}

// dataKeys follows the counts of records by the key that sealed their data.
func dataKeys(t *tester) {
	want := func(seven, eight int64) {
		t.Helper()
		got := t.stats().DataKeys
		if got[7] != seven || got[8] != eight {
			t.Errorf("Stats.DataKeys = %v, want %d with key 7 and %d with key 8", got, seven, eight)
		}
	}
	want(0, 0)
	for i := range 4 {
		t.create(fmt.Sprintf("s%d", i), lifetime(hour))
	}
	t.create("s0", inTenant("other"))
	want(5, 0)
	t.update(key("s0"), func(_ time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.Data, r.DataKey = []byte("sealed anew"), 8
		return sessiond.Change{}, nil
	})
	t.touch(key("s0"))
	want(4, 1)
	t.update(key("s1"), revoke(""))
	want(3, 1)
	t.update(key("s2"), func(_ time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.Data, r.DataKey = nil, 0
		return sessiond.Change{}, nil
	})
	want(2, 1)
	t.erase(key("s0"))
	want(2, 0)
	t.advance(2 * hour)
	t.sweep(keepAll())
	want(0, 0)
	if got := t.stats().DataKeys; len(got) != 0 {
		t.Errorf("Stats.DataKeys has zero counts: %v", got)
	}
}
