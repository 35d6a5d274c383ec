package sessiond_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"sessiond.example/sessiond"
)

// smallExport is an export of three sessions and an end, in the order of their
// ids: a, b, c, d.
func smallExport(t testing.TB, keys sessiond.Sealer, p sessiond.ExportParams) string {
	t.Helper()
	there := inMemory(t, keys)
	for _, id := range []sessiond.ID{"a", "b", "c", "d"} {
		there.create(sessiond.CreateParams{
			ID: id, Subject: "alice", Labels: map[string]string{"k": "v"}, Data: data(`{"secret":"of ` + string(id) + `"}`),
		})
	}
	there.rotate("b", sessiond.RotateParams{})
	there.revoke("c", sessiond.RevokeParams{Note: "gone"})
	return there.export(p)
}

// failures imports and returns what was said of the lines that failed.
func (p *place) failures(text string) (res sessiond.ImportResult, failed []string, err error) {
	res, err = p.Import(p.ctx, strings.NewReader(text), sessiond.ImportParams{Failed: func(line int64, err error) {
		failed = append(failed, fmt.Sprint(line, ": ", err))
	}})
	return res, failed, err
}

// TestImportOfACutExport cuts an export everywhere.
func TestImportOfACutExport(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	text := smallExport(t, keys, sessiond.ExportParams{})
	for n := 0; n < len(text); n++ {
		if n > 120 && text[n-1] != '\n' && text[n] != '\n' && text[n+1] != '\n' && n%23 > 0 {
			continue // much the same
		}
		here := inMemory(t, keys)
		res, failed, err := here.failures(text[:n])
		if n == len(text)-1 { // only the last newline is missing
			wantErr(t, "without the last newline", err, nil)
			continue
		}
		header := strings.IndexByte(text, '\n')
		if !errors.Is(err, io.ErrUnexpectedEOF) && !(n <= header && errors.Is(err, sessiond.ErrInvalid)) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		whole := int64(strings.Count(text[:n], "\n"))
		if n > header && !strings.Contains(err.Error(), "line "+fmt.Sprint(whole)) &&
			!strings.Contains(err.Error(), "line "+fmt.Sprint(whole+1)) {
			t.Errorf("cut at %d: %v", n, err)
		}
		// A line that lacks only its newline counts.
		if got := int64(len(here.all())); len(failed) > 0 || got != res.Created || got > whole || got < whole-2 ||
			res.Lines != whole && text[n] != '\n' {
			t.Fatalf("cut at %d, after %d lines: %d sessions, %+v, %q", n, whole, got, res, failed)
		}
		rest, err := here.Import(t.Context(), strings.NewReader(text), sessiond.ImportParams{Skip: res.Lines})
		wantErr(t, "the whole", err, nil)
		if res.Created+rest.Created != 3 {
			t.Fatalf("cut at %d: %+v, then %+v", n, res, rest)
		}
	}
}

// TestImportRefusesLines: what is wrong with a line is told with its number and
// without its values, and the other lines are imported.
func TestImportRefusesLines(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	sealed, open := smallExport(t, keys, sessiond.ExportParams{}), smallExport(t, keys, sessiond.ExportParams{Open: true})
	line := func(text string, n int) string { return strings.Split(text, "\n")[n-1] }
	value := func(name string) string { // of line 2
		_, rest, _ := strings.Cut(line(sealed, 2), `"`+name+`":"`)
		v, _, _ := strings.Cut(rest, `"`)
		return v
	}
	for what, tt := range map[string]struct{ text, old, new, says string }{
		"unknown member":    {sealed, `"subject"`, `"subjekt"`, "/subjekt unknown member"},
		"case of a member":  {sealed, `"subject"`, `"Subject"`, "/Subject unknown member"},
		"duplicate":         {sealed, `"subject":"alice"`, `"subject":"alice","subject":"alice"`, "duplicate member"},
		"not JSON":          {sealed, `{"tenant"`, `{tenant`, "malformed"},
		"an array":          {sealed, line(sealed, 2), "[]", "malformed"},
		"empty":             {sealed, line(sealed, 2), "", "malformed"},
		"two on a line":     {sealed, line(sealed, 2), line(sealed, 2) + line(sealed, 2), "text after the value"},
		"invalid UTF-8":     {sealed, "alice", "al\xffice", "malformed"},
		"bad tenant":        {sealed, `"default"`, `"-replicas"`, "/tenant"},
		"bad id":            {sealed, `"id":"a"`, `"id":"sst_a"`, "/id"},
		"no id":             {sealed, `"id":"a",`, ``, "/id is required"},
		"bad subject":       {sealed, `"alice"`, `"\u202e"`, "/subject"},
		"subject no text":   {sealed, `"alice"`, `1`, "/subject must be a string"},
		"bad label":         {sealed, `{"k":"v"}`, `{"K":"v"}`, "/labels"},
		"null label":        {sealed, `{"k":"v"}`, `{"k":1}`, "/labels/k"},
		"no labels":         {sealed, `{"k":"v"}`, `[]`, "/labels must be an object"},
		"short hash":        {sealed, value("token_hash"), value("token_hash")[1:], "/token_hash"},
		"hash in hex":       {sealed, value("token_hash"), strings.Repeat("ab", 32), "/token_hash"},
		"zero hash":         {sealed, value("token_hash"), strings.Repeat("A", 43), "/token_hash"},
		"no hash":           {sealed, `"token_hash":"` + value("token_hash") + `"`, `"version":1`, "duplicate"},
		"short incarnation": {sealed, value("incarnation"), "AAAA", "/incarnation"},
		"bad time":          {sealed, `"created_at":"2`, `"created_at":"x`, "/created_at must be"},
		"old time":          {sealed, value("created_at"), "1969-12-31T23:59:59Z", "/created_at must be"},
		"created later":     {sealed, `"created_at":"` + value("created_at"), `"created_at":"2999-01-01T00:00:00Z`, "/updated_at"},
		"expires early":     {sealed, value("expires_at"), value("created_at"), "/expires_at"},
		"expires late":      {sealed, value("expires_at"), "9999-01-01T00:00:00.000Z", "/expires_at"},
		"negative idle":     {sealed, `"idle_timeout":1800`, `"idle_timeout":-1`, "/idle_timeout"},
		"fractional idle":   {sealed, `"idle_timeout":1800`, `"idle_timeout":1.5`, "/idle_timeout"},
		"huge idle":         {sealed, `"idle_timeout":1800`, `"idle_timeout":9223372036854775807`, "/idle_timeout"},
		"version 0":         {sealed, `"version":1,`, `"version":0,`, "/version"},
		"version -0":        {sealed, `"version":1,`, `"version":-0,`, "/version"},
		"huge version":      {sealed, `"version":1,`, `"version":9223372036854775808,`, "/version"},
		"version as text":   {sealed, `"version":1,`, `"version":"1",`, "/version"},
		"previous alone":    {sealed, `"token_hash"`, `"previous_token_hash":"` + value("token_hash") + `","token_hash"`, "/previous"},
		"key alone":         {open, `"data":{`, `"data_key":1,"data":{`, "/data_key"},
		"key too large":     {sealed, `"data_key":`, `"data_key":9`, "/data_key"},
		"two data":          {sealed, `"sealed_data"`, `"data":{},"sealed_data"`, "/data"},
		"data no object":    {open, `"data":{"secret":"of a"}`, `"data":"secret"`, "/data"},
		"large data":        {open, `"of a"`, `"` + strings.Repeat("x", 1<<20) + `"`, "/data"},
		"deep data":         {open, `"of a"`, strings.Repeat(`[`, 40) + strings.Repeat(`]`, 40), "nested"},
		"sealed no base64":  {sealed, `"sealed_data":"`, `"sealed_data":"=`, "/sealed_data"},
		"end of nothing":    {sealed, `"version":1,`, `"version":1,"end_note":"x",`, "/end_note"},
		"end and session":   {sealed, `"version":1,`, `"version":1,"ended_at":"2020-01-01T00:00:00Z",`, "/subject is not for this line"},
		// Lines that were moved or made up.
		"another id":     {sealed, `"id":"a"`, `"id":"other"`, "data can't be opened"},
		"another tenant": {sealed, `"tenant":"default","id":"a"`, `"tenant":"shop","id":"a"`, "data can't be opened"},
		"other data":     {sealed, value("sealed_data")[8:20], value("sealed_data")[9:21], "data can't be opened"},
		"too long":       {sealed, "alice", strings.Repeat("x", 3<<20), "longer than"},
	} {
		header, rest, _ := strings.Cut(tt.text, "\n")
		text := header + "\n" + strings.Replace(rest, tt.old, tt.new, 1)
		if text == tt.text || !strings.Contains(line(tt.text, 2), tt.old) {
			t.Fatalf("%s: nothing was replaced in line 2", what)
		}
		here := inMemory(t, keys)
		from := here.position()
		res, failed, err := here.failures(text)
		wantErr(t, what, err, nil)
		wantResult(t, what, res, sessiond.ImportResult{Created: 2, Same: 1, Failed: 1})
		if len(failed) != 1 || !strings.HasPrefix(failed[0], "2: ") || !strings.Contains(failed[0], tt.says) {
			t.Errorf("%s: %q, want %q", what, failed, tt.says)
		}
		for _, hidden := range []string{
			value("token_hash"), value("sealed_data"), "of a", "alice", strings.Repeat("x", 100), value("incarnation"),
		} {
			if strings.Contains(fmt.Sprint(failed), hidden) {
				t.Errorf("%s: %q shows %q", what, failed, hidden)
			}
		}
		here.wantTypes(from, sessiond.EventCreated, sessiond.EventCreated)
		if all := here.all(); len(all) != 2 {
			t.Errorf("%s: %d sessions", what, len(all))
		}
	}
}

// TestImportRefusesEnds looks at the lines of revoked sessions.
func TestImportRefusesEnds(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	text := smallExport(t, keys, sessiond.ExportParams{})
	for old, says := range map[string]struct{ new, says string }{
		`"end_reason":"revoked"`:  {`"end_reason":"idle"`, "/end_reason"},
		`"revoked"`:               {`"stolen"`, "/end_reason"},
		`"gone"`:                  {`"\n"`, "/end_note"},
		`,"end_reason"`:           {`,"version":2,"end_reason"`, "/version is not for this line"},
		`"end_reason":"revoked",`: {``, "/end_reason is required"},
		`"end_note":"gone"`:       {`"ended_by":{"sub":"x","x":"y"}`, "/ended_by"},
	} {
		_, failed, err := inMemory(t, keys).failures(strings.Replace(text, old, says.new, 1))
		if err != nil || len(failed) != 1 || !strings.HasPrefix(failed[0], "4: ") || !strings.Contains(failed[0], says.says) {
			t.Errorf("%s: %q, %v", says.new, failed, err)
		}
	}
}

// TestImportRefusesInputs: an input that is no export ends the import.
func TestImportRefusesInputs(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	text := smallExport(t, keys, sessiond.ExportParams{Source: "memory"})
	lines := strings.SplitAfter(text, "\n")
	header, trailer := lines[0], lines[5]
	for what, tt := range map[string]struct {
		text string
		err  error
		says string
	}{
		"no header":        {strings.Join(lines[1:], ""), sessiond.ErrInvalid, "line 1 is not the first line of an export"},
		"something else":   {"PK\x03\x04\n", sessiond.ErrInvalid, "not the first line of an export"},
		"long first line":  {strings.Repeat("x", 3<<20) + "\n" + lines[1], sessiond.ErrInvalid, "line 2 is not the first"},
		"newer":            {strings.Replace(text, `"version":1`, `"version":2`, 1), sessiond.ErrInvalid, "version 2, known is 1"},
		"member in header": {strings.Replace(text, `"sealed"`, `"signed"`, 1), sessiond.ErrInvalid, "line 1: "},
		"bad keys":         {strings.Replace(text, `"data_keys":[`, `"data_keys":[[1],`, 1), sessiond.ErrInvalid, "/data_keys"},
		"keys no array":    {strings.Replace(text, `"data_keys":[`, `"data_keys":{},"x":[`, 1), sessiond.ErrInvalid, "/data_keys"},
		"negative key":     {strings.Replace(text, `"data_keys":[`, `"data_keys":[-1,`, 1), sessiond.ErrInvalid, "/data_keys"},
		"line missing":     {header + strings.Join(lines[2:], ""), sessiond.ErrInvalid, "tells of 4 lines, but there are 3"},
		"line twice":       {header + lines[1] + strings.Join(lines[1:], ""), sessiond.ErrInvalid, "there are 5"},
		"after the end":    {text + lines[1], sessiond.ErrInvalid, "line 7 comes after the last line"},
		"twice":            {text + text, sessiond.ErrInvalid, "line 7 comes after the last line"},
		"end is false":     {strings.Replace(text, `"end":true`, `"end":false`, 1), sessiond.ErrInvalid, "/end must be true"},
		"bad end":          {strings.Replace(text, trailer, `{"end":true,"x":1}`+"\n", 1), sessiond.ErrInvalid, "line 6: "},
		"empty":            {"", io.ErrUnexpectedEOF, "cut off: unexpected EOF: it is empty"},
		"header only":      {header, io.ErrUnexpectedEOF, "after line 1"},
		"no end":           {strings.TrimSuffix(text, trailer), io.ErrUnexpectedEOF, "after line 5, session default/d"},
	} {
		_, failed, err := inMemory(t, keys).failures(tt.text)
		if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, %q", what, err, failed)
		}
	}
}

// TestImportHeader: the header comes before anything is written, and the keys in
// it are those that are needed.
func TestImportHeader(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	text := smallExport(t, keys, sessiond.ExportParams{Source: "memory"})
	here := inMemory(t, newKeys(t))
	refused := errors.New("refused")
	_, err := here.Import(t.Context(), strings.NewReader(text), sessiond.ImportParams{
		Header: func(h sessiond.ExportHeader) error {
			if h.Source != "memory" || !h.Sealed || h.ExportedAt.IsZero() || !slices.Equal(h.DataKeys, []uint32{keys.Primary()}) {
				t.Errorf("%+v", h)
			}
			return refused
		},
	})
	wantErr(t, "refused header", err, refused)
	if len(here.all()) != 0 {
		t.Error("something was imported")
	}
	// Without the key each line fails, and says which it is.
	res, failed, err := here.failures(text)
	wantResult(t, "without the key", res, sessiond.ImportResult{Same: 1, Failed: 3})
	if err != nil || len(here.all()) != 0 {
		t.Error(err)
	}
	for _, f := range failed {
		if !strings.Contains(f, fmt.Sprint("key ", keys.Primary())) {
			t.Error(f)
		}
	}
	// Sealed data is not taken for data in clear.
	res, _, err = inMemory(t, sessiond.NoSealing{}).failures(text)
	wantResult(t, "without sealing", res, sessiond.ImportResult{Same: 1, Failed: 3})
	wantErr(t, "without sealing", err, nil)
	// Data that can't be opened can't be exported open.
	lost := inMemory(t, keys)
	lost.create(sessiond.CreateParams{ID: "s", Data: data(`{"a":1}`)})
	m, err := sessiond.New(sessiond.Config{Store: lost.records, Sealer: newKeys(t)})
	if err != nil {
		t.Fatal(err)
	}
	done, err := m.Export(t.Context(), io.Discard, sessiond.ExportParams{Open: true})
	if err != nil || done.Failed != 1 || done.Changed != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestImportSealsAgain: what comes with an older key is sealed with the present one.
func TestImportSealsAgain(t *testing.T) {
	t.Parallel()
	old := newKeys(t)
	text := smallExport(t, old, sessiond.ExportParams{})
	added, primary, err := old.Add()
	if err != nil {
		t.Fatal(err)
	}
	promoted, err := added.Promote(primary)
	if err != nil {
		t.Fatal(err)
	}
	here := inMemory(t, promoted)
	here.importing(text)
	stats, err := here.Stats(t.Context())
	if err != nil || len(stats.DataKeys) != 1 || stats.DataKeys[primary] != 3 {
		t.Errorf("%+v, %v", stats, err)
	}
	if s := here.get("a"); string(s.Data) != `{"secret":"of a"}` {
		t.Errorf("%s", s.Data)
	}
}
