// Package doctest holds the test that runs what README.md and docs/*.md show, so that nothing in them rots.
//
// The last comment before a code block says what becomes of it:
//
//	<!-- dev -->              the command that starts "sessiond dev"; it is started, on free ports
//	<!-- run -->              a script for bash, all of whose commands have to succeed
//	<!-- tour -->             the same; .ci/readme runs it too
//	<!-- expect: 410 -->      the same, except that the last curl has to be answered with this status
//	<!-- stream: 2s -->       a script that does not end; it is cut off after this time
//	<!-- config -->           a configuration file, or a part of one, that "sessiond config" has to accept
//	<!-- compiled -->         Go: a whole file, or statements of a function with ctx that returns an error
//	<!-- not run: reason -->  nothing
//
// Blocks in json, http or text that follow a script are what it has printed. JSON is compared member by member; times,
// UUIDs, Unix times and what stands for "…" may be any, and a member "…" stands for members that are left out. Of http
// the status line and the headers that are shown have to be in the last answer; each line of text has to be there, in
// order. A block without a marker that is none of these fails the test.
//
// A document has a directory, a server, and shell variables of its own. 127.0.0.1:8080 and 127.0.0.1:9090 stand for the
// server's addresses, "go run ./cmd/sessiond" and "sessiond" for the program.
package doctest
