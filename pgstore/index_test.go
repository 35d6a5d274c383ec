package pgstore_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sessiond.example/sessiond/pgstore"
)

// fill makes n sessions of 1,000 subjects in one tenant, every third of them ended, and
// as many events.
func fill(t testing.TB, url string, n int) {
	t.Helper()
	exec(t, url, fmt.Sprintf(`INSERT INTO sessiond.session
		SELECT 'acme', 's' || i, '\x00', 1, 1, 'subject-' || i %% 1000, '{"k":"v"}', '\x01', 7, i, i, i, 4e12, 0, '', '',
			'\x02', NULL, NULL, NULL, CASE WHEN i %% 3 = 0 THEN i END, '', '', '', '', 4e12
		FROM generate_series(1, %d) i`, n),
		fmt.Sprintf(`INSERT INTO sessiond.event
			(told_at, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id)
		SELECT i, 'acme', 's' || i, 'e' || i, 'session.created', i, '', 1, '', '', '', '', ''
		FROM generate_series(1, %d) i`, n),
		"VACUUM ANALYZE sessiond.session", "VACUUM ANALYZE sessiond.event", "ANALYZE sessiond.delta")
}

// literals are values for the parameters of any statement.
var literals = map[string]string{
	"low": "0", "skew": "0", "tenant": "'acme'", "id": "'s77'", "subject": "'subject-7'",
	"tenants": "'{acme}'", "ids": "'{s77}'", "before_at": "1000000", "before_id": "'z'", "from_at": "0",
	"expires_before": "9e15", "budget": "2000", "most": "50", "lock": "1", "retention": "1", "event_retention": "1",
	"keep": "10", "evict": "true", "after": "NULL", "xmax": "'9999999'", "running": "'{}'",
	"seen": "'9999999:9999999:'", "until": "NULL", "at": "NULL", "status": "''", "revision": "1", "version": "1",
	"until_running": "'{}'", "incarnation": `'\x00'`, "keep_data": "true", "live": "true", "moved": "NULL", "labels": "NULL",
}

// wantIndexes are those that give a statement its rows in order, so that it need not read more
// than it returns.
var wantIndexes = map[string][]string{
	"sessiond_get":          {"session_pkey"},
	"sessiond_list_false_0": {"session_live"},
	"sessiond_list_false_1": {"session_ended"},
	"sessiond_list_false_2": {"session_live", "session_ended"},
	"sessiond_list_true_0":  {"session_subject_live"},
	"sessiond_list_true_1":  {"session_subject_ended"},
	"sessiond_list_true_2":  {"session_subject_live", "session_subject_ended"},
	"sessiond_scan":         {"session_pkey"},
	"sessiond_expire":       {"session_due"},
	"sessiond_remove":       {"session_retained"},
	"sessiond_look":         {"session_due", "session_retained", "event_pkey"},
	"sessiond_trim":         {"event_pkey"},
	"sessiond_events":       {"event_pkey", "event_txid"},
	"sessiond_news":         {"event_txid"},
}

var seqScan = regexp.MustCompile(`Seq Scan on (session|event)\b.*`)

// TestIndexes looks at the plans of the statements: made without knowing the values, as a store
// has them made, and with them, as behind a pooler; and made when the tables were empty.
func TestIndexes(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{false, true} {
		url := newDatabase(t)
		if full {
			fill(t, url, 50_000)
			checkPlans(t, connect(t, url), "by values")
		}
		c, err := open(t, url, nil).Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkPlans(t, c.Conn(), fmt.Sprintf("full %t", full))
		c.Release()
	}
}

func checkPlans(t *testing.T, c *pgx.Conn, which string) {
	for _, st := range pgstore.Statements() {
		if _, err := c.Exec(t.Context(), "PREPARE p AS "+st.Text); err != nil {
			t.Fatalf("%v in %s", err, st.Text)
		}
		var values []string
		for _, p := range st.Params {
			v, ok := literals[p]
			if !ok {
				v = "NULL"
			}
			values = append(values, v)
		}
		call := ""
		if len(values) > 0 {
			call = "(" + strings.Join(values, ", ") + ")"
		}
		rows, err := c.Query(t.Context(), "EXPLAIN EXECUTE p"+call)
		if err != nil {
			t.Fatalf("%s: %v", st.Name, err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", st.Name, err)
		}
		plan := strings.Join(lines, "\n")
		for _, scan := range seqScan.FindAllString(plan, -1) {
			t.Errorf("%s, %s: %s\n%s", st.Name, which, scan, plan)
		}
		for _, index := range wantIndexes[st.Name] {
			if !strings.Contains(plan, " using "+index+" ") {
				t.Errorf("%s, %s: does not use %s\n%s", st.Name, which, index, plan)
			}
		}
		if _, err := c.Exec(t.Context(), "DEALLOCATE p"); err != nil {
			t.Fatal(err)
		}
	}
}
