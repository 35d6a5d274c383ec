package main

import (
	"testing"

	"sessiond.example/sessiond"
)

func FuzzParseRevocation(f *testing.F) {
	for _, line := range []string{
		`{"session_id":"a"}`,
		`{"tenant":"other","session_id":"a"}`,
		`{"id":"x.1","type":"session.revoked","time":"2026-01-31T12:00:00.000Z","session_id":"a","subject":"","version":2,` +
			`"reason":"logout","note":"n","actor":{"sub":"s","client":"c"},"request_id":"r"}`,
		`{"type":"session.created","session_id":"a"}`, `{`, `null`, `[]`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, end, err := parseRevocation(line, sessiond.DefaultTenant)
		if err != nil || !end {
			return
		}
		if _, err := sessiond.ParseID(r.SessionID); err != nil || !sessiond.ValidTenant(r.Tenant) {
			t.Errorf("%q: %+v", line, r)
		}
	})
}
