package sessiond_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
)

// FuzzImport: no line brings more than it says, and no error repeats it.
func FuzzImport(f *testing.F) {
	keys := sessiond.NoSealing{}
	for _, open := range []bool{true, false} {
		text := smallExport(f, keys, sessiond.ExportParams{Open: open})
		for line := range strings.Lines(text) {
			f.Add(line, false)
		}
	}
	f.Add(foreignLine("t", "data", `{}`, "subject", `"a"`, "created_at", `"2020-01-01T00:00:00Z"`), true)
	f.Add(`{"end":true,"lines":0}`, false)
	f.Add("{\"a\":\"\\ud800\"}", true)
	f.Fuzz(func(t *testing.T, line string, foreign bool) {
		e := newEnv(t)
		failed := ""
		p := sessiond.ImportParams{AcceptOld: true, Failed: func(_ int64, err error) { failed += err.Error() }}
		var res sessiond.ImportResult
		var err error
		if foreign {
			res, err = e.ImportForeign(e.ctx, strings.NewReader(line), p)
		} else {
			text := `{"format":"sessiond-export","version":1}` + "\n" + line
			res, err = e.Import(e.ctx, strings.NewReader(text), p)
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, sessiond.ErrInvalid) &&
			!errors.Is(err, sessiond.ErrMalformed) {
			t.Fatalf("%v", err)
		}
		if res.Created == 0 {
			return
		}
		sum := res
		sum.Lines = 0
		if res.Created > res.Lines || sum.Kept != 0 {
			t.Fatalf("%+v", res)
		}
		records, err := e.store.Scan(e.ctx, sessiond.Key{}, 100)
		if err != nil || int64(len(records)) != res.Created {
			t.Fatalf("%d records, %+v, %v", len(records), res, err)
		}
		for _, r := range records {
			if !sessiond.ValidTenant(r.Tenant) || !sessiond.ValidText(r.Subject) || r.Version < 1 ||
				r.TokenHash == (sessiond.TokenHash{}) || !r.ExpiresAt.After(r.CreatedAt) ||
				r.LastActiveAt.Before(r.CreatedAt) || r.LastActiveAt.After(time.Now()) || r.IdleTimeout < 0 ||
				r.Data != nil && !json.Valid(r.Data) {
				t.Fatalf("%+v", r)
			}
			if _, err := sessiond.ParseID(string(r.ID)); err != nil {
				t.Fatal(err)
			}
		}
		if failed != "" && len(failed) > 4096 {
			t.Fatalf("%d bytes of errors", len(failed))
		}
	})
}
