// Package consistency proves of a store, or refutes, what [sessiond.Store]
// promises to programs that run several replicas on one store:
//
//   - every session is linearizable: each answer is explained by one instant
//     between call and return, and all answers by one order of those instants;
//   - the store's clock alone decides what is live, it is one clock for all
//     replicas and does not run backwards, and what has ended never goes on;
//   - an answer that a write was not applied is true, and so is one that it was;
//   - the feed of events tells of every change exactly once, those of a session
//     in order of version, and goes on from any position on any replica.
//
// [Record] lets clients work on two replicas at the same time, while readers
// follow the feed and faults strike, and returns the history of it. [Check]
// judges a history. [Run] does both for a test:
//
//	func TestConsistency(t *testing.T) {
//		consistency.Run(t, consistency.Config{Open: func(t testing.TB) (a, b sessiond.Store) { ... }})
//	}
//
// The workload is drawn from a seed that every run prints; the flag
// -consistency.seed draws the same again (what the scheduler makes of it
// differs), -consistency.for sets how long clients work.
//
// # How a history is checked
//
// Every operation has a call and a return on one monotonic clock, what was asked
// and what was answered. The history is split by session, and porcupine looks
// for an order that the model of a session accepts. Time is data: an answer
// "active" is accepted only if the store's time of the answer, as far as it is
// known, can lie before the deadline, "expired" only if it can lie at or after
// it; deadlines that the model does not know exactly, because the write that set
// them had an unknown outcome, are intervals that later answers narrow. A search
// that takes too long is a failure, never a pass.
//
// Writes of unknown outcome stay open to the end of the history and may take
// effect at any time or never. When the feed turned out to be sound, it settles
// them: all changes carry the number of their operation as request ID.
//
// # What is not promised, and not checked
//
// The order of events of different sessions, or of different incarnations of one
// ID. That lists are snapshots: every entry of a list is checked as a read of its
// own, and so is the absence of every session that the filter would have let through.
package consistency
