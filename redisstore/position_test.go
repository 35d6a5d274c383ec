package redisstore_test

import (
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/redisstore"
)

const feedEpoch = "0123456789abcdef"

func TestPositions(t *testing.T) {
	t.Parallel()
	small := redisstore.FormatPosition(feedEpoch, 0, "")
	large := redisstore.FormatPosition(feedEpoch, 1<<40, "nonce")
	if len(small) > 120 || len(large) > 600 {
		t.Errorf("positions have %d to %d characters", len(small), len(large))
	}
	n, sum, ok := redisstore.ParsePosition(large, feedEpoch)
	if !ok || n != 1<<40 {
		t.Errorf("parsed to %d, %t", n, ok)
	}
	rewritten := redisstore.FormatPosition(feedEpoch, 1<<40, "other")
	if _, other, _ := redisstore.ParsePosition(rewritten, feedEpoch); other == sum {
		t.Error("the sum does not tell nonces apart")
	}
	if _, _, ok := redisstore.ParsePosition(large, "0123456789abcdee"); ok {
		t.Error("a position of another epoch is accepted")
	}
}

// FuzzPosition requires that no position panics, and that what is accepted is the one way to write it.
func FuzzPosition(f *testing.F) {
	for _, n := range []uint64{0, 1, 127, 128, 1 << 40, 1<<63 - 1} {
		f.Add(string(redisstore.FormatPosition(feedEpoch, n, "nonce")))
	}
	f.Add("")
	f.Add("garbage")
	f.Fuzz(func(t *testing.T, p string) {
		_, _, ok := redisstore.ParsePosition(sessiond.Position(p), feedEpoch)
		for _, more := range []string{p + "A", p + "=", " " + p} {
			if _, _, also := redisstore.ParsePosition(sessiond.Position(more), feedEpoch); ok && also {
				t.Fatalf("%q and %q are both accepted", p, more)
			}
		}
	})
}
