package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"sessiond.example/sessiond/internal/testserver"
)

// An owner owns servers of package testserver outside of a test. Only the
// methods of TB that it has are called.
type owner struct {
	testing.TB
	cleanups []func()
	err      error
}

// do runs f, which may fail the owner.
func (o *owner) do(f func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	return o.err
}

func (o *owner) Helper()          {}
func (o *owner) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }
func (o *owner) Error(args ...any) {
	o.err = errors.Join(o.err, errors.New(fmt.Sprint(args...)))
}
func (o *owner) Errorf(format string, args ...any) { o.Error(fmt.Sprintf(format, args...)) }
func (o *owner) Fatal(args ...any) {
	o.Error(args...)
	runtime.Goexit()
}

// close ends what the owner owns.
func (o *owner) close() error {
	return o.do(func() {
		for _, f := range slices.Backward(o.cleanups) {
			f()
		}
		o.cleanups = nil
	})
}

// startRedis starts a Redis that keeps its writes in memory: the rows only read.
func startRedis(o *owner) (url string, err error) {
	err = o.do(func() {
		url = testserver.StartRedis(o, testserver.RedisOptions{Settings: map[string]string{"appendonly": "no"}}).URL()
	})
	return url, err
}

// startPostgres starts a durable PostgreSQL. The URL bounds the pools of both
// competitors to what sessiond uses by itself.
func startPostgres(o *owner) (url string, err error) {
	err = o.do(func() {
		p := testserver.StartPostgres(o, testserver.PostgresOptions{Settings: map[string]string{"shared_buffers": "256MB"}})
		url = fmt.Sprintf("%s&pool_max_conns=%d", p.NewDatabase(o), max(16, 4*runtime.GOMAXPROCS(0)))
	})
	return url, err
}

// The rows of the shared stores.
const (
	rowRedisBare    = "GET over Redis, against bare"
	rowRedisScs     = "GET over Redis, against scs"
	rowPostgresBare = "GET over PostgreSQL, against bare"
	rowPostgresScs  = "GET over PostgreSQL, against scs"
)

func redisRows(compare bool) []string {
	if compare {
		return []string{rowRedisBare, rowRedisScs}
	}
	return []string{rowRedisBare}
}

func postgresRows(compare bool) []string {
	if compare {
		return []string{rowPostgresBare, rowPostgresScs}
	}
	return []string{rowPostgresBare}
}

func (b *bench) redis(ctx context.Context) (err error) {
	o := &owner{}
	defer func() { err = errors.Join(err, o.close()) }()
	url, err := startRedis(o)
	if err != nil {
		return err
	}
	return b.shared(ctx, "redis", url, rowRedisBare, pair{name: rowRedisScs, other: "scs + redisstore", goal: atLeast(2)})
}

func (b *bench) postgres(ctx context.Context) (err error) {
	o := &owner{}
	defer func() { err = errors.Join(err, o.close()) }()
	url, err := startPostgres(o)
	if err != nil {
		return err
	}
	return b.shared(ctx, "postgres", url, rowPostgresBare,
		pair{name: rowPostgresScs, other: "scs + pgxstore", goal: atLeast(2.5)})
}

// shared measures reads of one session on a shared store.
func (b *bench) shared(ctx context.Context, name, url, bareRow string, scs pair) error {
	s, err := b.serve(ctx, filepath.Join(b.dir, name), url)
	if err != nil {
		return err
	}
	defer s.stop()
	hot, err := s.createSession(ctx)
	if err != nil {
		return err
	}
	get := s.request("GET", "/sessions/"+hot.ID, "")
	ours := fixed(s.process, 200, get)
	if b.wants(bareRow) {
		bare, err := b.startBare(ctx, s, hot)
		if err != nil {
			return err
		}
		defer bare.stop()
		if err := b.pair(ctx, pair{bareRow, "bare", goal{}, ours, fixed(bare, 200, get)}); err != nil {
			return err
		}
	}
	if !b.compare || !b.wants(scs.name) {
		return nil
	}
	answer, err := s.do(ctx, 200, "GET", "/sessions/"+hot.ID, "")
	if err != nil {
		return err
	}
	app, cookie, err := b.startScs(ctx, url, answer) // its page shows as much as we do
	if err != nil {
		return err
	}
	defer app.stop()
	page := []byte("GET /page HTTP/1.1\r\nHost: " + app.address + "\r\nCookie: " + cookie + "\r\n\r\n")
	scs.ours, scs.theirs = ours, fixed(app, 200, page)
	return b.pair(ctx, scs)
}
