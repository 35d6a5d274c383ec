package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
)

// A moved is the directory of a server that has been backed up, has gone on, and
// has lost its store.
type moved struct {
	dir, backup string
	token       map[string]sessiond.Token
}

// loseStore makes sessions kept, revoked and erased, takes a backup, ends all but
// kept, and removes the store. Events go to events.jsonl, as watch prints them.
func loseStore(t *testing.T) *moved {
	t.Helper()
	m := &moved{dir: t.TempDir(), token: make(map[string]sessiond.Token)}
	m.backup = filepath.Join(m.dir, "backup.tar")
	s := startDev(t, m.dir)
	c := newClient(t, s, m.dir)
	for _, id := range []string{"kept", "revoked", "erased", "before"} {
		_, token, err := c.Create(t.Context(), sessiond.CreateParams{
			ID: sessiond.ID(id), Subject: "watched", Data: jsontext.Value(`{"id":"` + id + `"}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		m.token[id] = token
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Revoke(t.Context(), "before", sessiond.RevokeParams{}))
	r := succeed(t, "backup", "--data", m.dir, m.backup)
	if !strings.Contains(r.stderr, devKeysetFile) || !strings.Contains(r.stderr, "not in the backup") {
		t.Errorf("backup printed %q", r.stderr)
	}
	info, err := os.Stat(m.backup)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	run(t, nil, "backup", "--data", m.dir, m.backup).want(t, 1, "exists and was left")

	w := startWatch(t, []string{"SESSIOND_SERVER=" + s.api, "SESSIOND_TOKEN=" + fullToken(t, m.dir)}, "--subject", "watched")
	n := 0
	s.eventually("the watch", func() bool { // nothing else tells when it has begun
		n++
		_, _, err := c.Create(t.Context(), sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("new-", n)), Subject: "watched"})
		must(err)
		return len(w.events(t)) > 0
	})
	must(c.Revoke(t.Context(), "revoked", sessiond.RevokeParams{Reason: sessiond.EndSecurity, Note: "stolen"}))
	must(c.Revoke(t.Context(), "erased", sessiond.RevokeParams{Erase: true}))
	must(c.Revoke(t.Context(), "new-1", sessiond.RevokeParams{}))
	s.eventually("the last event", func() bool { return w.has(t, "session.revoked new-1") })
	w.stop()
	<-w.code
	must(os.WriteFile(filepath.Join(m.dir, "events.jsonl"), []byte(w.stdout.String()), 0o600))

	// While the server runs, and after, the store is in the way.
	run(t, nil, "restore", "--data", m.dir, m.backup).want(t, 1, "stop the server")
	if s.end() != 0 {
		t.Errorf("exit code %d", s.code)
	}
	run(t, nil, "restore", "--data", m.dir, m.backup).want(t, 1, "holds a store")
	must(os.Rename(filepath.Join(m.dir, devStoreDir), filepath.Join(m.dir, "lost")))
	return m
}

// statuses are the statuses of sessions once a server runs on the restored store.
func (m *moved) statuses(t *testing.T) map[string]string {
	t.Helper()
	s := startDev(t, m.dir)
	defer s.end()
	c := newClient(t, s, m.dir)
	statuses := make(map[string]string)
	for id, token := range m.token {
		got, err := c.Get(t.Context(), sessiond.ID(id))
		var ended *sessiond.EndedError
		switch {
		case errors.Is(err, sessiond.ErrNotFound):
			statuses[id] = "gone"
		case errors.As(err, &ended):
			statuses[id] = string(ended.Session.EndReason)
		case err != nil:
			t.Fatal(err)
		case string(got.Data) != `{"id":"`+id+`"}`:
			t.Errorf("%s has data %s", id, got.Data)
		default:
			statuses[id] = "live"
		}
		v, err := c.Verify(t.Context(), token, sessiond.VerifyParams{})
		if err != nil || v.Active != (statuses[id] == "live") {
			t.Errorf("%s, which is %s: verified %v, %v", id, statuses[id], v.Active, err)
		}
	}
	return statuses
}

// TestRestoreAfterRevocations restores a backup that has sessions which were ended
// after it was made.
func TestRestoreAfterRevocations(t *testing.T) {
	t.Parallel()
	m := loseStore(t)
	events := filepath.Join(m.dir, "events.jsonl")
	for _, tt := range []struct {
		name string
		args []string
		want map[string]string
		says string
	}{
		{"by default", nil, map[string]string{
			"kept": "restored", "revoked": "restored", "erased": "restored", "before": "revoked",
		}, "3 sessions ended with reason restored"},
		{"with revocations", []string{"--revocations", events}, map[string]string{
			"kept": "live", "revoked": "security", "erased": "gone", "before": "revoked",
		}, "1 sessions named that the backup does not have"},
		{"undone", []string{"--accept-undone-revokes"}, map[string]string{
			"kept": "live", "revoked": "live", "erased": "live", "before": "revoked",
		}, "live again"},
	} {
		r := succeed(t, append([]string{"restore", "--data", m.dir, m.backup}, tt.args...)...)
		if !strings.Contains(r.stdout, tt.says) {
			t.Errorf("%s: printed %q", tt.name, r.stdout)
		}
		if got := m.statuses(t); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if err := os.RemoveAll(filepath.Join(m.dir, devStoreDir)); err != nil {
			t.Fatal(err)
		}
	}

	// What is wrong leaves nothing.
	bad := filepath.Join(m.dir, "bad")
	for _, tt := range []struct{ text, want string }{
		{"nonsense\n", "line 1 is not an event"},
		{`{"session_id":"kept"}` + "\n" + `{"session":"kept"}` + "\n", "line 2 is not an event"},
		{`{"tenant":"A!","session_id":"kept"}` + "\n", "names no tenant"},
		{`{"session_id":"kept","session_id":"kept"}` + "\n", "line 1 is not an event"},
		{`{"session_id":""}` + "\n", "names no session_id"},
		{`{"type":"session.stolen","session_id":"kept"}` + "\n", "unknown type"},
		{`{"session_id":"` + strings.Repeat("x", 20<<10) + `"}`, "longer than"},
	} {
		if err := os.WriteFile(bad, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, nil, "restore", "--data", m.dir, m.backup, "--revocations", bad).want(t, 1, tt.want)
		if _, err := os.Stat(filepath.Join(m.dir, devStoreDir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a store is there: %v", tt.want, err)
		}
	}
	archive, err := os.ReadFile(m.backup)
	if err != nil {
		t.Fatal(err)
	}
	archive[bytes.LastIndex(archive, []byte("[Options]"))] ^= 1
	if err := os.WriteFile(bad, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "restore", "--data", m.dir, bad).want(t, 1, bad+": ")
	run(t, nil, "restore", "--data", m.dir, filepath.Join(m.dir, "missing")).want(t, 1, "missing")

	// Without the keys nothing could be read.
	if err := os.Rename(filepath.Join(m.dir, devKeysetFile), filepath.Join(m.dir, "away")); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "restore", "--data", m.dir, m.backup).want(t, 1, "Put the keyset file")
	succeed(t, "keyset", "create", filepath.Join(m.dir, devKeysetFile))
	if r := succeed(t, "restore", "--data", m.dir, m.backup, "--accept-undone-revokes"); !strings.Contains(
		r.stderr, "3 records need key") {
		t.Errorf("printed %q", r.stderr)
	}
}

// TestBackupOffline has no server, and writes to stdout.
func TestBackupOffline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, nil, "backup", "--data", dir, "-").want(t, 1, "no store")
	s := startDev(t, dir)
	createMany(t, newClient(t, s, dir), 3)
	s.end()
	r := succeed(t, "backup", "--data", dir, "-")
	store := filepath.Join(dir, devStoreDir)
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader(r.stdout), stdout: &stdout, stderr: &stderr}
	if code := p.run(t.Context(), []string{"restore", "--data", dir, "-"}); code != 0 {
		t.Fatalf("exit code %d, stderr %s", code, &stderr)
	}
	if !strings.Contains(stdout.String(), "3 sessions ended") {
		t.Errorf("printed %s", &stdout)
	}
	if names, err := filepath.Glob(filepath.Join(store, "sessiond-*")); err != nil || len(names) > 0 {
		t.Errorf("left behind %v, %v", names, err)
	}
}

// TestBackupHasWhatWasAcknowledged kills the server right after the backup.
func TestBackupHasWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startProcess(t, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir)
	s.waitReady()
	c := newClient(t, &s.running, dir)
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 2 { // others, which may or may not be in it
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := c.Create(t.Context(), sessiond.CreateParams{}); err != nil {
					return
				}
			}
		})
	}
	ids := createMany(t, c, 300)
	file := filepath.Join(dir, "backup.tar")
	succeed(t, "backup", "--data", dir, file)
	s.kill()
	stop()
	wg.Wait()
	if err := os.RemoveAll(filepath.Join(dir, devStoreDir)); err != nil {
		t.Fatal(err)
	}
	succeed(t, "restore", "--data", dir, file, "--accept-undone-revokes")
	again := startDev(t, dir)
	wantData(t, newClient(t, again, dir), ids)
}

func TestFence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	c := newClient(t, s, dir)
	old := createMany(t, c, 20)
	time.Sleep(5 * time.Millisecond)
	got, err := c.Get(t.Context(), old[len(old)-1])
	if err != nil {
		t.Fatal(err)
	}
	line := got.CreatedAt
	for _, id := range old { // the last to be made is not the last in the list
		if got, err = c.Get(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if got.CreatedAt.After(line) {
			line = got.CreatedAt
		}
	}
	line = line.Add(time.Millisecond)
	newer := createMany(t, c, 2)
	before := line.Format("2006-01-02T15:04:05.000Z")

	run(t, nil, "fence", "--data", dir, "--before", before).want(t, 1, "nothing was done")
	run(t, nil, "fence", "--data", dir).want(t, 2, "--before")
	run(t, nil, "fence", "--data", dir, "--before", "yesterday").want(t, 2, "--before")
	run(t, nil, "fence", "--data", dir, "--before", before, "--yes", "--reason", "logout").want(t, 1, "/reason")
	r := succeed(t, "fence", "--data", dir, "--before", before, "--yes", "--reason", "security", "--note", "leak")
	if !strings.Contains(r.stdout, "20 ended") {
		t.Errorf("printed %q", r.stdout)
	}
	var ended *sessiond.EndedError
	if _, err := c.Get(t.Context(), old[0]); !errors.As(err, &ended) || ended.Session.EndReason != sessiond.EndSecurity {
		t.Errorf("an old session: %v", err)
	}
	wantData(t, c, newer)

	// Offline, with a confirmation.
	s.end()
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader("yes\n"), stdout: &stdout, stderr: &stderr}
	if code := p.run(t.Context(), []string{"fence", "--data", dir, "--before", "now"}); code != 0 ||
		!strings.Contains(stdout.String(), "2 ended") {
		t.Errorf("exit code %d, stdout %s, stderr %s", code, &stdout, &stderr)
	}
}

// TestAdminNeedsTheOwner keeps another user from leaving files in the store.
func TestAdminNeedsTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 { // only root can give a directory away
		if err := checkOwner("/"); err == nil || !strings.Contains(err.Error(), "belongs to user 0") {
			t.Error(err)
		}
		return
	}
	dir := t.TempDir()
	startDev(t, dir).end()
	store := filepath.Join(dir, devStoreDir)
	if err := os.Chown(store, 12345, -1); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"migrate"}, {"backup", "-"}, {"reencrypt"}, {"restore", filepath.Join(dir, "dev.json")}} {
		run(t, nil, append(args, "--data", dir)...).want(t, 1, "belongs to user 12345")
	}
}
