package consistency

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/behaviour"
)

// Sessions are what the workload asks: a [sessiond.Manager], or a client of a
// server over one.
type Sessions = behaviour.Sessions

// ask carries out op and writes down what was answered.
func (r *run) ask(ctx context.Context, op *Op) {
	op.Number = int(r.numbers.Add(1))
	if op.Value == fresh {
		op.Value = int64(op.Number)
	}
	if op.Label == fresh {
		op.Label = int64(op.Number)
	}
	if op.Kind == Create && op.Value == 0 {
		op.Value, op.Label = int64(op.Number), int64(op.Number)
	}
	seen := &observation{}
	ctx = context.WithValue(sessiond.WithRequestID(ctx, op.RequestID()), observationKey{}, seen)
	if op.Kind == TouchAt {
		op.At = (r.clock()+r.ahead.about())/int64(time.Millisecond) - int64(op.Number%7)*20 + 60 // before now, mostly
	}
	active := r.active.Add(1)
	op.Call = r.clock()
	err := r.do(ctx, op)
	op.Return = r.clock()
	r.active.Add(-1)
	for most := r.mostActive.Load(); active > most && !r.mostActive.CompareAndSwap(most, active); {
		most = r.mostActive.Load()
	}
	if op.Kind != List && op.Kind != RevokeMatching { // those are told many times
		op.Seen = seen.span()
		r.ahead.saw(op.Seen, op.Call, op.Return)
	}
	r.classify(ctx, op, err)
}

// do asks the replica of op.
func (r *run) do(ctx context.Context, op *Op) error {
	m := r.replicas[op.Replica]
	var tags []sessiond.ETag
	if op.IfMatch != "" {
		tags = []sessiond.ETag{op.IfMatch}
	}
	var (
		s     *sessiond.Session
		token sessiond.Token
		err   error
	)
	switch op.Kind {
	case Create:
		s, token, err = m.Create(ctx, createParams(op))
	case Get:
		s, err = m.Get(ctx, op.Session)
	case Update:
		s, err = m.Update(ctx, op.Session, updateParams(op, tags))
	case Patch:
		s, err = m.Patch(ctx, op.Session, sessiond.PatchParams{Patch: patchOf(op), IfMatch: tags})
	case Touch:
		s, err = m.Touch(ctx, op.Session)
	case TouchAt:
		return r.touchAt(ctx, op)
	case Rotate:
		s, token, err = m.Rotate(ctx, op.Session, sessiond.RotateParams{Token: r.token(op.Token), IfMatch: tags})
	case Verify:
		return r.verify(ctx, m, op)
	case Revoke, Erase:
		return m.Revoke(ctx, op.Session, sessiond.RevokeParams{
			Reason: sessiond.EndReason(op.Reason), Note: op.RequestID(), Erase: op.Kind == Erase, IfMatch: tags,
		})
	case List:
		return r.list(ctx, m, op)
	case RevokeMatching:
		var complete bool
		op.Count, complete, err = m.RevokeMatching(ctx, sessiond.RevokeMatchingParams{
			Filter: sessiond.Filter{Subject: op.Subject}, Reason: sessiond.EndReason(op.Reason), Note: op.RequestID(),
		})
		if err == nil && !complete {
			err = errors.New("a bulk revoke of few sessions is not complete")
		}
		return err
	}
	if err != nil {
		return err
	}
	if token != "" {
		op.Gave = "t" + strconv.Itoa(op.Number)
		r.tokens.Store(op.Gave, token)
	}
	op.View, err = viewOf(s)
	return err
}

func (r *run) token(name string) sessiond.Token {
	t, _ := r.tokens.Load(name)
	token, _ := t.(sessiond.Token)
	return token
}

func (r *run) touchAt(ctx context.Context, op *Op) error {
	var inc sessiond.Incarnation
	if err := decodeIncarnation(&inc, op.Incarnation); err != nil {
		return err
	}
	k := sessiond.Key{Tenant: sessiond.DefaultTenant, ID: op.Session}
	res, err := r.stores[op.Replica].Touch(ctx, k, inc, time.UnixMilli(op.At).UTC())
	if res.Record == nil {
		return err
	}
	view, bad := viewOfRecord(res.Record)
	if err == nil {
		err = bad
	}
	if err == nil || errors.Is(err, sessiond.ErrEnded) {
		op.View = view
	}
	return err
}

func (r *run) verify(ctx context.Context, m Sessions, op *Op) error {
	v, err := m.Verify(ctx, r.token(op.Token), sessiond.VerifyParams{NoTouch: true})
	if err != nil {
		return err
	}
	if !v.Active {
		op.Reason, op.Result = string(v.Reason), Inactive
		return nil
	}
	op.View, err = viewOf(v.Session)
	return err
}

// list reads all live sessions of a subject, page by page.
func (r *run) list(ctx context.Context, m Sessions, op *Op) error {
	p := sessiond.ListParams{Filter: sessiond.Filter{Subject: op.Subject, ActiveOnly: true}, Limit: 1 + op.Number%20}
	seen := make(map[sessiond.ID]string)
	for {
		page, err := m.List(ctx, p)
		if err != nil {
			return err
		}
		for _, s := range page.Sessions {
			v, err := viewOf(s)
			if err != nil {
				return err
			}
			if at, ok := seen[s.ID]; ok && at == s.CreatedAt.String() {
				return fmt.Errorf("a list shows %s twice", s.ID)
			} else if ok {
				continue // erased and created anew while the list was read
			}
			seen[s.ID] = s.CreatedAt.String()
			op.Listed = append(op.Listed, *v)
		}
		if page.NextCursor == "" {
			return nil
		}
		p.Cursor = page.NextCursor
	}
}

func seconds(ms int64) *time.Duration {
	d := time.Duration(ms) * time.Millisecond
	return &d
}

func createParams(op *Op) sessiond.CreateParams {
	return sessiond.CreateParams{
		ID: op.Session, Subject: op.Subject, IdempotencyKey: op.Key,
		Data:      dataOf([slots]int64{op.Value, op.Value, op.Value}),
		Labels:    map[string]string{labelKey: strconv.FormatInt(op.Label, 10)},
		ExpiresIn: seconds(op.ExpiresIn), IdleTimeout: seconds(op.IdleTimeout),
	}
}

func updateParams(op *Op, tags []sessiond.ETag) sessiond.UpdateParams {
	p := sessiond.UpdateParams{IfMatch: tags}
	if op.Value != 0 {
		p.Data = dataOf([slots]int64{op.Value, op.Value, op.Value})
	}
	if op.Label != 0 {
		p.Labels = map[string]string{labelKey: strconv.FormatInt(op.Label, 10)}
	}
	if op.ExpiresIn != 0 {
		p.ExpiresIn = seconds(op.ExpiresIn)
	}
	if op.IdleTimeout != 0 {
		p.IdleTimeout = seconds(op.IdleTimeout)
	}
	return p
}

func patchOf(op *Op) jsontext.Value {
	b := []byte("{")
	add := func(format string, args ...any) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, format, args...)
	}
	if op.Value != 0 {
		add(`"data":{"s%d":%d}`, op.Slot, op.Value)
	}
	if op.Label != 0 {
		add(`"labels":{"%s":"%d"}`, labelKey, op.Label)
	}
	if op.ExpiresIn != 0 {
		add(`"expires_in":%d`, op.ExpiresIn/1000)
	}
	if op.IdleTimeout != 0 {
		add(`"idle_timeout":%d`, op.IdleTimeout/1000)
	}
	return append(b, '}')
}

// results name the errors that operations may be refused with.
var results = []struct {
	err    error
	result Result
}{
	{sessiond.ErrUnknown, Unknown}, // before the rest: it may come with others
	{sessiond.ErrUnavailable, NotApplied},
	{sessiond.ErrExists, Exists},
	{sessiond.ErrNotFound, NotFound},
	{sessiond.ErrEnded, Ended},
	{sessiond.ErrVersion, Mismatch},
	{sessiond.ErrToken, BadToken},
}

// classify says what kind of answer err is.
func (r *run) classify(ctx context.Context, op *Op, err error) {
	if err == nil {
		if op.Result != Inactive {
			op.Result = OK
		}
		return
	}
	op.Err = err.Error()
	op.Result = Wrong
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		op.Result = NotApplied
	}
	for _, known := range results {
		if errors.Is(err, known.err) {
			op.Result = known.result
			break
		}
	}
	var end *sessiond.EndedError
	if errors.As(err, &end) && op.View == nil {
		view, bad := viewOf(end.Session)
		if bad != nil {
			op.Result, op.Err = Wrong, bad.Error()
		}
		op.View = view
	}
	switch {
	case op.Result == Unknown && !op.writes():
		op.Result = Wrong // reads are known
	case op.Result == NotApplied && op.Kind == RevokeMatching:
		op.Result = Unknown // some of the sessions may have ended
	case op.Result != Ended:
		op.View = nil
	}
	if op.Result == Unknown {
		op.Return = Open
	}
}
