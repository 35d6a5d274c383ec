package pgstore_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

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

// TestIndexes looks at the plans of prepared statements, which the server makes
// without knowing the values, at a size at which reading a whole table is dear.
func TestIndexes(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	fill(t, url, 50_000)
	c := connect(t, url)
	for _, set := range []string{"force_generic_plan", "force_custom_plan"} {
		exec1 := func(sql string) {
			if _, err := c.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%v in %s", err, sql)
			}
		}
		exec1("SET plan_cache_mode = " + set)
		exec1("SET jit = off")
		for _, st := range pgstore.Statements() {
			exec1("PREPARE p AS " + st.Text)
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
			rows, err := c.Query(t.Context(), "EXPLAIN ANALYZE EXECUTE p"+call)
			if err != nil {
				t.Fatalf("%s: %v", st.Name, err)
			}
			var plan []string
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				plan = append(plan, line)
			}
			if rows.Err() != nil {
				t.Fatalf("%s: %v", st.Name, rows.Err())
			}
			text := strings.Join(plan, "\n")
			t.Log(st.Name, set, text)
			for _, scan := range seqScan.FindAllString(text, -1) {
				t.Errorf("%s, %s: %s\n%s", st.Name, set, scan, text)
			}
			for _, index := range wantIndexes[st.Name] {
				if !strings.Contains(text, " using "+index+" ") {
					t.Errorf("%s, %s: does not use %s\n%s", st.Name, set, index, text)
				}
			}
			exec1("DEALLOCATE p")
		}
	}
}
