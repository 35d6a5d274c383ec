package testserver_test

import (
	"fmt"
	"os"
	"testing"

	"sessiond.example/sessiond/internal/testserver"
)

// familyVar makes this binary the test process of which the tests of ends look
// at what it leaves: "ends" or "waits".
const familyVar = "TESTSERVER_FAMILY"

func TestMain(m *testing.M) { os.Exit(testserver.Main(m)) }

// TestFamily starts servers of all kinds in the other test process. In this
// one there is nothing to do.
func TestFamily(t *testing.T) {
	how := os.Getenv(familyVar)
	if how == "" {
		return
	}
	pg := testserver.SharedPostgres(t)
	pg.NewDatabase(t)
	testserver.StartPgBouncer(t, pg)
	testserver.SharedRedis(t)
	testserver.StartRedis(t, testserver.RedisOptions{}).Pause()
	testserver.StartPostgres(t, testserver.PostgresOptions{}).Pause()
	fmt.Println("ready") // the other process waits for this line
	if how == "waits" {
		select {}
	}
}
