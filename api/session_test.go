package api_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// The generators draw from all that validation lets into a session, and beyond
// where the writer should not care.
var (
	texts = rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a-z"\\/<>&'\x{0}-\x{1f}\x{7f}\x{2028}\x{2029}é日😀\x{FFFD}]{0,40}`),
		rapid.Just(strings.Repeat(`"`, sessiond.MaxText)),
		rapid.Just(""),
	)
	ids     = rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._~-]{0,127}`)
	labels  = rapid.MapOfN(rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,62}`), texts, 0, sessiond.MaxLabels)
	instant = rapid.Custom(func(t *rapid.T) time.Time {
		const year0, year9999 = -62167219200000, 253402300799999
		return time.UnixMilli(rapid.Int64Range(year0, year9999).Draw(t, "ms")).UTC()
	})
	seconds = rapid.Int64Range(0, 876_000*3600)
	actors  = rapid.Custom(func(t *rapid.T) sessiond.Actor {
		return sessiond.Actor{Issuer: "https://id.example.com", Sub: texts.Draw(t, "sub"), Client: texts.Draw(t, "client")}
	})
	tokens = rapid.OneOf(rapid.Just(""), rapid.StringMatching(`sst_[A-Za-z0-9_-]{1,396}`))
	// Data as the manager keeps it: compact, strings in the shortest form.
	objects = rapid.SampledFrom([]string{
		`{}`, `{"a":1}`, `{"n":[1e999,-0,0.10,12345678901234567890,1E+2]}`, `{"":{"\"\\\n":"é😀<>&"}}`,
		`{"deep":[[[[[[[[{"x":null}]]]]]]]],"t":true}`,
	})
	reasons = rapid.SampledFrom([]sessiond.EndReason{
		sessiond.EndIdle, sessiond.EndAbsolute, sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity,
		sessiond.EndLimit, sessiond.EndTokenReuse, sessiond.EndRestored,
	})
)

func drawSession(t *rapid.T) *sessiond.Session {
	s := &sessiond.Session{
		Tenant: "default", ID: sessiond.ID(ids.Draw(t, "id")), Subject: texts.Draw(t, "subject"),
		Labels: labels.Draw(t, "labels"), Status: sessiond.StatusActive,
		CreatedAt: instant.Draw(t, "created"), UpdatedAt: instant.Draw(t, "updated"),
		LastActiveAt: instant.Draw(t, "active"), ExpiresAt: instant.Draw(t, "expires"),
		IdleTimeout: time.Duration(seconds.Draw(t, "idle")) * time.Second,
		Version:     rapid.Int64Range(1, 1<<63-1).Draw(t, "version"), CreatedBy: actors.Draw(t, "by"),
	}
	if rapid.Bool().Draw(t, "with data") {
		s.Data = jsontext.Value(objects.Draw(t, "data"))
	}
	if rapid.Bool().Draw(t, "no labels") {
		s.Labels = nil
	}
	if s.IdleTimeout > 0 {
		s.IdleExpiresAt = instant.Draw(t, "idle expires")
	}
	if rapid.Bool().Draw(t, "ended") {
		s.EndReason = reasons.Draw(t, "reason")
		s.Status = sessiond.StatusRevoked
		if s.EndReason.Expiry() {
			s.Status = sessiond.StatusExpired
		}
		s.EndedAt, s.EndNote, s.EndedBy = instant.Draw(t, "ended at"), texts.Draw(t, "note"), actors.Draw(t, "ended by")
	}
	return s
}

// plain is the struct that tells of s, made without the code under test.
func plain(s *sessiond.Session, token string) api.Session {
	actor := func(a sessiond.Actor) *api.Actor {
		if a.Sub == "" && a.Client == "" {
			return nil
		}
		return &api.Actor{Sub: a.Sub, Client: a.Client}
	}
	at := func(t time.Time) *api.Time {
		if t.IsZero() {
			return nil
		}
		return (*api.Time)(&t)
	}
	out := api.Session{
		ID: string(s.ID), Subject: s.Subject, Data: s.Data, Labels: s.Labels, Status: string(s.Status),
		CreatedAt: api.Time(s.CreatedAt), UpdatedAt: api.Time(s.UpdatedAt), LastActiveAt: api.Time(s.LastActiveAt),
		ExpiresAt: api.Time(s.ExpiresAt), IdleTimeout: int64(s.IdleTimeout / time.Second),
		IdleExpiresAt: at(s.IdleExpiresAt), Version: s.Version, CreatedBy: actor(s.CreatedBy), Token: token,
	}
	if s.Status != sessiond.StatusActive {
		out.EndedAt, out.EndReason = (*api.Time)(&s.EndedAt), string(s.EndReason)
		out.EndNote, out.EndedBy = s.EndNote, actor(s.EndedBy)
	}
	return out
}

func TestAppendSessionIsMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, token := drawSession(t), tokens.Draw(t, "token")
		want, err := api.Marshal(plain(s, token))
		if err != nil {
			t.Fatal(err)
		}
		got := api.AppendSession([]byte("before"), s, sessiond.Token(token))
		if diff := cmp.Diff("before"+string(want), string(got)); diff != "" {
			t.Errorf("AppendSession (-want +got):\n%s", diff)
		}
		if err := sessiond.ValidateJSON(bytes.TrimPrefix(got, []byte("before")), sessiond.MaxNesting); err != nil {
			t.Error(err)
		}
	})
}

func TestSessionSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSession(t)
		s.ETag = `"x.1"`
		s.CreatedBy.Issuer, s.EndedBy.Issuer = "", "" // not on the wire
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		var read api.Session
		if err := api.Unmarshal(api.AppendSession(nil, s, ""), &read); err != nil {
			t.Fatal(err)
		}
		got, err := read.Session("default", s.ETag)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("(-sent +read):\n%s", diff)
		}
	})
}

func TestPageAndVerificationAreMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		page := &sessiond.SessionPage{NextCursor: rapid.StringMatching(`[A-Za-z0-9_-]{0,40}`).Draw(t, "cursor")}
		plainPage := api.SessionPage{NextCursor: page.NextCursor}
		for range rapid.IntRange(0, 3).Draw(t, "sessions") {
			s := drawSession(t)
			page.Sessions = append(page.Sessions, s)
			plainPage.Sessions = append(plainPage.Sessions, plain(s, ""))
		}
		s := drawSession(t)
		v, plainVerification := &sessiond.Verification{}, api.Verification{}
		if rapid.Bool().Draw(t, "active") {
			p := plain(s, "")
			v.Active, v.Session = true, s
			plainVerification.Active, plainVerification.Session = true, &p
		} else if rapid.Bool().Draw(t, "known") {
			v.Reason = reasons.Draw(t, "why")
			plainVerification.Reason = string(v.Reason)
		}
		for _, c := range []struct {
			name  string
			plain any
			got   []byte
		}{
			{"AppendPage", plainPage, api.AppendPage(nil, page)},
			{"AppendVerification", plainVerification, api.AppendVerification(nil, v)},
		} {
			want, err := api.Marshal(c.plain)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(c.got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	})
}

func TestAppendTimeIsFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := instant.Draw(t, "time").Add(time.Duration(rapid.Int64Range(0, 999_999).Draw(t, "ns")))
		at = at.In(time.FixedZone("", rapid.IntRange(-14*3600, 14*3600).Draw(t, "zone")))
		want := at.UTC().Format("2006-01-02T15:04:05.000Z")
		if got := string(api.AppendTime([]byte("x"), at)); got != "x"+want {
			t.Errorf("AppendTime = %s, want x%s", got, want)
		}
		var back api.Time
		if err := back.UnmarshalText([]byte(want)); err != nil || !time.Time(back).Equal(at.Truncate(time.Millisecond)) {
			t.Errorf("UnmarshalText(%s) = %v, %v", want, time.Time(back), err)
		}
	})
}

func TestAnswersThatAreNoSession(t *testing.T) {
	const times = `"created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z",` +
		`"last_active_at":"2026-01-01T00:00:00.000Z","expires_at":"2026-01-01T00:00:00.000Z"`
	for _, body := range []string{
		`{}`, `{"id":"a","status":"active",` + times + `}`, `{"id":"a","version":1,` + times + `}`,
		`{"version":1,"status":"active",` + times + `}`,
	} {
		var s api.Session
		if err := api.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Session("default", ""); err == nil {
			t.Errorf("%s became %+v", body, got)
		}
	}
	for _, body := range []string{
		``, `null{}`, `{"id":1}`, `{"id":"a","id":"b"}`, `{"created_at":"yesterday"}`, "{\"id\":\"\xff\"}",
	} {
		var s api.Session
		if err := api.Unmarshal([]byte(body), &s); err == nil {
			t.Errorf("%q was read", body)
		} else if strings.Contains(err.Error(), "yesterday") {
			t.Errorf("the error repeats the answer: %v", err)
		}
	}
}

// typical is a session as a shop would keep it.
func typical() *sessiond.Session {
	at := time.Date(2026, 11, 24, 13, 45, 0, 123e6, time.UTC)
	return &sessiond.Session{
		Tenant: "default", ID: "01936f1e-7a52-7c3e-9d41-5b8f0e2a6c11", Subject: "248289761001",
		Data:   jsontext.Value(`{"cart":[{"sku":"A-17","n":2},{"sku":"B-4","n":1}],"theme":"dark","csrf":"b7c1e0a94d"}`),
		Labels: map[string]string{"device": "laptop", "ip": "192.0.2.7", "client": "web"},
		Status: sessiond.StatusActive, CreatedAt: at, UpdatedAt: at, LastActiveAt: at, ExpiresAt: at.Add(12 * time.Hour),
		IdleTimeout: 30 * time.Minute, IdleExpiresAt: at.Add(30 * time.Minute), Version: 3,
		CreatedBy: sessiond.Actor{Issuer: "https://id.example.com", Sub: "shop", Client: "shop"},
	}
}

func TestAppendSessionAllocatesNothing(t *testing.T) {
	s, buf := typical(), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = api.AppendSession(buf[:0], s, "") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendSession(b *testing.B) {
	s, buf := typical(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = api.AppendSession(buf[:0], s, "")
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkMarshalSession(b *testing.B) {
	s := plain(typical(), "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := api.Marshal(s); err != nil {
			b.Fatal(err)
		}
	}
}
