package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(bareVariable); address != "" {
		bare(address)
	}
	os.Exit(m.Run())
}

// short are settings that go everywhere on the embedded store in seconds.
func short() settings {
	s := defaults()
	s.shorten()
	s.scale, s.overload = 1000, true
	return s
}

// TestShort runs all rows that need no other server.
func TestShort(t *testing.T) {
	s := short()
	s.rows = regexp.MustCompile("^(GET, |POST|create|touch|Manager|scale|overload: POST)")
	t.Setenv("TMPDIR", t.TempDir())
	var out, progress bytes.Buffer
	if err := run(t.Context(), s, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	for _, want := range []string{
		"| GET, hot | ", "| GET, 1000 random | ", "| POST /verify | ", "| POST /sessions/, durable | ", " | ≥ 0.75 | ",
		"| create in process, one writer, durable | ", "| touch in process, 64 callers, durable | ",
		"| Manager.Get in process, hot | ", "| Manager.Get in process, hot, allocations | ",
		"| scale: 1000 sessions, p99 of GET against 500 | ", ", p99 of a list by subject against 500 | ",
		", p99 of GET while 200 expire, against before | ", ", longest that an expiry was late | ",
		", resident memory above the caches | ", ", disk of a session over its JSON | ", ", ready after kill -9 | ",
		"| overload: POST /sessions/, embedded, goodput against peak | ", ", revocations that succeed | ",
		", p99 normal again after | ", "(open loop)", "(closed loop)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", &progress, &out)
	}
	left, err := filepath.Glob(os.TempDir() + "/sessiond-bench-*")
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

// TestInterrupt ends a run in the midst of a row: what was measured is printed,
// and nothing is left.
func TestInterrupt(t *testing.T) {
	s := short()
	s.rows, s.visit, s.rounds = regexp.MustCompile("^(Manager|overload: POST)"), 50*time.Millisecond, 1
	s.floodTime = time.Hour
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, s, &out, writer(func(line string) {
		if strings.Contains(line, "allocations") { // of the row before the long one
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) || !strings.Contains(out.String(), "Manager.Get") {
		t.Errorf("%v\n%s", err, &out)
	}
	if left, _ := filepath.Glob(os.TempDir() + "/sessiond-bench-*"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}
