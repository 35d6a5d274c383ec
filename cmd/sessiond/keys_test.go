package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/keyset"
)

// A stubborn administrator stands for a server that reads another keyset file.
type stubborn struct {
	administrator
	use   keyUse
	asked int
	after func(asked int, use *keyUse)
}

func (s *stubborn) running() bool                          { return true }
func (s *stubborn) keyUse(context.Context) (keyUse, error) { return s.use, nil }
func (s *stubborn) reload(ctx context.Context) (u keyUse, _ error) {
	s.asked++
	if s.after != nil {
		s.after(s.asked, &s.use)
	}
	return s.use, nil
}

func TestPromoteWaitsForTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stubborn{use: keyUse{Primary: 1, Keys: []keyStatus{{ID: 1, Status: keyset.Enabled}, {ID: 3, Status: keyset.Disabled}}}}
		for _, id := range []uint32{2, 3} {
			began := time.Now()
			err := waitForKey(t.Context(), s, id)
			if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("key %d: %v", id, err)
			}
			if waited := time.Since(began); waited < loadPatience || waited > loadPatience+time.Second {
				t.Errorf("waited %v", waited)
			}
		}
		s.asked = 0
		s.after = func(asked int, use *keyUse) {
			if asked == 5 {
				use.Keys = append(use.Keys, keyStatus{ID: 2, Status: keyset.Enabled})
			}
		}
		if err := waitForKey(t.Context(), s, 2); err != nil || s.asked != 5 {
			t.Errorf("%v after %d questions", err, s.asked)
		}
	})
}

func TestRetireAsksTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stubborn{use: keyUse{Primary: 1, Keys: []keyStatus{{ID: 1, Status: keyset.Enabled}, {ID: 2, Status: keyset.Enabled, Records: 7}}}}
		for id, want := range map[uint32]string{1: "still seals with key 1", 2: "7 records need key 2"} {
			if err := unneeded(t.Context(), s, id); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("key %d: %v", id, err)
			}
		}
		if err := unneeded(t.Context(), s, 3); err != nil {
			t.Error(err)
		}
	})
}
