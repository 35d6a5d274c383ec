// Package sessiond keeps sessions: server-side records that a subject has
// signed in and may go on until one of two deadlines passes or someone
// revokes the session. It is the whole product without the network; the
// program of the same name serves it over HTTP.
//
// # In order of use
//
// Open a [Store] (memstore, pebblestore), load a keyset for sealing the data
// (package keyset), and make a [Manager]:
//
//	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys})
//	go m.Run(ctx)
//
// [Manager.Create] starts a session and returns it with its [Token], the
// bearer secret that goes to the browser or app. A service that is shown the
// token asks [Manager.Verify]. [Manager.Get], [Manager.Update],
// [Manager.Patch] and [Manager.Revoke] work by [ID], the public handle;
// [Manager.List] and [Manager.RevokeMatching] by [Filter]; [Manager.Rotate]
// replaces the token at sign-in or a change of privileges; [Manager.Events]
// follows what happens to sessions. [Manager.As] does the same in another
// tenant and in the name of an actor.
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
// # Compatibility
//
// Exported names follow semantic versioning from 1.0 on. Records written by
// one minor version are read by the next.
package sessiond
