package behaviour

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
)

const someData = `{"n":1.50,"big":12345678901234567890.1,"e":1e400,"s":"é\u2028😀","nested":{"a":[null,true,{}]}}`

func create(t *tester) {
	s, token := t.created(sessiond.CreateParams{
		ID: "A-b.c_d~1", Subject: "älice \"<&>", Data: jsontext.Value(someData),
		Labels: map[string]string{"device": "phone", "x.y_z-1": ""}, ExpiresIn: new(time.Hour), IdleTimeout: new(time.Minute),
	})
	if s.ID != "A-b.c_d~1" || s.Subject != "älice \"<&>" || string(s.Data) != someData || s.Labels["device"] != "phone" ||
		len(s.Labels) != 2 || s.Status != sessiond.StatusActive || s.ExpiresAt.Sub(s.CreatedAt) != time.Hour ||
		s.IdleTimeout != time.Minute || s.IdleExpiresAt.Sub(s.CreatedAt) != time.Minute || s.Version != 1 ||
		s.CreatedBy != by() || s.ETag == "" || s.CreatedAt.IsZero() || !s.LastActiveAt.Equal(s.CreatedAt) {
		t.Errorf("created %+v", s)
	}
	t.same("get", t.get(s.ID), s)
	if !strings.HasPrefix(string(token), sessiond.TokenPrefix) || !t.active(token) {
		t.Error("the token is not active")
	}
	_, _, err := t.s.Create(t.ctx, sessiond.CreateParams{ID: s.ID})
	t.fails("the id again", err, sessiond.ErrExists)

	plain, _ := t.created(sessiond.CreateParams{IdleTimeout: new(time.Duration(0))})
	if plain.Subject != "" || string(plain.Data) != "{}" || !plain.IdleExpiresAt.IsZero() || len(plain.Labels) != 0 ||
		plain.ExpiresAt.Sub(plain.CreatedAt) != Policy().DefaultLifetime {
		t.Errorf("created %+v", plain)
	}
	for range Policy().MaxPerSubject {
		t.created(sessiond.CreateParams{Subject: "bob"})
	}
	_, _, err = t.s.Create(t.ctx, sessiond.CreateParams{Subject: "bob"})
	t.fails("one too many", err, sessiond.ErrLimit)
	for _, id := range []sessiond.ID{"unknown", "", "..", "a/b", "a?b", "sst_a", sessiond.ID(token)} {
		_, err = t.s.Get(t.ctx, id)
		t.fails("get of "+string(id), err, sessiond.ErrNotFound)
	}
}

func idempotent(t *tester) {
	p := sessiond.CreateParams{Subject: "alice", Data: jsontext.Value(`{"a":1}`), IdempotencyKey: "key!~1"}
	s, first := t.created(p)
	again, second := t.created(p)
	t.same("repeated create", again, s)
	if t.active(first) || !t.active(second) {
		t.Error("the lost token is active, or the fresh one is not")
	}
	p.Subject = "bob"
	_, _, err := t.s.Create(t.ctx, p)
	t.fails("another body", err, sessiond.ErrExists)
}

func input(t *tester) {
	t.created(sessiond.CreateParams{ID: "s"})
	for pointer, p := range map[string]sessiond.CreateParams{
		"/id":           {ID: "sst_a"},
		"/subject":      {Subject: "a\u202e"},
		"/labels":       {Labels: map[string]string{"K": ""}},
		"/expires_in":   {ExpiresIn: new(Policy().MaxLifetime + time.Second)},
		"/idle_timeout": {IdleTimeout: new(-time.Second)},
		"/data":         {Data: jsontext.Value(`[]`)},
	} {
		_, _, err := t.s.Create(t.ctx, p)
		t.invalid("create", err, pointer)
	}
	for pointer, p := range map[string]sessiond.UpdateParams{
		"/labels":       {Labels: map[string]string{"k": "\x00"}},
		"/expires_in":   {ExpiresIn: new(1500 * time.Millisecond)},
		"/idle_timeout": {IdleTimeout: new(500 * time.Millisecond)},
		"/data":         {Data: jsontext.Value(`{"a":"` + strings.Repeat("x", 1024) + `"}`)},
	} {
		_, err := t.s.Update(t.ctx, "s", p)
		t.invalid("update", err, pointer)
	}
	deep := strings.Repeat(`{"a":`, sessiond.MaxNesting) + `1` + strings.Repeat(`}`, sessiond.MaxNesting)
	for _, bad := range []string{`{"a":1,"a":2}`, `{`, `{"a":"\ud800"}`, `{} {}`, deep} {
		_, _, err := t.s.Create(t.ctx, sessiond.CreateParams{Data: jsontext.Value(bad)})
		t.fails("create with data "+bad, err, sessiond.ErrInvalid)
		_, err = t.s.Update(t.ctx, "s", sessiond.UpdateParams{Data: jsontext.Value(bad)})
		t.fails("update with data "+bad, err, sessiond.ErrInvalid)
	}
	for patch, pointer := range map[string]string{
		`{"data":[]}`: "/data", `{"expires_in":null}`: "/expires_in", `{"labels":{"k":1}}`: "/labels/k",
		`{"subject":"a"}`: "/subject", `{"idle_timeout":1e3}`: "/idle_timeout",
	} {
		_, err := t.patch("s", patch)
		t.invalid("patch "+patch, err, pointer)
	}
	for _, bad := range []string{``, `[]`, `null`, `{`, `{"data":{"a":1,"a":2}}`, `{} x`, "{\"data\":{\"a\":\"\xff\"}}"} {
		_, err := t.patch("s", bad)
		t.fails("patch "+bad, err, sessiond.ErrMalformed)
	}
	if s := t.get("s"); s.Version != 1 {
		t.Errorf("refused input changed the session: %+v", s)
	}
}

func update(t *tester) {
	s, _ := t.created(sessiond.CreateParams{
		ID: "s", Data: jsontext.Value(`{"a":1}`), Labels: map[string]string{"k": "v"}, ExpiresIn: new(time.Hour),
	})
	got, err := t.s.Update(t.ctx, "s", sessiond.UpdateParams{Data: jsontext.Value(someData)})
	if err != nil || got.Version != 2 || string(got.Data) != someData || got.Labels["k"] != "v" || got.ETag == s.ETag {
		t.Fatalf("data: %+v, %v", got, err)
	}
	t.same("get", t.get("s"), got)
	same, err := t.s.Update(t.ctx, "s", sessiond.UpdateParams{
		Data: jsontext.Value(someData), Labels: map[string]string{"k": "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.same("an update that changes nothing", same, got)
	got, err = t.s.Update(t.ctx, "s", sessiond.UpdateParams{Labels: map[string]string{}, IdleTimeout: new(2 * time.Hour)})
	if err != nil || len(got.Labels) != 0 || got.Version != 3 || got.IdleTimeout != 2*time.Hour {
		t.Errorf("labels: %+v, %v", got, err)
	}
	got, err = t.s.Update(t.ctx, "s", sessiond.UpdateParams{
		IdleTimeout: new(time.Duration(0)), ExpiresIn: new(Policy().MaxLifetime),
	})
	if err != nil || !got.IdleExpiresAt.IsZero() || !got.ExpiresAt.Equal(s.CreatedAt.Add(Policy().MaxLifetime)) {
		t.Errorf("deadlines: %+v, %v", got, err)
	}
	_, err = t.s.Update(t.ctx, "unknown", sessiond.UpdateParams{Data: jsontext.Value(`{}`)})
	t.fails("unknown", err, sessiond.ErrNotFound)
}

func patch(t *tester) {
	t.created(sessiond.CreateParams{
		ID: "s", Data: jsontext.Value(`{"a":1.0,"b":{"c":null,"d":1}}`), Labels: map[string]string{"k": "v"},
	})
	for i, step := range []struct{ patch, data, label string }{
		{`{"data":{"b":{"c":2,"d":null}}}`, `{"a":1.0,"b":{"c":2}}`, "v"},
		{`{"labels":{"k":"w"}}`, `{"a":1.0,"b":{"c":2}}`, "w"},
		{`{"data":null,"labels":null,"expires_in":60,"idle_timeout":30}`, `{}`, ""},
	} {
		got, err := t.patch("s", step.patch)
		if err != nil || string(got.Data) != step.data || got.Labels["k"] != step.label || got.Version != int64(i+2) {
			t.Errorf("%s: %+v, %v", step.patch, got, err)
			continue
		}
		t.same("get", t.get("s"), got)
	}
	_, err := t.patch("unknown", `{}`)
	t.fails("unknown", err, sessiond.ErrNotFound)
}

func conditions(t *tester) {
	s, _ := t.created(sessiond.CreateParams{ID: "s"})
	other, _ := t.created(sessiond.CreateParams{ID: "other"})
	up := func(tags ...sessiond.ETag) (*sessiond.Session, error) {
		return t.s.Update(t.ctx, "s", sessiond.UpdateParams{Data: jsontext.Value(`{"a":1}`), IfMatch: tags})
	}
	_, err := up(other.ETag)
	t.fails("update", err, sessiond.ErrVersion)
	_, err = t.s.Patch(t.ctx, "s", sessiond.PatchParams{Patch: jsontext.Value(`{}`), IfMatch: []sessiond.ETag{other.ETag}})
	t.fails("patch", err, sessiond.ErrVersion)
	_, _, err = t.s.Rotate(t.ctx, "s", sessiond.RotateParams{IfMatch: []sessiond.ETag{other.ETag}})
	t.fails("rotate", err, sessiond.ErrVersion)
	err = t.s.Revoke(t.ctx, "s", sessiond.RevokeParams{IfMatch: []sessiond.ETag{other.ETag}})
	t.fails("revoke", err, sessiond.ErrVersion)
	t.same("after refusals", t.get("s"), s)
	if got, err := up(other.ETag, s.ETag); err != nil || got.Version != 2 {
		t.Errorf("one of two: %+v, %v", got, err)
	}
	_, err = up(s.ETag)
	t.fails("the version before", err, sessiond.ErrVersion)
	if _, err := up(sessiond.AnyETag); err != nil {
		t.Errorf("any: %v", err)
	}
}

func touch(t *tester) {
	s, _ := t.created(sessiond.CreateParams{ID: "s", IdleTimeout: new(time.Hour)})
	time.Sleep(2 * time.Millisecond)
	got, err := t.s.Touch(t.ctx, "s")
	if err != nil || !got.LastActiveAt.After(s.LastActiveAt) || got.ETag != s.ETag || got.Version != 1 ||
		!got.IdleExpiresAt.Equal(got.LastActiveAt.Add(time.Hour)) || !got.UpdatedAt.Equal(s.UpdatedAt) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = t.s.Touch(t.ctx, "unknown")
	t.fails("unknown", err, sessiond.ErrNotFound)
}

func rotate(t *tester) {
	s, first := t.created(sessiond.CreateParams{ID: "s", Data: jsontext.Value(`{"a":1}`)})
	got, second, err := t.s.Rotate(t.ctx, "s", sessiond.RotateParams{Token: first, Subject: "alice"})
	if err != nil || got.Subject != "alice" || got.Version != 2 || got.ETag == s.ETag || string(got.Data) != `{"a":1}` {
		t.Fatalf("%+v, %v", got, err)
	}
	if t.active(first) || !t.active(second) {
		t.Error("the old token is active, or the new one is not")
	}
	_, none, err := t.s.Rotate(t.ctx, "s", sessiond.RotateParams{Token: first})
	t.fails("with the old token", err, sessiond.ErrToken)
	if none != "" {
		t.Error("a refused rotate gives a token")
	}
	_, _, err = t.s.Rotate(t.ctx, "s", sessiond.RotateParams{Token: "sst_x"})
	t.fails("with no token", err, sessiond.ErrToken)
	_, _, err = t.s.Rotate(t.ctx, "s", sessiond.RotateParams{Subject: "bob"})
	t.invalid("a second subject", err, "/subject")
	_, _, err = t.s.Rotate(t.ctx, "unknown", sessiond.RotateParams{})
	t.fails("unknown", err, sessiond.ErrNotFound)
	if _, third, err := t.s.Rotate(t.ctx, "s", sessiond.RotateParams{}); err != nil || !t.active(third) {
		t.Errorf("without a token: %v", err)
	}
	for range Policy().MaxPerSubject {
		t.created(sessiond.CreateParams{Subject: "bob"})
	}
	t.created(sessiond.CreateParams{ID: "guest"})
	_, _, err = t.s.Rotate(t.ctx, "guest", sessiond.RotateParams{Subject: "bob"})
	t.fails("one too many", err, sessiond.ErrLimit)
}

func cancelled(t *tester) {
	t.created(sessiond.CreateParams{ID: "s"})
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	_, err := t.s.Get(ctx, "s")
	t.fails("get", err, context.Canceled)
	err = t.s.Revoke(ctx, "s", sessiond.RevokeParams{})
	t.fails("revoke", err, context.Canceled)
	if errors.Is(err, sessiond.ErrUnknown) {
		t.Errorf("nothing was sent, and yet: %v", err)
	}
	_, err = t.s.Verify(ctx, "sst_x", sessiond.VerifyParams{})
	if err != nil {
		t.fails("verify", err, context.Canceled)
	}
	if s := t.get("s"); s.Version != 1 {
		t.Errorf("%+v", s)
	}
}
