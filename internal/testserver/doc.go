// Package testserver starts PostgreSQL, PgBouncer, Redis, Redis Cluster and
// Redis Sentinel for tests, stops, kills and pauses them, and puts a proxy with
// faults in front of them.
//
// Every server listens on a free port of 127.0.0.1, keeps its files in a
// temporary folder and belongs to one test, or, when its name begins with
// Shared, to the test process. It ends with its owner: by process id when the
// test is over, and by the kernel (on Linux) when the test process dies. Folders
// that a killed test process left behind are removed by the next one.
//
// Packages that use a shared server run their tests through [Main]:
//
//	func TestMain(m *testing.M) { os.Exit(testserver.Main(m)) }
//
// A program that is not installed fails the test with the name of its package.
// Nothing is ever skipped. Functions and methods without an error fail the test
// they were given instead, and must be called from its goroutine.
package testserver
