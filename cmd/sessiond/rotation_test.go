package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/keyset"
)

// newClient is a client of s with every permission.
func newClient(t *testing.T, s *running, dir string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Server: s.api, Token: client.StaticToken(fullToken(t, dir))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fullToken is an access token of sessiond dev with every permission.
func fullToken(t *testing.T, dir string) string {
	t.Helper()
	return devToken(t, dir, "--permissions", strings.Join(permissionNames(), ","))
}

// createMany creates sessions with data, several at a time, and returns their ids.
func createMany(t *testing.T, c *client.Client, n int) []sessiond.ID {
	t.Helper()
	var wg sync.WaitGroup
	ids := make([]sessiond.ID, n)
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				s, _, err := c.Create(t.Context(), sessiond.CreateParams{Data: jsontext.Value(fmt.Sprintf(`{"n":%d}`, i))})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = s.ID
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return ids
}

// wantData fails the test unless each session has the data that createMany gave it.
func wantData(t *testing.T, c *client.Client, ids []sessiond.ID) {
	t.Helper()
	for i, id := range ids {
		s, err := c.Get(t.Context(), id)
		if err != nil || string(s.Data) != fmt.Sprintf(`{"n":%d}`, i) || s.Version != 1 {
			t.Fatalf("session %d: %+v, %v", i, s, err)
		}
	}
}

// succeed runs a command that must succeed and returns what it printed.
func succeed(t *testing.T, args ...string) result {
	t.Helper()
	r := run(t, nil, args...)
	if r.code != 0 {
		t.Fatalf("%v: exit code %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
	}
	return r
}

// primaryKey is the primary key of a keyset file.
func primaryKey(t *testing.T, file string) string {
	t.Helper()
	k, err := keyset.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(k.Primary())
}

// TestKeyRotationUnderLoad takes a key from add to retire while requests are served,
// and wants none of them to fail.
func TestKeyRotationUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, devKeysetFile)
	s := startDev(t, dir)
	c := newClient(t, s, dir)
	ids := createMany(t, c, 300)
	before := primaryKey(t, file)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var requests atomic.Int64
	for w := range 3 {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				id := ids[i%len(ids)]
				_, err := c.Get(t.Context(), id)
				if err == nil {
					var made *sessiond.Session
					if made, _, err = c.Create(t.Context(), sessiond.CreateParams{Data: jsontext.Value(`{"x":1}`)}); err == nil {
						_, err = c.Update(t.Context(), made.ID, sessiond.UpdateParams{Data: jsontext.Value(`{"x":2}`)})
					}
				}
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				requests.Add(3)
			}
		})
	}
	added := strings.TrimSpace(succeed(t, "keyset", "add", file).stdout)
	run(t, nil, "keyset", "retire", file, before, "--data", dir).want(t, 1, "primary")
	succeed(t, "keyset", "promote", file, added, "--data", dir)
	run(t, nil, "keyset", "retire", file, before, "--data", dir).want(t, 1, "reencrypt")
	if r := succeed(t, "reencrypt", "--data", dir); !strings.Contains(r.stdout, "key "+added+", 0 failed") {
		t.Errorf("reencrypt printed %q", r.stdout)
	}
	if r := succeed(t, "keyset", "list", file, "--data", dir); !hasRow(r.stdout, before, "no", "enabled", "0") {
		t.Errorf("listed\n%s", r.stdout)
	}
	if r := succeed(t, "keyset", "retire", file, before, "--data", dir); !strings.Contains(r.stderr, "backups") {
		t.Errorf("retire warned %q", r.stderr)
	}
	time.Sleep(50 * time.Millisecond)
	stop()
	wg.Wait()
	if n := requests.Load(); n < 30 {
		t.Errorf("only %d requests were made meanwhile", n)
	}
	if r := succeed(t, "keyset", "list", file); strings.Contains(r.stdout, before) || !hasRow(r.stdout, added, "yes", "enabled") {
		t.Errorf("listed\n%s", r.stdout)
	}
	wantData(t, c, ids)

	// And after a restart, which knows the new key only.
	if s.end() != 0 {
		t.Errorf("exit code %d", s.code)
	}
	s = startDev(t, dir)
	wantData(t, newClient(t, s, dir), ids)
}

// hasRow reports whether a table has a row of these cells.
func hasRow(table string, cells ...string) bool {
	for line := range strings.Lines(table) {
		if strings.Join(strings.Fields(line), " ") == strings.Join(cells, " ") {
			return true
		}
	}
	return false
}

// TestReencryptAfterKill kills the server in the middle, and has the rest done by
// the command alone.
func TestReencryptAfterKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, devKeysetFile)
	s := startProcess(t, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir)
	s.waitReady()
	ids := createMany(t, newClient(t, &s.running, dir), 1200)
	before := primaryKey(t, file)
	added := strings.TrimSpace(succeed(t, "keyset", "add", file).stdout)
	succeed(t, "keyset", "promote", file, added, "--data", dir)
	beforeID, err := strconv.ParseUint(before, 10, 32)
	if err != nil {
		t.Fatal(err)
	}

	cut := make(chan result, 1)
	go func() { cut <- run(t, nil, "reencrypt", "--data", dir, "--pace", "500") }()
	admin, err := dialAdmin(t.Context(), filepath.Join(dir, devStoreDir))
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("the first batch", func() bool {
		use, err := admin.keyUse(t.Context())
		k, _ := use.find(uint32(beforeID))
		return err == nil && k.Records <= 700
	})
	run(t, nil, "reencrypt", "--data", dir).want(t, 1, "under way")
	s.kill()
	if err := admin.close(); err != nil {
		t.Error(err)
	}
	(<-cut).want(t, 1, "run the command again")

	// The killed process has left its socket behind.
	if _, err := os.Stat(filepath.Join(dir, devStoreDir, socketName)); err != nil {
		t.Error(err)
	}
	r := succeed(t, "keyset", "list", file, "--data", dir)
	if hasRow(r.stdout, before, "no", "enabled", "0") || hasRow(r.stdout, before, "no", "enabled", "1200") {
		t.Errorf("the walk was not cut off:\n%s", r.stdout)
	}
	succeed(t, "reencrypt", "--data", dir)
	succeed(t, "keyset", "retire", file, before, "--data", dir)
	again := startDev(t, dir)
	wantData(t, newClient(t, again, dir), ids[:200])
}

// TestUndecryptable has a session whose key is gone, and others.
func TestUndecryptable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, devKeysetFile)
	s := startDev(t, dir)
	c := newClient(t, s, dir)
	bad := createMany(t, c, 1)[0]
	lost := primaryKey(t, file)
	added := strings.TrimSpace(succeed(t, "keyset", "add", file).stdout)
	succeed(t, "keyset", "promote", file, added, "--data", dir)
	good := createMany(t, c, 2)
	succeed(t, "keyset", "retire", file, lost, "--unchecked")
	use := reload(t, dir)
	if k, _ := use.find(use.Primary); k.Records != 2 || len(use.Keys) != 2 || use.Keys[1].Status != keyMissing {
		t.Errorf("%+v", use)
	}

	a := s.do("GET", "/sessions/"+string(bad), fullToken(t, dir), "").want(t, http.StatusInternalServerError)
	if a.member(t, "type") != "urn:sessiond:problem:internal" || strings.Contains(a.body, lost) {
		t.Errorf("answered %s", a.body)
	}
	wantData(t, c, good)
	resp, err := http.Get(s.ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(metrics), "\nsessiond_data_open_failures_total 1\n") {
		t.Errorf("the failure is not counted: %v", err)
	}
	r := run(t, nil, "reencrypt", "--data", dir)
	r.want(t, 1, "1 sessions can't be opened")
	if r := succeed(t, "keyset", "list", file, "--data", dir); !hasRow(r.stdout, lost, "no", "missing", "1") {
		t.Errorf("listed\n%s", r.stdout)
	}
	if strings.Contains(s.stderr.String(), `{\"n\"`) {
		t.Error("the log shows data")
	}
}

// reload has the server load its keyset file.
func reload(t *testing.T, dir string) keyUse {
	t.Helper()
	admin, err := dialAdmin(t.Context(), filepath.Join(dir, devStoreDir))
	if err != nil {
		t.Fatal(err)
	}
	use, err := admin.reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.close(); err != nil {
		t.Fatal(err)
	}
	return use
}

func TestKeysetCommandsRefuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "keyset.json")
	succeed(t, "keyset", "create", file)
	id := primaryKey(t, file)
	run(t, nil, "keyset", "promote", file, id).want(t, 2, "--unchecked")
	run(t, nil, "keyset", "retire", file, id).want(t, 2, "--unchecked")
	run(t, nil, "keyset", "promote", file, "x").want(t, 2, "not a key id")
	run(t, nil, "keyset", "promote", file, "1", "--unchecked").want(t, 1, "no key 1")
	run(t, nil, "keyset", "retire", file, id, "--unchecked").want(t, 1, "promote another key first")
	run(t, nil, "keyset", "add", filepath.Join(dir, "missing")).want(t, 1, "missing")
	run(t, nil, "keyset", "list", filepath.Join(dir, "missing")).want(t, 1, "keyset create")
	run(t, nil, "reencrypt").want(t, 2, "--config")
	run(t, nil, "reencrypt", "--data", dir).want(t, 1, "no store")
	run(t, nil, "reencrypt", "--data", dir, "--pace", "-1").want(t, 2, "--pace")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "keyset", "add", file).want(t, 1, "chmod 600")

	other := t.TempDir()
	otherFile := filepath.Join(other, "other.json")
	succeed(t, "keyset", "create", otherFile)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "keyset", "list", otherFile, "--data", dir).want(t, 1, "not the keyset file of the configuration")
}

// TestKeysetEditsAreSerialized has many commands change one file at a time, through a
// link.
func TestKeysetEditsAreSerialized(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "keyset.json"), filepath.Join(dir, "link.json")
	succeed(t, "keyset", "create", file)
	if err := os.Symlink("keyset.json", link); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { run(t, nil, "keyset", "add", link).want(t, 0, "") })
	}
	wg.Wait()
	k, err := keyset.Load(file)
	if err != nil || len(k.Keys()) != 9 {
		t.Errorf("%d keys, %v", len(k.Keys()), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
}

// TestAdminSocketLongPath has a directory whose socket has a name longer than an address can be.
func TestAdminSocketLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := startDev(t, dir)
	socket := filepath.Join(dir, devStoreDir, socketName)
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if r := succeed(t, "migrate", "--data", dir); !strings.Contains(r.stdout, "layout version 1") {
		t.Errorf("printed %q", r.stdout)
	}
	if use := reload(t, dir); len(use.Keys) != 1 {
		t.Errorf("%+v", use)
	}
	s.end()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
	if r := succeed(t, "migrate", "--data", dir, "--finalize"); !strings.Contains(r.stdout, "layout version 1") {
		t.Errorf("printed %q", r.stdout)
	}
}
