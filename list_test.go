package sessiond_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
)

func ids(sessions []*sessiond.Session) string {
	var all []string
	for _, s := range sessions {
		all = append(all, string(s.ID))
	}
	return strings.Join(all, " ")
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		start := time.Now()
		for i, p := range []sessiond.CreateParams{
			{ID: "a0", Subject: "alice", Labels: map[string]string{"k": "v"}},
			{ID: "a1", Subject: "alice", Labels: map[string]string{"k": "w", "l": "x"}, ExpiresIn: new(10 * time.Second)},
			{ID: "b0", Subject: "bob", Labels: map[string]string{"k": "v", "l": "x"}},
			{ID: "g0", IdleTimeout: new(20 * time.Second), Data: data(`{"a":1}`)},
			{ID: "a2", Subject: "Alice"},
		} {
			e.create(p)
			time.Sleep(time.Second)
			if i == 2 {
				e.revoke("b0", sessiond.RevokeParams{})
			}
		}
		time.Sleep(6 * time.Second) // 11 s after the start: a1 ends
		label := func(kv ...string) sessiond.Filter {
			f := sessiond.Filter{Labels: map[string]string{}}
			for i := 0; i < len(kv); i += 2 {
				f.Labels[kv[i]] = kv[i+1]
			}
			return f
		}
		at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
		for _, tt := range []struct {
			f    sessiond.Filter
			want string
		}{
			{sessiond.Filter{}, "a2 g0 b0 a1 a0"},
			{sessiond.Filter{Subject: "alice"}, "a1 a0"},
			{sessiond.Filter{Subject: "nobody"}, ""},
			{sessiond.Filter{Status: sessiond.StatusActive}, "a2 g0 a0"},
			{sessiond.Filter{ActiveOnly: true}, "a2 g0 a0"},
			{sessiond.Filter{Status: sessiond.StatusExpired}, "a1"},
			{sessiond.Filter{Status: sessiond.StatusRevoked}, "b0"},
			{sessiond.Filter{Status: sessiond.StatusRevoked, ActiveOnly: true}, ""},
			{label("k", "v"), "b0 a0"},
			{label("k", "v", "l", "x"), "b0"},
			{label("k", ""), ""},
			{sessiond.Filter{CreatedAfter: at(1), CreatedBefore: at(3)}, "b0 a1"},
			{sessiond.Filter{CreatedAfter: at(1).Add(ms / 2), CreatedBefore: at(3).Add(ms / 2)}, "g0 b0"},
			{sessiond.Filter{CreatedAfter: at(3), CreatedBefore: at(3)}, ""},
			{sessiond.Filter{ExpiresBefore: at(23), ActiveOnly: true}, ""},
			{sessiond.Filter{ExpiresBefore: at(23).Add(ms), ActiveOnly: true}, "g0"},
			{sessiond.Filter{ExpiresBefore: at(11)}, ""},
			{sessiond.Filter{ExpiresBefore: at(11).Add(ms)}, "a1"},
		} {
			for _, limit := range []int{0, 1, 2, sessiond.MaxLimit} {
				if got := ids(e.list(sessiond.ListParams{Filter: tt.f, Limit: limit})); got != tt.want {
					t.Errorf("%+v by %d: %q, want %q", tt.f, limit, got, tt.want)
				}
			}
		}
		for _, include := range []bool{false, true} {
			for _, s := range e.list(sessiond.ListParams{IncludeData: include}) {
				want := "{}"
				switch {
				case !include || s.Status != sessiond.StatusActive:
					want = ""
				case s.ID == "g0":
					want = `{"a":1}`
				}
				if string(s.Data) != want || s.ETag != "" {
					t.Errorf("include %t: %s has data %s, ETag %s", include, s.ID, s.Data, s.ETag)
				}
			}
		}
	})
}

func TestListBounds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, tt := range []struct {
		p       sessiond.ListParams
		pointer string
	}{
		{sessiond.ListParams{Limit: -1}, "/limit"}, {sessiond.ListParams{Limit: sessiond.MaxLimit + 1}, "/limit"},
		{sessiond.ListParams{Limit: sessiond.MaxLimitData + 1, IncludeData: true}, "/limit"},
		{sessiond.ListParams{Filter: sessiond.Filter{Subject: "\x00"}}, "/subject"},
		{sessiond.ListParams{Filter: sessiond.Filter{Status: "live"}}, "/status"},
		{sessiond.ListParams{Filter: sessiond.Filter{Labels: map[string]string{"K": ""}}}, "/labels"},
		{sessiond.ListParams{Filter: sessiond.Filter{Labels: manyLabels(17)}}, "/labels"},
	} {
		_, err := e.List(e.ctx, tt.p)
		wantInvalid(t, fmt.Sprintf("%+v", tt.p), err, tt.pointer)
	}
	for range sessiond.DefaultLimit + 1 {
		e.create(sessiond.CreateParams{})
	}
	page, err := e.List(e.ctx, sessiond.ListParams{})
	if err != nil || len(page.Sessions) != sessiond.DefaultLimit || page.NextCursor == "" {
		t.Errorf("%d sessions, %v", len(page.Sessions), err)
	}
}

func TestCursorsBelongToTheirFilter(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	f := sessiond.Filter{Subject: "alice", Labels: map[string]string{"k": "v"}}
	for range 3 {
		e.create(sessiond.CreateParams{Subject: "alice", Labels: map[string]string{"k": "v"}})
	}
	page, err := e.List(e.ctx, sessiond.ListParams{Filter: f, Limit: 1})
	if err != nil || page.NextCursor == "" {
		t.Fatal(err)
	}
	good := page.NextCursor
	// The size of the page is not part of the question.
	next, err := e.List(e.ctx, sessiond.ListParams{Filter: f, Limit: 5, Cursor: good})
	if err != nil || len(next.Sessions) != 2 {
		t.Errorf("%+v, %v", next, err)
	}
	for name, other := range map[string]sessiond.Filter{
		"none": {}, "subject": {Subject: "bob", Labels: f.Labels}, "no label": {Subject: "alice"},
		"label":  {Subject: "alice", Labels: map[string]string{"k": "w"}},
		"more":   {Subject: "alice", Labels: map[string]string{"k": "v", "l": ""}},
		"status": {Subject: "alice", Labels: f.Labels, Status: sessiond.StatusActive},
		"active": {Subject: "alice", Labels: f.Labels, ActiveOnly: true},
		"after":  {Subject: "alice", Labels: f.Labels, CreatedAfter: time.UnixMilli(1)},
		"before": {Subject: "alice", Labels: f.Labels, CreatedBefore: time.UnixMilli(1)},
		"expiry": {Subject: "alice", Labels: f.Labels, ExpiresBefore: time.UnixMilli(1)},
	} {
		_, err := e.List(e.ctx, sessiond.ListParams{Filter: other, Cursor: good})
		wantErr(t, "cursor of another filter: "+name, err, sessiond.ErrCursor)
	}
	_, err = e.as("other", sessiond.Actor{}).List(e.ctx, sessiond.ListParams{Filter: f, Cursor: good})
	wantErr(t, "cursor of another tenant", err, sessiond.ErrCursor)

	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	change := func(i int, b byte) string {
		c := slices.Clone(raw)
		c[i] = b
		return base64.RawURLEncoding.EncodeToString(c)
	}
	for name, bad := range map[string]string{
		"text": "next", "space": " " + good, "padding": good + "=", "newline": good + "\n", "long": strings.Repeat("A", 300),
		"version": change(0, 9), "hash": change(1, raw[1]^1), "time": change(9, 0xff), "id": change(len(raw)-1, '/'),
		"cut": good[:len(good)/2], "no id": base64.RawURLEncoding.EncodeToString(raw[:17]),
	} {
		_, err := e.List(e.ctx, sessiond.ListParams{Filter: f, Cursor: bad})
		wantErr(t, "cursor with bad "+name, err, sessiond.ErrCursor)
	}
}

// TestPagingUnderChange pages while sessions come and go: nothing is shown
// twice and nothing is missed that existed throughout.
func TestPagingUnderChange(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	stays := map[sessiond.ID]bool{}
	for i := range 200 {
		s, _ := e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("stay-", i))})
		stays[s.ID] = true
		e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("goes-", i))})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			select {
			case <-stop:
				return
			default:
			}
			e.create(sessiond.CreateParams{})
			e.revoke(sessiond.ID(fmt.Sprint("goes-", i)), sessiond.RevokeParams{Erase: i%2 == 0})
			if _, err := e.patch(sessiond.ID(fmt.Sprint("stay-", i)), `{"labels":{"a":"b"}}`); err != nil {
				t.Error(err)
			}
		}
	})
	seen := map[sessiond.ID]bool{}
	for _, s := range e.list(sessiond.ListParams{Limit: 7}) {
		if seen[s.ID] {
			t.Errorf("%s twice", s.ID)
		}
		seen[s.ID] = true
	}
	close(stop)
	wg.Wait()
	for id := range stays {
		if !seen[id] {
			t.Errorf("%s is missed", id)
		}
	}
}
