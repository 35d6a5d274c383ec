package sessiond_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
)

// present shows a token as its holder does, and waits until the background
// work has done what follows from it.
func (e *env) present(token sessiond.Token, p sessiond.VerifyParams) {
	e.t.Helper()
	v, err := e.Verify(e.ctx, token, p)
	if err != nil || !v.Active {
		e.t.Fatalf("Verify: %+v, %v", v, err)
	}
	synctest.Wait()
}

func TestVerifyRecordsActivityDamped(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		idle, gap time.Duration
	}{
		{0, time.Minute},               // touch_interval alone
		{time.Hour, time.Minute},       // a twentieth would be three minutes
		{time.Minute, 3 * time.Second}, // a twentieth
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			defer e.run()()
			s, token := e.create(sessiond.CreateParams{ID: "s", IdleTimeout: &tt.idle})
			active := func(want time.Time, what string) {
				t.Helper()
				got := e.get("s")
				if !got.LastActiveAt.Equal(want) {
					t.Errorf("idle %v: last active %v after %s, want %v", tt.idle, got.LastActiveAt, what, want)
				}
				if got.Version != 1 || got.ETag != s.ETag || !got.UpdatedAt.Equal(s.UpdatedAt) {
					t.Errorf("idle %v: %s changed more than the activity: %+v", tt.idle, what, got)
				}
			}
			time.Sleep(tt.gap - ms)
			e.present(token, sessiond.VerifyParams{})
			active(s.CreatedAt, "a verify within the interval")
			time.Sleep(ms)
			e.present(token, sessiond.VerifyParams{NoTouch: true})
			active(s.CreatedAt, "a verify that is no activity")
			e.present(token, sessiond.VerifyParams{})
			active(s.CreatedAt.Add(tt.gap), "a verify after the interval")
			time.Sleep(ms)
			e.present(token, sessiond.VerifyParams{})
			active(s.CreatedAt.Add(tt.gap), "a verify soon after")
			if _, err := e.Touch(e.ctx, "s"); err != nil {
				t.Fatal(err)
			}
			active(s.CreatedAt.Add(tt.gap+ms), "an exact touch")
		})
	}
}

func TestReadsAreNotActivity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.TouchInterval = 0 }))
		defer e.run()()
		s, token := e.create(sessiond.CreateParams{ID: "s", Data: data(`{"a":1}`)})
		time.Sleep(time.Second)
		e.get("s")
		e.list(sessiond.ListParams{IncludeData: true})
		if _, err := e.patch("s", `{"data":{"a":2},"idle_timeout":600}`); err != nil {
			t.Fatal(err)
		}
		e.rotate("s", sessiond.RotateParams{Token: token})
		synctest.Wait()
		if got := e.get("s"); !got.LastActiveAt.Equal(s.CreatedAt) {
			t.Errorf("last active at %v, created at %v", got.LastActiveAt, s.CreatedAt)
		}
	})
}

// TestVerifyDoesNotWaitForTheTouch: a store that hangs or fails on touches
// neither delays nor fails the answer.
func TestVerifyDoesNotWaitForTheTouch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.run()()
		_, token := e.create(sessiond.CreateParams{ID: "s"})
		time.Sleep(time.Minute)
		e.store.Delay(faultstore.Touch, 10*time.Second)
		start := time.Now()
		for range 5 {
			e.present(token, sessiond.VerifyParams{})
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("five verifies took %v", d)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := e.store.Calls(faultstore.Touch); n != 1 {
			t.Errorf("%d touches for one session at a time", n)
		}
		if got := e.get("s").LastActiveAt; !got.Equal(start) {
			t.Errorf("last active %v, presented at %v", got, start)
		}
		e.store.Heal()
		e.store.FailNext(faultstore.Touch, faultstore.Refused)
		time.Sleep(time.Minute)
		e.present(token, sessiond.VerifyParams{}) // its touch fails
		e.present(token, sessiond.VerifyParams{}) // and is offered again
		if got := e.get("s").LastActiveAt; !got.Equal(time.Now()) {
			t.Errorf("last active %v, presented again at %v", got, time.Now())
		}
	})
}

// TestLateTouchRevivesNothing holds a touch back until its session has ended,
// was touched later, or was replaced by another of the same ID.
func TestLateTouchRevivesNothing(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(e *env){
		"revoked": func(e *env) { e.revoke("s", sessiond.RevokeParams{}) },
		"expired": func(*env) { time.Sleep(time.Hour) },
		"erased":  func(e *env) { e.revoke("s", sessiond.RevokeParams{Erase: true}) },
		"replaced": func(e *env) {
			e.revoke("s", sessiond.RevokeParams{Erase: true})
			e.create(sessiond.CreateParams{ID: "s"})
		},
		"newer": func(e *env) {
			time.Sleep(time.Second)
			if _, err := e.Touch(e.ctx, "s"); err != nil {
				e.t.Fatal(err)
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			defer e.run()()
			_, token := e.create(sessiond.CreateParams{ID: "s", ExpiresIn: new(time.Hour)})
			time.Sleep(time.Minute)
			held := e.store.Hold(faultstore.Touch)
			e.present(token, sessiond.VerifyParams{})
			select {
			case <-held.Arrived():
			default:
				t.Fatalf("%s: no touch is on its way", name)
			}
			meanwhile(e)
			time.Sleep(time.Second)
			from := e.position()
			before, errBefore := e.Get(e.ctx, "s")
			held.Release()
			synctest.Wait()
			after, errAfter := e.Get(e.ctx, "s")
			if fmt.Sprint(errBefore) != fmt.Sprint(errAfter) {
				t.Errorf("%s: %v before the touch, %v after it", name, errBefore, errAfter)
			}
			if before != nil && !before.LastActiveAt.Equal(after.LastActiveAt) {
				t.Errorf("%s: the touch moved the activity from %v to %v", name, before.LastActiveAt, after.LastActiveAt)
			}
			e.wantTypes(from)
		})
	}
}

// TestRunRecordsWhatIsLeft: a touch that is queued when Run ends is recorded
// before Run returns, unless the store takes longer than a second.
func TestRunRecordsWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		tokens := make([]sessiond.Token, 100)
		for i := range tokens {
			_, tokens[i] = e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("s", i))})
		}
		presentAll := func() time.Time {
			time.Sleep(time.Minute)
			for _, token := range tokens {
				e.present(token, sessiond.VerifyParams{})
			}
			return time.Now()
		}
		at := presentAll() // without Run the touches only wait
		stop := e.run()
		stop() // ends it before it has begun
		for i := range tokens {
			if got := e.get(sessiond.ID(fmt.Sprint("s", i))).LastActiveAt; !got.Equal(at) {
				t.Fatalf("session %d was last active %v, presented at %v", i, got, at)
			}
		}

		presentAll()
		e.store.Delay(faultstore.Touch, time.Hour)
		stop = e.run()
		start := time.Now()
		stop()
		if d := time.Since(start); d != time.Second {
			t.Errorf("Run took %v to end over a store that hangs", d)
		}
	})
}

// TestFullTouchQueueDrops: what does not fit is dropped, costs nothing but the
// touch, and is offered again by the next verify.
func TestFullTouchQueueDrops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const queue = 100
		e := newEnv(t)
		sessiond.LimitTouchQueue(e.Manager, queue)
		s, token := e.create(sessiond.CreateParams{ID: "last"})
		tokens := make([]sessiond.Token, queue)
		for i := range tokens {
			_, tokens[i] = e.create(sessiond.CreateParams{})
		}
		time.Sleep(time.Minute)
		for _, other := range tokens {
			if _, err := e.Verify(e.ctx, other, sessiond.VerifyParams{}); err != nil {
				t.Fatal(err)
			}
		}
		e.present(token, sessiond.VerifyParams{})
		defer e.run()()
		synctest.Wait()
		if n := e.store.Calls(faultstore.Touch); n != queue {
			t.Errorf("%d touches were recorded, the queue holds %d", n, queue)
		}
		if got := e.get("last").LastActiveAt; !got.Equal(s.CreatedAt) {
			t.Errorf("the touch that did not fit was recorded: %v", got)
		}
		e.present(token, sessiond.VerifyParams{})
		if got := e.get("last").LastActiveAt; !got.Equal(time.Now()) {
			t.Errorf("the touch was not offered again: %v", got)
		}
	})
}
