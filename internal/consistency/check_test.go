package consistency_test

import (
	"strings"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
)

const second = 1000 // ms of the store, whose time in these histories is the recorder's

// a makes an operation that takes 1 ms from the at-th, in which the store tells its time.
func a(kind consistency.Kind, at int64, result consistency.Result, mod func(*consistency.Op)) *consistency.Op {
	op := &consistency.Op{
		Kind: kind, Session: "s", Subject: "u", Slot: -1, Call: at * 1e6, Return: (at + 1) * 1e6, Result: result,
		Seen: consistency.Span{Lo: at, Hi: at},
	}
	if mod != nil {
		mod(op)
	}
	return op
}

// shows is an answer that shows version v, which was made at updated, of a
// session that was created at 100 for a second.
func shows(v, value, updated int64) func(*consistency.Op) {
	return func(op *consistency.Op) {
		op.View = &consistency.View{
			ID: "s", Status: sessiond.StatusActive, Incarnation: "aaaaaaaaaaaaaaaa", Version: v, HasData: true,
			Data: [3]int64{value, value, value}, Label: 1, Created: 100, Updated: updated, Active: 100, Expires: 100 + second,
		}
	}
}

func both(mods ...func(*consistency.Op)) func(*consistency.Op) {
	return func(op *consistency.Op) {
		for _, mod := range mods {
			mod(op)
		}
	}
}

func created(op *consistency.Op) {
	shows(1, 1, 100)(op)
	op.Value, op.Label, op.ExpiresIn, op.Gave = 1, 1, second, "t1"
}

func value(n int64) func(*consistency.Op) { return func(op *consistency.Op) { op.Value = n } }

func open(op *consistency.Op) {
	op.Result, op.Return, op.Seen = consistency.Unknown, consistency.Open, consistency.Span{}
}

// until has the operation return later than it would.
func until(ms int64) func(*consistency.Op) { return func(op *consistency.Op) { op.Return = ms * 1e6 } }

// untold is an operation on several sessions, which is not told one time.
func untold(op *consistency.Op) { op.Session, op.Seen = "", consistency.Span{} }

func reason(op *consistency.Op) { op.Reason = "revoked" }

// create begins each history.
func create() *consistency.Op { return a(consistency.Create, 100, consistency.OK, created) }

// histories are small ones, written by hand.
var histories = map[string]struct {
	ops  []*consistency.Op
	says string // nothing: the history is good
}{
	"reads": {[]*consistency.Op{
		a(consistency.Get, 50, consistency.NotFound, nil), create(),
		a(consistency.Get, 200, consistency.OK, shows(1, 1, 100)),
		a(consistency.Get, 1500, consistency.Ended, func(op *consistency.Op) {
			shows(2, 0, 1100)(op)
			op.View.Status, op.View.EndedAt, op.View.Reason = sessiond.StatusExpired, 1100, "absolute"
		}),
		a(consistency.Get, 4000, consistency.NotFound, nil), // its retention is over
	}, ""},
	"forgotten": {[]*consistency.Op{
		create(), a(consistency.Get, 2000, consistency.NotFound, nil),
	}, "is not found, but it was"},
	"stale read": {[]*consistency.Op{
		create(),
		a(consistency.Update, 200, consistency.OK, both(value(2), shows(2, 2, 200))),
		a(consistency.Get, 300, consistency.OK, shows(1, 1, 100)),
	}, "is shown with version 1, but its version was 2"},
	"concurrent read": {[]*consistency.Op{
		create(),
		a(consistency.Update, 200, consistency.OK, both(value(2), shows(2, 2, 200), until(400))),
		a(consistency.Get, 300, consistency.OK, shows(1, 1, 100)),
		a(consistency.Get, 310, consistency.OK, shows(2, 2, 200)),
	}, ""},
	"read back and forth": {[]*consistency.Op{
		create(),
		a(consistency.Update, 200, consistency.OK, both(value(2), shows(2, 2, 200), until(400))),
		a(consistency.Get, 300, consistency.OK, shows(2, 2, 200)),
		a(consistency.Get, 310, consistency.OK, shows(1, 1, 100)),
	}, "is shown with version 1, but its version was 2"},
	"late": {[]*consistency.Op{
		create(), a(consistency.Get, 1100, consistency.OK, shows(1, 1, 100)),
	}, "but its deadline {1100 1100} had passed"},
	"just in time": {[]*consistency.Op{
		create(), a(consistency.Get, 1099, consistency.OK, shows(1, 1, 100)),
	}, ""},
	"early": {[]*consistency.Op{
		create(), a(consistency.Get, 1099, consistency.Ended, func(op *consistency.Op) {
			shows(2, 0, 1100)(op)
			op.View.Status, op.View.EndedAt, op.View.Reason = sessiond.StatusExpired, 1100, "absolute"
		}),
	}, "is answered as ended, but it was live until its deadline {1100 1100}"},
	"unknown and applied": {[]*consistency.Op{
		create(), a(consistency.Update, 200, "", both(value(2), open)),
		a(consistency.Get, 300, consistency.OK, shows(1, 1, 100)),
		a(consistency.Get, 400, consistency.OK, shows(2, 2, 350)),
	}, ""},
	"unknown and not applied": {[]*consistency.Op{
		create(), a(consistency.Update, 200, "", both(value(2), open)),
		a(consistency.Get, 300, consistency.OK, shows(1, 1, 100)),
	}, ""},
	"unknown and taken back": {[]*consistency.Op{
		create(), a(consistency.Update, 200, "", both(value(2), open)),
		a(consistency.Get, 300, consistency.OK, shows(2, 2, 250)),
		a(consistency.Get, 400, consistency.OK, shows(1, 1, 100)),
	}, "is shown with version 1, but its version was 2"},
	"not applied": {[]*consistency.Op{
		create(), a(consistency.Update, 200, consistency.NotApplied, value(2)),
		a(consistency.Get, 300, consistency.OK, shows(2, 2, 200)),
	}, "is shown with version 2, but its version was 1"},
	"revived": {[]*consistency.Op{
		create(), a(consistency.Revoke, 200, consistency.OK, reason),
		a(consistency.Get, 300, consistency.OK, shows(1, 1, 100)),
	}, "is answered as live although it had ended (revoked)"},
	"revoked by nobody": {[]*consistency.Op{
		create(), a(consistency.Revoke, 200, consistency.NotApplied, reason),
		a(consistency.Verify, 300, consistency.Inactive, func(op *consistency.Op) { op.Token = "t1" }),
	}, "refuses the token t1 of a live session"},
	"unlisted": {[]*consistency.Op{
		create(), a(consistency.List, 200, consistency.OK, untold),
	}, "is missing from a list although it was live"},
	"passed over": {[]*consistency.Op{
		create(), a(consistency.RevokeMatching, 200, consistency.OK, both(reason, untold)),
		a(consistency.Get, 300, consistency.OK, shows(1, 1, 100)),
	}, "is answered as live although it had ended"},
	"two clocks": {[]*consistency.Op{
		create(), a(consistency.Get, 300, consistency.OK, both(shows(1, 1, 100), func(op *consistency.Op) {
			op.Seen = consistency.Span{Lo: 500, Hi: 500}
		})),
	}, "the store's time is not one clock"},
	"clock that steps back": {[]*consistency.Op{
		create(), a(consistency.Get, 110, consistency.OK, both(shows(1, 1, 100), func(op *consistency.Op) {
			op.Seen = consistency.Span{Lo: 90, Hi: 90}
		})),
	}, "the store's time ran backwards"},
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, tt := range histories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, op := range tt.ops {
				op.Number = i + 1
			}
			h := &consistency.History{Ops: tt.ops, Took: 10e9, Retention: 2 * second, MaxLife: 3600 * second}
			r := consistency.Check(h)
			switch err := r.Err(); {
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v, want a violation that says %q", err, tt.says)
			}
		})
	}
}
