//go:build !sessiond_next_layout

package pebblestore

// newestLayout is the newest layout version that this program knows, and that of
// the stores it makes.
const newestLayout = 1

// nextFields are the fields of a record that only a newer program writes: those
// that it has left in the record.
func nextFields(unknown []byte) []byte { return unknown }
