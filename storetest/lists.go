package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

// lists is order, filters and paging.
var lists = []test{
	{"order", listOrder},
	{"pages", listPages},
	{"records", listRecords},
	{"tenant", listTenant},
	{"subject", listSubject},
	{"status", listStatus},
	{"status-interleaved", listInterleaved},
	{"labels", listLabels},
	{"created", listCreated},
	{"expires", listExpires},
	{"cursor-erased", listCursorErased},
	{"cursor-anywhere", listCursorAnywhere},
	{"max-scan", listMaxScan},
	{"moving", listMoving},
	{"while-writing", listWhileWriting},
}

func (t *tester) page(q sessiond.Query) sessiond.Page {
	t.Helper()
	if q.Tenant == "" {
		q.Tenant = tenant
	}
	page, err := t.store.List(t.Context(), q)
	if err != nil {
		t.Fatalf("List(%+v): %v", q, err)
	}
	if len(page.Records) > q.Limit {
		t.Fatalf("List: %d records in a page with limit %d", len(page.Records), q.Limit)
	}
	for _, r := range page.Records {
		t.checkTimes(r)
	}
	return page
}

// pages reads all pages from q on.
func (t *tester) pages(q sessiond.Query) (records []*sessiond.Record) {
	t.Helper()
	for range 100_000 {
		page := t.page(q)
		records = append(records, page.Records...)
		if page.Next == nil {
			return records
		}
		if q.After != nil && !q.After.Before(*page.Next) {
			t.Fatalf("Next is %v, which is not after the cursor %v", *page.Next, *q.After)
		}
		q.After = page.Next
	}
	t.Fatal("paging does not end")
	return nil
}

func ids(records []*sessiond.Record) (ids []string) {
	for _, r := range records {
		ids = append(ids, string(r.ID))
	}
	return ids
}

// wantList reads with several page sizes and wants these sessions in this order.
func (t *tester) wantList(what string, f sessiond.Filter, want ...string) {
	t.Helper()
	for _, limit := range []int{1, 2, 1000} {
		got := ids(t.pages(sessiond.Query{Filter: f, Limit: limit}))
		if diff := difference(want, got); diff != "" {
			t.Errorf("%s, limit %d (-want +got):\n%s", what, limit, diff)
		}
	}
}

func listOrder(t *tester) {
	t.spaced([]string{"b", "c"})
	t.spaced([]string{"a"})
	t.wantList("newest first", sessiond.Filter{}, "a", "c", "b")
	// Of the same millisecond or not: by creation, then ID.
	var all []*sessiond.Record
	for _, id := range []string{"m", "Z", "k.1", "k-1", "k", "k_1", "k~1", "9"} {
		all = append(all, t.create(id, inTenant("tied")).Record)
	}
	slices.SortFunc(all, func(a, b *sessiond.Record) int {
		if a.Cursor().Before(b.Cursor()) {
			return -1
		}
		return 1
	})
	for limit := 1; limit <= len(all)+1; limit++ {
		got := t.pages(sessiond.Query{Tenant: "tied", Limit: limit})
		if diff := difference(ids(all), ids(got)); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

func listPages(t *tester) {
	if page := t.page(sessiond.Query{Limit: 3}); len(page.Records) != 0 || page.Next != nil {
		t.Errorf("page of an empty tenant: %+v", page)
	}
	t.spaced([]string{"s1", "s2", "s3", "s4", "s5", "s6"})
	first := t.page(sessiond.Query{Limit: 3})
	if len(first.Records) != 3 || first.Next == nil {
		t.Fatalf("first page has %d records, Next %v", len(first.Records), first.Next)
	}
	second := t.page(sessiond.Query{Limit: 3, After: first.Next})
	if len(second.Records) != 3 || second.Next != nil {
		t.Errorf("last page has %d records, Next %v, want 3 and nil", len(second.Records), second.Next)
	}
	if first.Now.After(second.Now) || first.Now.Before(first.Records[0].CreatedAt) {
		t.Errorf("pages are of %v and %v", first.Now, second.Now)
	}
}

func listRecords(t *tester) {
	t.create("s1", idle(10*mins))
	t.create("s2", lifetime(mins))
	t.create("s3")
	t.update(key("s3"), revoke("stolen"))
	t.advance(2 * mins)
	t.touch(key("s1"))
	for range 2 { // before and after the sweeper has seen s2
		records := t.pages(sessiond.Query{Limit: 2})
		if len(records) != 3 {
			t.Fatalf("%d records", len(records))
		}
		for _, r := range records {
			t.same("record in a list", r, t.get(r.Key).Record)
		}
		t.sweep(keepAll())
	}
}

func listTenant(t *tester) {
	for _, name := range []string{"acme", "acm", "acme-1", "acme1", "b", "a"} {
		t.create("in-"+name, inTenant(name))
		t.create("x", inTenant(name), subject("bob"))
		t.advance(ms)
	}
	for _, name := range []string{"acme", "acm", "acme-1", "acme1", "b", "a"} {
		got := ids(t.pages(sessiond.Query{Tenant: name, Limit: 1}))
		slices.Sort(got)
		if diff := difference([]string{"in-" + name, "x"}, got); diff != "" {
			t.Errorf("tenant %s (-want +got):\n%s", name, diff)
		}
		got = ids(t.pages(sessiond.Query{Tenant: name, Filter: sessiond.Filter{Subject: "alice"}, Limit: 1}))
		if diff := difference([]string{"in-" + name}, got); diff != "" {
			t.Errorf("subject in tenant %s (-want +got):\n%s", name, diff)
		}
	}
}

func listSubject(t *tester) {
	t.spaced([]string{"s1", "s3"})
	t.spaced([]string{"g1"}, subject(""))
	t.spaced([]string{"s2", "s4"}, subject("bob"))
	t.wantList("alice", sessiond.Filter{Subject: "alice"}, "s3", "s1")
	t.wantList("bob", sessiond.Filter{Subject: "bob"}, "s4", "s2")
	t.wantList("nobody", sessiond.Filter{Subject: "carol"})
	t.wantList("everyone", sessiond.Filter{}, "s4", "s2", "g1", "s3", "s1")
	t.update(key("s3"), revoke(""))
	t.wantList("alice with an ended one", sessiond.Filter{Subject: "alice"}, "s3", "s1")
}

func listStatus(t *tester) {
	t.spaced([]string{"live"})
	t.spaced([]string{"absolute"}, lifetime(5*mins))
	t.spaced([]string{"idle"}, idle(5*mins))
	t.spaced([]string{"revoked"}, lifetime(5*mins))
	t.update(key("revoked"), revoke(""))
	t.advance(6 * mins)
	check := func() {
		t.Helper()
		t.wantList("active", sessiond.Filter{Status: sessiond.StatusActive}, "live")
		t.wantList("active only", sessiond.Filter{ActiveOnly: true}, "live")
		t.wantList("active only of the subject", sessiond.Filter{ActiveOnly: true, Subject: "alice"}, "live")
		t.wantList("expired", sessiond.Filter{Status: sessiond.StatusExpired}, "idle", "absolute")
		t.wantList("revoked", sessiond.Filter{Status: sessiond.StatusRevoked}, "revoked")
		t.wantList("revoked and active", sessiond.Filter{Status: sessiond.StatusRevoked, ActiveOnly: true})
		t.wantList("all", sessiond.Filter{}, "revoked", "idle", "absolute", "live")
	}
	check()
	t.sweep(keepAll())
	check()
}

// listInterleaved has live and ended sessions take turns in the order.
func listInterleaved(t *tester) {
	var all, live, ended []string
	for i := range 9 {
		id := fmt.Sprintf("s%d", i)
		t.spaced([]string{id})
		all = append([]string{id}, all...)
		if i%2 == 0 {
			t.update(key(id), revoke(""))
			ended = append([]string{id}, ended...)
		} else {
			live = append([]string{id}, live...)
		}
	}
	t.wantList("all", sessiond.Filter{}, all...)
	t.wantList("all of the subject", sessiond.Filter{Subject: "alice"}, all...)
	t.wantList("active", sessiond.Filter{ActiveOnly: true}, live...)
	t.wantList("revoked", sessiond.Filter{Status: sessiond.StatusRevoked}, ended...)
}

func listLabels(t *tester) {
	t.spaced([]string{"s1"}, labels("device", "phone", "os", "a"))
	t.spaced([]string{"s2"}, labels("device", "phone", "os", "b"))
	t.spaced([]string{"s3"}, labels("device", "Phone"))
	t.spaced([]string{"s4"}, labels("device", ""))
	t.spaced([]string{"s5"}, labels())
	by := func(kv ...string) sessiond.Filter {
		c := newCreation("", labels(kv...))
		return sessiond.Filter{Labels: c.Record.Labels}
	}
	t.wantList("one label", by("device", "phone"), "s2", "s1")
	t.wantList("two labels", by("device", "phone", "os", "a"), "s1")
	t.wantList("case", by("device", "Phone"), "s3")
	t.wantList("empty value", by("device", ""), "s4")
	t.wantList("unknown key", by("os2", "a"))
	t.update(key("s1"), change(func(r *sessiond.Record) { r.Labels = map[string]string{"os": "b"} }))
	t.wantList("after an update", by("os", "b"), "s2", "s1")
	t.wantList("after an update, old label", by("device", "phone"), "s2")
}

func listCreated(t *tester) {
	records := t.spaced([]string{"s1", "s2", "s3", "s4"})
	at := records[1].CreatedAt
	east := time.FixedZone("east", 3600)
	t.wantList("from s2", sessiond.Filter{CreatedAfter: at}, "s4", "s3", "s2")
	t.wantList("from s2 in another zone", sessiond.Filter{CreatedAfter: at.In(east)}, "s4", "s3", "s2")
	t.wantList("just after s2", sessiond.Filter{CreatedAfter: at.Add(1)}, "s4", "s3")
	t.wantList("a millisecond after s2", sessiond.Filter{CreatedAfter: at.Add(ms)}, "s4", "s3")
	t.wantList("before s2", sessiond.Filter{CreatedBefore: at}, "s1")
	t.wantList("just up to s2", sessiond.Filter{CreatedBefore: at.Add(1)}, "s2", "s1")
	t.wantList("up to s2", sessiond.Filter{CreatedBefore: at.Add(ms)}, "s2", "s1")
	t.wantList("s2 to s3", sessiond.Filter{
		Subject: "alice", CreatedAfter: at, CreatedBefore: records[3].CreatedAt,
	}, "s3", "s2")
	t.wantList("nothing", sessiond.Filter{CreatedAfter: at, CreatedBefore: at})
	t.wantList("long ago", sessiond.Filter{CreatedBefore: time.Unix(0, 0)})
	t.wantList("ever", sessiond.Filter{CreatedAfter: time.Unix(0, 0), CreatedBefore: at.AddDate(5000, 0, 0)},
		"s4", "s3", "s2", "s1")
}

func listExpires(t *tester) {
	records := t.spaced([]string{"s1", "s2"}, lifetime(hour))
	t.spaced([]string{"s3"}, idle(mins))
	at := records[1].ExpiresAt
	t.wantList("the earlier deadline counts", sessiond.Filter{ExpiresBefore: records[0].ExpiresAt}, "s3")
	t.wantList("before s2", sessiond.Filter{ExpiresBefore: at}, "s3", "s1")
	t.wantList("just up to s2", sessiond.Filter{ExpiresBefore: at.Add(1)}, "s3", "s2", "s1")
	t.advance(30 * sec)
	touched := t.touch(key("s3")).Record
	t.wantList("a touch moves it", sessiond.Filter{ExpiresBefore: touched.Deadline()})
	t.wantList("to its new deadline", sessiond.Filter{ExpiresBefore: touched.Deadline().Add(ms)}, "s3")
}

func listCursorErased(t *tester) {
	t.spaced([]string{"s1", "s2", "s3", "s4", "s5"})
	page := t.page(sessiond.Query{Limit: 2})
	if page.Next == nil {
		t.Fatal("no Next")
	}
	for _, id := range []string{"s4", "s3"} {
		t.erase(key(id))
		got := ids(t.pages(sessiond.Query{Limit: 2, After: page.Next}))
		want := []string{"s3", "s2", "s1"}
		if id == "s3" {
			want = want[1:]
		}
		if diff := difference(want, got); diff != "" {
			t.Errorf("after the erase of %s (-want +got):\n%s", id, diff)
		}
	}
}

// listCursorAnywhere begins at places where no record is or ever was.
func listCursorAnywhere(t *tester) {
	records := t.spaced([]string{"s1", "s3", "s5"})
	at := records[1].CreatedAt
	for _, tt := range []struct {
		after sessiond.Cursor
		want  []string
	}{
		{sessiond.Cursor{CreatedAt: at, ID: "s4"}, []string{"s3", "s1"}},
		{sessiond.Cursor{CreatedAt: at, ID: "s3"}, []string{"s1"}},
		{sessiond.Cursor{CreatedAt: at, ID: "s2"}, []string{"s1"}},
		{sessiond.Cursor{CreatedAt: at.Add(ms), ID: "0"}, []string{"s3", "s1"}},
		{sessiond.Cursor{CreatedAt: at.Add(1000 * hour), ID: "s3"}, []string{"s5", "s3", "s1"}},
		{sessiond.Cursor{CreatedAt: time.Unix(0, 0).UTC(), ID: "s3"}, nil},
		{sessiond.Cursor{CreatedAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), ID: "zz"},
			[]string{"s5", "s3", "s1"}},
	} {
		for _, subject := range []string{"", "alice"} {
			f := sessiond.Filter{Subject: subject}
			got := ids(t.pages(sessiond.Query{Filter: f, After: &tt.after, Limit: 2}))
			if diff := difference(tt.want, got); diff != "" {
				t.Errorf("after %v, subject %q (-want +got):\n%s", tt.after, subject, diff)
			}
		}
	}
}

// listMaxScan looks for one old session behind more others than a page looks at.
func listMaxScan(t *tester) {
	t.create("needle", labels("wanted", "yes"), subject("carol"))
	t.advance(sec)
	const others = sessiond.MaxScan + 100
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			for i := w; i < others; i += 50 {
				c := newCreation(fmt.Sprintf("s%04d", i))
				if _, err := t.store.Create(t.Context(), c); err != nil {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	q := sessiond.Query{Filter: sessiond.Filter{Labels: map[string]string{"wanted": "yes"}}, Limit: 1000}
	if got := ids(t.pages(q)); !slices.Equal(got, []string{"needle"}) {
		t.Errorf("found %v", got)
	}
	for pages := 1; ; pages++ {
		page := t.page(q)
		if q.After = page.Next; q.After == nil {
			break
		}
		if pages == 3 {
			t.Errorf("more than 3 pages for %d records", others+1)
			break
		}
	}
	page := t.page(sessiond.Query{Filter: sessiond.Filter{Subject: "carol"}, Limit: 1000})
	if len(page.Records) != 1 {
		t.Error("the list of a subject looks at the sessions of others")
	}
	if got := len(t.pages(sessiond.Query{Limit: 1000})); got != others+1 {
		t.Errorf("a list without filter has %d records, want %d", got, others+1)
	}
}

// listMoving changes the status of sessions between the pages of a list.
func listMoving(t *tester) {
	t.spaced([]string{"s1", "s2", "s3", "s4", "s5", "s6"})
	q := sessiond.Query{Limit: 1}
	var got []string
	for _, id := range []string{"s6", "s4", "s2"} {
		for range 2 {
			page := t.page(q)
			got = append(got, ids(page.Records)...)
			q.After = page.Next
		}
		if id != "s2" {
			t.update(key(id), revoke(""))
		}
	}
	if want := []string{"s6", "s5", "s4", "s3", "s2", "s1"}; !slices.Equal(got, want) {
		t.Errorf("pages: %v, want %v", got, want)
	}
}
