package consistency

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// A Kind is an operation of the workload.
type Kind string

// The operations. TouchAt is [sessiond.Store.Touch] with a time and an
// incarnation, as managers use it for activity that Verify saw; Erase is
// a Revoke that removes the record. Listed, Unlisted and Matched are what List
// and RevokeMatching mean for one session: Check makes them.
const (
	Create         Kind = "create"
	Get            Kind = "get"
	Update         Kind = "update"
	Patch          Kind = "patch"
	Touch          Kind = "touch"
	TouchAt        Kind = "touch-at"
	Rotate         Kind = "rotate"
	Verify         Kind = "verify"
	Revoke         Kind = "revoke"
	Erase          Kind = "erase"
	List           Kind = "list"
	RevokeMatching Kind = "revoke-matching"

	Listed   Kind = "listed"
	Unlisted Kind = "unlisted"
	Matched  Kind = "matched"
)

// A Result is the kind of answer that an operation got.
type Result string

// The results. NotApplied is ErrUnavailable, or the error of a context: nothing
// has happened. Wrong is an error that none of the operations may return.
const (
	OK         Result = "ok"
	Inactive   Result = "inactive" // of Verify
	Exists     Result = "exists"
	NotFound   Result = "not found"
	Ended      Result = "ended"
	Mismatch   Result = "version"
	BadToken   Result = "token"
	NotApplied Result = "not applied"
	Unknown    Result = "unknown"
	Wrong      Result = "wrong"
)

// Open is the return of an operation of unknown outcome: it may take effect
// until the end of the history.
const Open int64 = math.MaxInt64

// An Op is one operation of a history. Times of the store are milliseconds since
// 1970, Call and Return are nanoseconds of the recording process's monotonic clock.
type Op struct {
	Number  int // also the request ID, with "op-" before it
	Client  int
	Replica int // 0 or 1
	Kind    Kind
	Session sessiond.ID // empty for List and RevokeMatching
	Subject string
	Call    int64
	Return  int64 // Open if the outcome is unknown

	// What was asked.
	IfMatch     sessiond.ETag `json:",omitempty"`
	Slot        int           `json:",omitempty"` // of Patch: the part of the data; -1: none
	Value       int64         `json:",omitempty"` // of Create and Update: all of the data; 0 leaves it
	Label       int64         `json:",omitempty"` // 0 leaves it
	ExpiresIn   int64         `json:",omitempty"` // in ms; 0 leaves it
	IdleTimeout int64         `json:",omitempty"` // in ms; 0 leaves it
	Key         string        `json:",omitempty"` // Idempotency-Key of Create
	Token       string        `json:",omitempty"` // name of the token that was presented
	At          int64         `json:",omitempty"` // of TouchAt
	Incarnation string        `json:",omitempty"` // of TouchAt

	// What was answered.
	Result Result
	Err    string `json:",omitempty"`
	View   *View  `json:",omitempty"` // of the session, if the answer showed one
	Gave   string `json:",omitempty"` // name of the token that was given out
	Reason string `json:",omitempty"` // of Inactive; what Revoke and its like asked for
	Listed []View `json:",omitempty"`
	Count  int    `json:",omitempty"` // of RevokeMatching
	Seen   Span   // the store's time, as it told it itself; zero if it did not

	// Effect is what the feed says: the version of the last event that carries this
	// operation's number, 0 if there is none, -1 if the feed was not asked.
	Effect int64
	now    Span // the store's time, bounded by Seen or by Call and Return
}

// RequestID is the request ID of the operation.
func (o *Op) RequestID() string { return fmt.Sprintf("op-%d", o.Number) }

func (o *Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by client %d on replica %d: %s %s", o.RequestID(), o.Client, o.Replica, o.Kind, o.Session)
	for _, in := range []struct {
		name  string
		value any
		given bool
	}{
		{"subject", o.Subject, o.Session == ""}, {"if-match", o.IfMatch, o.IfMatch != ""},
		{"slot", o.Slot, o.Kind == Patch}, {"value", o.Value, o.Value != 0}, {"label", o.Label, o.Label != 0},
		{"expires_in", o.ExpiresIn, o.ExpiresIn != 0}, {"idle_timeout", o.IdleTimeout, o.IdleTimeout != 0},
		{"key", o.Key, o.Key != ""}, {"token", o.Token, o.Token != ""}, {"at", o.At, o.At != 0},
		{"incarnation", o.Incarnation, o.Incarnation != ""},
	} {
		if in.given {
			fmt.Fprintf(&b, " %s=%v", in.name, in.value)
		}
	}
	fmt.Fprintf(&b, " -> %s", o.Result)
	if o.Err != "" {
		fmt.Fprintf(&b, " (%s)", o.Err)
	}
	if o.Gave != "" {
		fmt.Fprintf(&b, " token %s", o.Gave)
	}
	if o.Reason != "" {
		fmt.Fprintf(&b, " reason %s", o.Reason)
	}
	if o.View != nil {
		fmt.Fprintf(&b, " %s", o.View)
	}
	end := "open"
	if o.Return != Open {
		end = time.Duration(o.Return).String()
	}
	fmt.Fprintf(&b, " [%v, %s] store time %v", time.Duration(o.Call), end, o.now)
	return b.String()
}

// writes reports whether the operation may have changed something.
func (o *Op) writes() bool {
	switch o.Kind {
	case Get, Verify, List, Listed, Unlisted:
		return false
	}
	return true
}

// A View is what an answer shows of a session. Times are in milliseconds; 0 is none.
type View struct {
	ID          sessiond.ID
	Status      sessiond.Status
	Incarnation string `json:",omitempty"` // from the ETag; empty where answers have none
	Version     int64
	Data        [slots]int64 // only while active
	HasData     bool
	Label       int64
	Created     int64
	Updated     int64
	Active      int64
	Expires     int64
	Idle        int64  `json:",omitempty"`
	EndedAt     int64  `json:",omitempty"`
	Reason      string `json:",omitempty"`
	Note        string `json:",omitempty"`
	By          bool   `json:",omitempty"` // ended by an actor
}

func (v *View) String() string {
	s := fmt.Sprintf("{%s %s.%d data %v label %d created %d updated %d active %d expires %d idle %d",
		v.Status, v.Incarnation, v.Version, v.Data, v.Label, v.Created, v.Updated, v.Active, v.Expires, v.Idle)
	if v.EndedAt != 0 {
		s += fmt.Sprintf(" ended %d %s %s", v.EndedAt, v.Reason, v.Note)
	}
	return s + "}"
}

// slots are the parts of a session's data that patches change one at a time.
const slots = 3

// deadline is the earlier deadline.
func (v *View) deadline() int64 {
	if v.Idle != 0 {
		return min(v.Expires, v.Active+v.Idle)
	}
	return v.Expires
}

// dataOf is the data that stands for the parts.
func dataOf(n [slots]int64) []byte {
	return fmt.Appendf(nil, `{"s0":%d,"s1":%d,"s2":%d}`, n[0], n[1], n[2])
}

func viewOf(s *sessiond.Session) (*View, error) {
	v := &View{
		ID: s.ID, Status: s.Status, Version: s.Version, Created: millis(s.CreatedAt), Updated: millis(s.UpdatedAt),
		Active: millis(s.LastActiveAt), Expires: millis(s.ExpiresAt), Idle: s.IdleTimeout.Milliseconds(),
		EndedAt: millis(s.EndedAt), Reason: string(s.EndReason), Note: s.EndNote, By: !s.EndedBy.IsZero(),
	}
	if s.ETag != "" {
		inc, _, ok := strings.Cut(strings.Trim(string(s.ETag), `"`), ".")
		if !ok {
			return nil, fmt.Errorf("ETag %s", s.ETag)
		}
		v.Incarnation = inc
	}
	if err := v.fill(s.Data, s.Labels); err != nil {
		return nil, err
	}
	return v, nil
}

func viewOfRecord(r *sessiond.Record) (*View, error) {
	v := &View{
		ID: r.ID, Status: sessiond.StatusActive, Incarnation: r.Incarnation.String(), Version: r.Version,
		Created: millis(r.CreatedAt), Updated: millis(r.UpdatedAt), Active: millis(r.LastActiveAt),
		Expires: millis(r.ExpiresAt), Idle: r.IdleTimeout.Milliseconds(),
		EndedAt: millis(r.EndedAt), Reason: string(r.EndReason), Note: r.EndNote, By: !r.EndedBy.IsZero(),
	}
	switch {
	case r.EndedAt.IsZero():
	case r.EndReason.Expiry():
		v.Status = sessiond.StatusExpired
	default:
		v.Status = sessiond.StatusRevoked
	}
	return v, v.fill(r.Data, r.Labels)
}

// fill reads what the workload puts into data and labels.
func (v *View) fill(data []byte, labels map[string]string) error {
	if n, ok := labels[labelKey]; ok {
		if _, err := fmt.Sscan(n, &v.Label); err != nil {
			return fmt.Errorf("label %q", n)
		}
	}
	if data == nil {
		return nil
	}
	var d struct{ S0, S1, S2 int64 }
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("data %q: %w", data, err)
	}
	v.Data, v.HasData = [slots]int64{d.S0, d.S1, d.S2}, true
	return nil
}

// labelKey is the label that the workload changes.
const labelKey = "n"

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// A Span is a time of the store that is known within bounds, both included, in
// milliseconds.
type Span struct{ Lo, Hi int64 }

func exactly(at int64) Span { return Span{at, at} }

func (s Span) has(at int64) bool     { return s.Lo <= at && at <= s.Hi }
func (s Span) plus(d int64) Span     { return Span{s.Lo + d, later(s.Hi, d)} }
func (s Span) earlier(o Span) Span   { return Span{min(s.Lo, o.Lo), min(s.Hi, o.Hi)} }
func (s Span) later(o Span) Span     { return Span{max(s.Lo, o.Lo), max(s.Hi, o.Hi)} }
func (s Span) within(o Span) bool    { return s.Lo <= o.Hi && o.Lo <= s.Hi }
func (s Span) widened(by int64) Span { return Span{s.Lo - by, later(s.Hi, by)} }
func later(at, d int64) int64 {
	if at == math.MaxInt64 {
		return at
	}
	return at + d
}

// A History is what a run recorded.
type History struct {
	Seed      uint64
	Ops       []*Op
	Laps      []*Lap // of the readers of the feed
	Faults    []Strike
	Retention int64          // of ended records, in ms
	Overlap   int64          // of the rotation of tokens, in ms
	MaxLife   int64          // of a session, in ms
	Actor     sessiond.Actor // of all changes
	Took      int64          // ns
	MaxActive int            // most operations under way at the same time

	clock *storeClock // as Check found it
}

// A Strike is a fault that struck.
type Strike struct {
	Name     string
	InFlight int // operations under way when it did
	At, For  int64
	Err      string `json:",omitempty"`
}

// Save writes the history to a file, for [Load].
func (h *History) Save(file string) error {
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return os.WriteFile(file, b, 0o600)
}

// Load reads a history that Save wrote, so that it can be checked again.
func Load(file string) (*History, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	h := &History{}
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return h, nil
}
