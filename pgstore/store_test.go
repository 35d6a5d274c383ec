package pgstore_test

import (
	"testing"

	"sessiond.example/sessiond/storetest"
)

// The pooled suite runs on the server's clock.
func TestStore(t *testing.T)      { storetest.Run(t, openStill) }
func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, openRunning) }
func TestModel(t *testing.T)      { storetest.RunModel(t, openStill) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, openRunning) }
