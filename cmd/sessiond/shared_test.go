package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/internal/testserver"
)

// sharedStores are empty stores that several servers may run on, by name.
var sharedStores = map[string]func(t *testing.T) (url string){
	"postgres": func(t *testing.T) string { return testserver.SharedPostgres(t).NewDatabase(t) },
	"redis":    func(t *testing.T) string { return testserver.SharedRedis(t).URL() + "?prefix=cmd" },
	"cluster":  func(t *testing.T) string { return testserver.SharedRedisCluster(t).URL() + "?prefix=cmd" },
}

// replicated are two servers, as processes, on one shared store.
type replicated struct {
	*issuer
	config string // file
	keyset string // file
	a, b   *process
	all    string // a credential with every permission

	database bool // the store is a PostgreSQL
}

// startReplicated prepares the store as an operator does, and starts the servers.
func startReplicated(t *testing.T, url, more string) *replicated {
	t.Helper()
	r := &replicated{issuer: newIssuer(t)}
	r.serve(t)
	r.keyset, _ = keysetFile(t)
	r.config = r.configFile(t, fmt.Sprintf("store: {url: %q}\nencryption: {keyset_file: %q}\n%s", url, r.keyset, more))
	if r.database = strings.HasPrefix(url, "postgres"); r.database {
		run(t, nil, "serve", "--config", r.config).want(t, 1, "sessiond migrate")
	}
	migrated := run(t, nil, "migrate", "--config", r.config)
	migrated.want(t, 0, "")
	r.a = startProcess(t, "serve", "--config", r.config)
	r.b = startProcess(t, "serve", "--config", r.config)
	r.a.waitReady()
	r.b.waitReady()
	r.all = r.token(t, permissionNames()...)
	return r
}

func (r *replicated) client(t *testing.T, p *process) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Server: p.api, Token: client.StaticToken(r.all)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSharedStoreServesAsOne(t *testing.T) {
	t.Parallel()
	for name, open := range sharedStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReplicated(t, open(t), "")
			r.checkEveryWriteIsSeen(t)
			r.checkRaces(t)
			r.checkOperators(t)
			r.checkTakeover(t)
		})
	}
}

// checkEveryWriteIsSeen does everything on one server and looks at the other.
func (r *replicated) checkEveryWriteIsSeen(t *testing.T) {
	t.Helper()
	a, b := r.a, r.b
	stream, stop := r.follow(t, b)
	defer stop()
	made := a.do("POST", "/sessions/", r.all, `{"id":"s1","subject":"alice","data":{"n":1}}`).want(t, 201)
	token := made.member(t, "token")
	got := b.do("GET", "/sessions/s1", r.all, "").want(t, 200)
	if got.header.Get("ETag") != made.header.Get("ETag") || !strings.Contains(got.body, `"data":{"n":1}`) {
		t.Errorf("read on the other server: %s", got.body)
	}
	b.do("PUT", "/sessions/s1", r.all, `{"data":{"n":2}}`, "If-Match: "+got.header.Get("ETag")).want(t, 200)
	a.do("PUT", "/sessions/s1", r.all, `{"data":{"n":3}}`, "If-Match: "+got.header.Get("ETag")).want(t, 412)
	verified := a.do("POST", "/verify", r.all, `{"token":"`+token+`"}`).want(t, 200)
	if !strings.Contains(verified.body, `"data":{"n":2}`) {
		t.Errorf("verified on the other server: %s", verified.body)
	}
	rotated := a.do("POST", "/sessions/s1/rotate", r.all, "").want(t, 200).member(t, "token")
	for secret, active := range map[string]string{token: `"active":false`, rotated: `"active":true`} {
		if got := b.do("POST", "/verify", r.all, `{"token":"`+secret+`"}`).want(t, 200); !strings.Contains(got.body, active) {
			t.Errorf("after the rotation: %s, want %s", got.body, active)
		}
	}
	if list := b.do("GET", "/sessions/?subject=alice", r.all, "").want(t, 200); !strings.Contains(list.body, `"id":"s1"`) {
		t.Errorf("list on the other server: %s", list.body)
	}
	a.eventually("the same gauge on both", func() bool {
		const gauge = `sessiond_sessions_active{tenant="default"}`
		return a.metric(gauge) == "1" && b.metric(gauge) == "1"
	})
	a.do("DELETE", "/sessions/s1", r.all, "").want(t, 204)
	b.do("GET", "/sessions/s1", r.all, "").want(t, 410)
	if got := b.do("POST", "/verify", r.all, `{"token":"`+rotated+`"}`); !strings.Contains(got.body, `"active":false`) {
		t.Errorf("after the end: %s", got.body)
	}
	for _, want := range []sessiond.EventType{
		sessiond.EventCreated, sessiond.EventUpdated, sessiond.EventRotated, sessiond.EventRevoked,
	} {
		if e := <-stream; e.Type != want || e.SessionID != "s1" {
			t.Errorf("event %+v, want %s", e, want)
		}
	}
}

// follow streams the events of a server. They are cut off after a while.
func (r *replicated) follow(t *testing.T, p *process) (events <-chan sessiond.Event, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	began, out, done := make(chan struct{}), make(chan sessiond.Event, 1000), make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		begin := sync.OnceFunc(func() { close(began) })
		defer begin()
		for batch, err := range r.client(t, p).Events(ctx, sessiond.EventParams{}) {
			if err != nil {
				return
			}
			begin()
			for _, e := range batch.Events {
				out <- e
			}
		}
	}()
	<-began
	return out, func() { cancel(); <-done }
}

// firstBatch is what a stream of events begins with.
func (r *replicated) firstBatch(t *testing.T, after sessiond.Position) sessiond.EventBatch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for batch, err := range r.client(t, r.b).Events(ctx, sessiond.EventParams{After: after}) {
		if err != nil {
			t.Fatal(err)
		}
		return batch
	}
	t.Fatal("no event stream")
	return sessiond.EventBatch{}
}

// checkRaces lets both servers write to one session.
func (r *replicated) checkRaces(t *testing.T) {
	t.Helper()
	r.a.do("POST", "/sessions/", r.all, `{"id":"race","data":{}}`).want(t, 201)
	const each = 20
	var wg sync.WaitGroup
	for n, p := range []*process{r.a, r.b} {
		wg.Go(func() {
			for i := range each {
				body := fmt.Sprintf(`{"data":{"%d-%d":true}}`, n, i)
				a := p.do("PATCH", "/sessions/race", r.all, body, "Content-Type: application/merge-patch+json")
				if a.status != http.StatusOK {
					t.Errorf("patch: %d %s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	var s struct {
		Version int64
		Data    map[string]bool
	}
	if err := json.Unmarshal([]byte(r.b.do("GET", "/sessions/race", r.all, "").want(t, 200).body), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Data) != 2*each || s.Version != 2*each+1 {
		t.Errorf("after %d patches: version %d, %d members", 2*each, s.Version, len(s.Data))
	}
}

// checkOperators does what operators do while both servers run.
func (r *replicated) checkOperators(t *testing.T) {
	t.Helper()
	doctor := run(t, nil, "doctor", "--config", r.config)
	if !strings.Contains(doctor.stdout, "servers on it: ") || strings.Count(doctor.stdout, "("+version+")") != 2 {
		t.Errorf("doctor shows no two servers:\n%s", doctor.stdout)
	}
	var keeps struct{ Class sessiond.Durability }
	if err := json.Unmarshal([]byte(r.a.get(r.a.ops+"/guarantee")), &keeps); err != nil || !keeps.Class.Valid() {
		t.Errorf("guarantee %+v, %v", keeps, err)
	}

	old := strings.Fields(succeed(t, "keyset", "list", r.keyset, "--config", r.config).stdout)
	added := strings.TrimSpace(succeed(t, "keyset", "add", r.keyset).stdout)
	succeed(t, "keyset", "promote", r.keyset, added, "--config", r.config)
	id, err := strconv.ParseUint(added, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{r.a, r.b} {
		p.eventually("the new key", func() bool {
			return p.metric(fmt.Sprintf(`sessiond_keyset_primary_info{key_id="%d"}`, id)) == "1"
		})
	}
	succeed(t, "reencrypt", "--config", r.config)
	first := old[4]                                           // KEY PRIMARY STATUS RECORDS, and the first row
	r.a.eventually("retirement of the old key", func() bool { // once the servers have told that they seal with the new one
		return run(t, nil, "keyset", "retire", r.keyset, first, "--config", r.config).code == 0
	})
	r.b.do("GET", "/sessions/race", r.all, "").want(t, 200)
	run(t, nil, "backup", "--config", r.config, "-").want(t, 1, "pebble:///dir")
	before := r.firstBatch(t, "")
	fenced := succeed(t, "fence", "--before", "now", "--reason", "restored", "--yes", "--config", r.config)
	if !strings.Contains(fenced.stdout, "1 ended") {
		t.Errorf("fence: %s", fenced.stdout)
	}
	after := r.firstBatch(t, before.Position)
	if want := r.database; after.Reset != want || !want && len(after.Events) == 0 {
		t.Errorf("a reader from before the fence: %+v", after)
	}
	r.a.do("GET", "/sessions/race", r.all, "").want(t, 410)
}

// checkTakeover kills one server after the other's start: whoever swept, expiries go on being told.
func (r *replicated) checkTakeover(t *testing.T) {
	t.Helper()
	c := startProcess(t, "serve", "--config", r.config)
	c.waitReady()
	for _, victim := range []*process{r.a, r.b} {
		victim.kill()
		events, stop := r.follow(t, c)
		began := time.Now()
		c.do("POST", "/sessions/", r.all, `{"expires_in":1}`).want(t, 201)
		for e := range events {
			if e.Type == sessiond.EventExpired {
				break
			}
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the expiry was told %v after the creation", took)
		}
		stop()
	}
	c.eventually("the end of what dead servers said of themselves", func() bool {
		return strings.Count(run(t, nil, "doctor", "--config", r.config).stdout, "("+version+")") == 1
	})
	if code := c.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
