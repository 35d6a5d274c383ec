// Package sessiond keeps sessions: server-side records that a subject has
// signed in and may go on until one of two deadlines passes or someone
// revokes the session. It is the whole product without the network; the
// program of the same name serves it over HTTP.
//
// # In order of use
//
// Open a [Store] (memstore, pebblestore, pgstore, redisstore), load a keyset for sealing the data
// (package keyset), and make a [Manager]:
//
//	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys})
//	go m.Run(ctx)
//
// [Manager.Create] starts a session and returns it with its [Token], the
// bearer secret that goes to the browser or app. A service that is shown the
// token asks [Manager.Verify], which also counts as activity of its holder.
// [Manager.Get], [Manager.Update], [Manager.Patch], [Manager.Touch] and
// [Manager.Revoke] work by [ID], the public handle; [Manager.List] and
// [Manager.RevokeMatching] by [Filter]; [Manager.Rotate] replaces the token at
// sign-in or a change of privileges; [Manager.Events] follows what happens to
// sessions. [Manager.As] does the same in another tenant and in the name of an
// actor.
//
// [Manager.Run] is the background work: it ends what is due, with its events,
// and records activity. [Manager.Reencrypt] and [Manager.Fence] walk over all
// sessions, for a change of keys and after a disaster. [Manager.Export] and
// [Manager.Import] move sessions to another store, [Manager.ImportForeign] brings
// those of another system with their tokens.
//
// # What holds
//
// A session has an absolute deadline, which nothing but an update moves, and
// may have an idle deadline, which every recorded activity moves. It is over
// from the instant the earlier one passes, by the store's clock, on every
// path. An ended session never comes back: not by a late touch, a racing
// update or a retry. Ended records stay, without data, until the retention has
// passed, so that lists can show who ended what, when and why.
//
// Every write is atomic and durable when it returns. When the store can't tell
// whether a write was applied the error is [ErrUnknown]; [ErrUnavailable] means
// that it was not. Neither is ever reported as a missing or inactive session.
//
// The data of a session is encrypted before a store sees it and bound to its
// session. Tokens are kept only as hashes and print as a redaction.
//
// # For writers of stores
//
// [Store] says what a store has to do. [Record], [Creation], [Change], [Result],
// [Query], [Page] and the other types of its methods are between managers and
// stores; users of a manager need none of them. Package storetest checks a store.
//
// # Compatibility
//
// Exported names follow semantic versioning from 1.0 on. Records written by
// one minor version are read by the next.
package sessiond
