package storetest

import (
	"fmt"
	"sync"

	"sessiond.example/sessiond"
)

// listWhileWriting pages through a tenant while sessions come, change and go:
// nothing is shown twice and nothing that existed throughout is missed.
func listWhileWriting(t *tester) {
	const lasting = 60
	for i := range lasting {
		t.create(fmt.Sprintf("lasting-%d", i))
		t.create(fmt.Sprintf("doomed-%d", i))
		if i%3 == 0 {
			t.advance(ms)
		}
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() { t.churn(w, lasting, stop) })
	}
	defer writers.Wait()
	defer close(stop)
	for _, filter := range []sessiond.Filter{{}, {Subject: "alice"}, {ActiveOnly: true}, {}} {
		seen := make(map[sessiond.Incarnation]bool)
		found := 0
		for _, r := range t.pages(sessiond.Query{Filter: filter, Limit: 7}) {
			if seen[r.Incarnation] {
				t.Errorf("%s was shown twice", r.ID)
			}
			seen[r.Incarnation] = true
			if r.ID[0] == 'l' {
				found++
			}
		}
		if found != lasting {
			t.Errorf("filter %+v: %d of %d lasting sessions were shown", filter, found, lasting)
		}
	}
}

// churn is one writer until it is stopped: each round it creates, touches and revokes a session of
// its own, updates a lasting one and erases a doomed one, as long as there is one.
func (t *tester) churn(w, lasting int, stop <-chan struct{}) {
	for i := range 1500 {
		select {
		case <-stop:
			return
		default:
		}
		c := newCreation(fmt.Sprintf("new-%d-%d", w, i))
		k := c.Record.Key
		if _, err := t.store.Create(t.Context(), c); err != nil {
			t.Errorf("Create: %v", err)
			return
		}
		if i%2 == 0 {
			if _, err := t.store.Update(t.Context(), k, revoke("")); err != nil {
				t.Errorf("Update: %v", err)
			}
		}
		last := key(fmt.Sprintf("lasting-%d", i%lasting))
		if _, err := t.store.Update(t.Context(), last, bump()); err != nil {
			t.Errorf("Update: %v", err)
		}
		if i < lasting && i%3 == w {
			if err := t.store.Erase(t.Context(), key(fmt.Sprintf("doomed-%d", i)), eraseFunc); err != nil {
				t.Errorf("Erase: %v", err)
			}
		}
		if i%4 == 0 {
			if err := t.store.Erase(t.Context(), k, eraseFunc); err != nil {
				t.Errorf("Erase: %v", err)
			}
		}
		t.advance(ms)
	}
}
