package pgstore_test

import (
	"testing"

	"sessiond.example/sessiond/storetest"
)

func TestStore(t *testing.T)      { storetest.Run(t, openRunning) }
func TestStoreStill(t *testing.T) { storetest.Run(t, openStill) }
func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, openRunning) }
func TestModel(t *testing.T)      { storetest.RunModel(t, openStill) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, openRunning) }
