package sessiond_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
)

// A yielding store lets others run before and after each call, so that
// histories overlap on few processors.
type yielding struct{ sessiond.Store }

func yield() {
	for range rand.IntN(4) {
		runtime.Gosched()
	}
}

func (y yielding) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	yield()
	defer yield()
	return y.Store.Create(ctx, c)
}

func (y yielding) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	yield()
	defer yield()
	return y.Store.Get(ctx, k)
}

func (y yielding) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	yield()
	defer yield()
	return y.Store.Update(ctx, k, fn)
}

// An opInput is what a client asked for, an opOutput what it was told.
type opInput struct {
	op    string
	id    sessiond.ID
	tag   sessiond.ETag  // of update, "" for none
	slot  int            // of patch
	value int            // of update (all slots) and patch (one)
	token sessiond.Token // of verify
}

type opOutput struct {
	result  string // "ok" or the name of the error
	version int64
	tag     sessiond.ETag
	slots   [3]int
	token   sessiond.Token // given out by create and rotate
}

// A sessionState is what the model knows of one session.
type sessionState struct {
	exists, ended bool
	version       int64
	tag           sessiond.ETag
	slots         [3]int
	token         sessiond.Token
}

// step says whether a session in state s can give this answer, and what
// becomes of it.
func step(s sessionState, in opInput, out opOutput) (bool, sessionState) {
	switch in.op {
	case "create":
		if s.exists {
			return out.result == "exists", s
		}
		next := sessionState{exists: true, version: 1, tag: out.tag, token: out.token}
		return out.result == "ok" && out.version == 1, next
	case "verify":
		return out.result == map[bool]string{true: "ok", false: "inactive"}[s.exists && !s.ended && in.token == s.token], s
	}
	switch {
	case !s.exists:
		return out.result == "not found", s
	case s.ended:
		want := "ended"
		if in.op == "revoke" {
			want = "ok"
		}
		return out.result == want, s
	case in.tag != "" && in.tag != s.tag:
		return out.result == "version", s
	case out.result != "ok":
		return false, s
	}
	next := s
	switch in.op {
	case "update":
		next.slots = [3]int{in.value, in.value, in.value}
	case "patch":
		next.slots[in.slot] = in.value
	case "rotate":
		next.token = out.token
	case "revoke":
		next.ended = true
		return true, next
	}
	if next.slots != s.slots || next.token != s.token {
		next.version++
		next.tag = out.tag
		if out.tag == s.tag {
			return false, s
		}
	}
	return out.version == next.version && out.tag == next.tag && out.slots == next.slots, next
}

var sessionModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byID := map[sessiond.ID][]porcupine.Operation{}
		for _, op := range history {
			id := op.Input.(opInput).id
			byID[id] = append(byID[id], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byID {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return sessionState{} },
	Step: func(state, in, out any) (bool, any) {
		return step(state.(sessionState), in.(opInput), out.(opOutput))
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

func slotData(n [3]int) jsontext.Value {
	return jsontext.Value(fmt.Sprintf(`{"s0":%d,"s1":%d,"s2":%d}`, n[0], n[1], n[2]))
}

// ask carries out one operation.
func (e *env) ask(in opInput) opOutput {
	var out opOutput
	var s *sessiond.Session
	var err error
	var tags []sessiond.ETag
	if in.tag != "" {
		tags = []sessiond.ETag{in.tag}
	}
	switch in.op {
	case "create":
		s, out.token, err = e.Create(e.ctx, sessiond.CreateParams{ID: in.id, Data: slotData([3]int{})})
	case "get":
		s, err = e.Get(e.ctx, in.id)
	case "update":
		s, err = e.Update(e.ctx, in.id, sessiond.UpdateParams{
			Data: slotData([3]int{in.value, in.value, in.value}), IfMatch: tags,
		})
	case "patch":
		patch := `{"data":{"s` + strconv.Itoa(in.slot) + `":` + strconv.Itoa(in.value) + `}}`
		s, err = e.Patch(e.ctx, in.id, sessiond.PatchParams{Patch: data(patch), IfMatch: tags})
	case "touch":
		s, err = e.Touch(e.ctx, in.id)
	case "rotate":
		s, out.token, err = e.Rotate(e.ctx, in.id, sessiond.RotateParams{IfMatch: tags})
	case "revoke":
		err = e.Revoke(e.ctx, in.id, sessiond.RevokeParams{IfMatch: tags})
	case "verify":
		var v sessiond.Verification
		if v, err = e.Verify(e.ctx, in.token, sessiond.VerifyParams{}); err == nil && !v.Active {
			out.result = "inactive"
			return out
		}
	}
	for text, sentinel := range map[string]error{
		"exists": sessiond.ErrExists, "not found": sessiond.ErrNotFound,
		"ended": sessiond.ErrEnded, "version": sessiond.ErrVersion,
	} {
		if errors.Is(err, sentinel) {
			out.result = text
			return out
		}
	}
	if err != nil {
		out.result = err.Error()
		return out
	}
	out.result = "ok"
	if s != nil {
		out.version, out.tag = s.Version, s.ETag
		n := &out.slots
		if _, err := fmt.Sscanf(string(s.Data), `{"s0":%d,"s1":%d,"s2":%d}`, &n[0], &n[1], &n[2]); err != nil {
			out.result = "data: " + string(s.Data)
		}
	}
	return out
}

// TestLinearizable records what parallel clients are told and asks whether
// some order of single steps explains it.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	const clients, operations, rounds = 5, 24, 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	start := time.Now()
	for round := range rounds {
		e := newEnv(t, func(c *sessiond.Config) { c.Store = yielding{memstore.New(memstore.Options{})} })
		var mu sync.Mutex
		var history []porcupine.Operation
		tags := map[sessiond.ID][]sessiond.ETag{}
		tokens := map[sessiond.ID][]sessiond.Token{}
		var wg sync.WaitGroup
		for client := range clients {
			r := rand.New(rand.NewPCG(seed, uint64(round*clients+client)))
			wg.Go(func() {
				for n := range operations {
					in := opInput{id: sessiond.ID("s" + strconv.Itoa(r.IntN(2))), slot: r.IntN(3), value: r.IntN(3)}
					// Revokes are rare, since nothing happens after them.
					in.op = []string{
						"create", "get", "get", "update", "update", "patch", "patch", "patch",
						"touch", "rotate", "verify", "verify", "revoke",
					}[r.IntN(13)]
					if in.op == "revoke" && n < operations*2/3 {
						in.op = "touch"
					}
					mu.Lock()
					if known := tags[in.id]; len(known) > 0 && r.IntN(2) == 0 && in.op != "get" && in.op != "touch" {
						in.tag = known[max(0, len(known)-1-r.IntN(3))]
					}
					if known := tokens[in.id]; in.op == "verify" {
						if len(known) == 0 {
							in.op = "get"
						} else {
							in.token = known[max(0, len(known)-1-r.IntN(2))]
						}
					}
					if in.op == "create" || in.op == "get" || in.op == "verify" {
						in.tag = ""
					}
					mu.Unlock()
					op := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(start))}
					out := e.ask(in)
					op.Return, op.Output = int64(time.Since(start)), out
					mu.Lock()
					history = append(history, op)
					if out.tag != "" {
						tags[in.id] = append(tags[in.id], out.tag)
					}
					if out.token != "" {
						tokens[in.id] = append(tokens[in.id], out.token)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		switch porcupine.CheckOperationsTimeout(sessionModel, history, 5*time.Second) {
		case porcupine.Illegal:
			for _, op := range history {
				t.Log(op.Call, op.Return, sessionModel.DescribeOperation(op.Input, op.Output))
			}
			t.Fatalf("round %d of seed %d is not linearizable", round, seed)
		case porcupine.Unknown:
			t.Logf("round %d took too long to check", round)
		}
	}
}

// TestModelRefuses: the model is no yes-man.
func TestModelRefuses(t *testing.T) {
	t.Parallel()
	at := func(call int64, in opInput, out opOutput) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: call + 1, Input: in, Output: out}
	}
	create := at(0, opInput{op: "create"}, opOutput{result: "ok", version: 1, tag: "1", token: "a"})
	patch := at(2, opInput{op: "patch", value: 1}, opOutput{result: "ok", version: 2, tag: "2", slots: [3]int{1}})
	for name, op := range map[string]porcupine.Operation{
		"lost update": at(4, opInput{op: "patch", slot: 1, value: 1},
			opOutput{result: "ok", version: 3, tag: "3", slots: [3]int{0, 1}}),
		"stale read": at(4, opInput{op: "get"}, opOutput{result: "ok", version: 1, tag: "1"}),
		"two winners": at(4, opInput{op: "update", tag: "1", value: 2},
			opOutput{result: "ok", version: 3, tag: "3", slots: [3]int{2, 2, 2}}),
		"dead token": at(4, opInput{op: "verify", token: "b"}, opOutput{result: "ok"}),
		"no session": at(4, opInput{op: "get"}, opOutput{result: "not found"}),
	} {
		if porcupine.CheckOperations(sessionModel, []porcupine.Operation{create, patch, op}) {
			t.Errorf("the model accepts a %s", name)
		}
	}
	good := at(4, opInput{op: "get"}, opOutput{result: "ok", version: 2, tag: "2", slots: [3]int{1}})
	if !porcupine.CheckOperations(sessionModel, []porcupine.Operation{create, patch, good}) {
		t.Error("the model refuses a good history")
	}
}
