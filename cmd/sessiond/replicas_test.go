package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/redisstore"
)

// keysetFile makes a keyset file and opens it.
func keysetFile(t *testing.T) (path string, file *keyset.File) {
	t.Helper()
	path = t.TempDir() + "/keyset.json"
	k, err := keyset.Create()
	if err == nil {
		err = k.WriteFile(path)
	}
	if err == nil {
		file, err = keyset.OpenFile(path, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, file
}

func TestReplicasKnowOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		listed := func() []replica {
			t.Helper()
			all, err := replicas(t.Context(), store)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		path, keys := keysetFile(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		r := &registration{store: store, keys: keys, logger: slog.New(slog.DiscardHandler)}
		go func() { done <- r.run(ctx) }()
		_, otherKeys := keysetFile(t)
		dying, kill := context.WithCancelCause(t.Context())
		other := &registration{store: store, keys: otherKeys, logger: slog.New(slog.DiscardHandler)}
		if err := other.beat(dying); err != nil {
			t.Fatal(err)
		}
		kill(nil) // it never beats again
		synctest.Wait()
		if all := listed(); len(all) != 2 {
			t.Fatalf("%d replicas, want 2: %+v", len(all), all)
		}
		if _, ok := loaded(listed(), keys.Keyset().Primary()); ok {
			t.Error("a key counts as loaded by all that only one has")
		}

		time.Sleep(time.Minute)
		all := listed()
		if len(all) != 1 || all[0].Primary != keys.Keyset().Primary() || all[0].Version != version || all[0].Host == "" {
			t.Fatalf("after a minute: %+v", all)
		}

		var added uint32
		err := editKeyset(path, func(k *keyset.Keyset) (next *keyset.Keyset, err error) {
			next, added, err = k.Add()
			return next, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Reload(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * replicaBeat)
		if all := listed(); !slices.Contains(all[0].Keys, added) {
			t.Errorf("the replica has loaded key %d and tells of %v", added, all[0].Keys)
		}

		// A replica whose session was swept away, after the store was out of reach, comes back.
		if err := store.Erase(t.Context(), r.key, func(time.Time, *sessiond.Record) ([]sessiond.Event, error) {
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * replicaBeat)
		if all := listed(); len(all) != 1 {
			t.Errorf("%d replicas after the erasure, want 1", len(all))
		}

		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if all := listed(); len(all) != 0 {
			t.Errorf("replicas after the end: %+v", all)
		}
	})
}

func TestReplicasAreNobodysSessions(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	defer store.Close()
	_, keys := keysetFile(t)
	r := &registration{store: store, keys: keys, logger: slog.New(slog.DiscardHandler)}
	if err := r.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := m.Stats(t.Context())
	if err != nil || len(stats.Active) != 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if _, err := m.Fence(t.Context(), sessiond.FenceParams{Before: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	if done, err := m.Export(t.Context(), &export, sessiond.ExportParams{}); err != nil || done.Seen != 0 ||
		strings.Contains(export.String(), replicaTenant) {
		t.Errorf("export: %+v, %v\n%s", done, err, &export)
	}
	if all, err := replicas(t.Context(), store); err != nil || len(all) != 1 {
		t.Errorf("after a fence: %+v, %v", all, err)
	}
}

// TestPromoteAsksEveryServer has one server of two that has not loaded the key.
func TestPromoteAsksEveryServer(t *testing.T) {
	t.Parallel()
	url := testserver.SharedRedis(t).URL() + "?prefix=promote"
	path, keys := keysetFile(t)
	file := writeFile(t, "config.yaml", fmt.Sprintf(`
auth: {issuers: [{issuer: "https://id.example.com", audience: sessiond}]}
store: {url: %q}
encryption: {keyset_file: %q}
`, url, path))
	added := strings.TrimSpace(succeed(t, "keyset", "add", path).stdout)
	store, err := redisstore.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	behind := &registration{store: store, keys: keys, logger: slog.New(slog.DiscardHandler)} // as before the addition
	current, err := keyset.OpenFile(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ahead := &registration{store: store, keys: current, logger: slog.New(slog.DiscardHandler)}
	for _, r := range []*registration{behind, ahead} {
		if err := r.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // the session of the one behind must not end before the command gives up
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
				_ = errors.Join(behind.beat(context.Background()), ahead.beat(context.Background()))
			}
		}
	}()
	run(t, nil, "keyset", "promote", path, added, "--config", file).want(t, 1, "has not loaded key "+added)
	close(stop)
	<-done
	if err := behind.leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	succeed(t, "keyset", "promote", path, added, "--config", file)
}
