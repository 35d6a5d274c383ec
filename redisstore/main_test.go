package redisstore_test

import (
	"os"
	"testing"

	"sessiond.example/sessiond/internal/testserver"
)

func TestMain(m *testing.M) { os.Exit(testserver.Main(m)) }
