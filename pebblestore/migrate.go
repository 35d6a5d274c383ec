package pebblestore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// The layout version is that of keys and values as a whole. A program opens stores
// of all versions from oldestLayout to newestLayout and leaves them in theirs:
// it writes only what programs that know just that version understand, since one
// of them may open the store next. Fields of records that a program doesn't know
// are no obstacle, as it keeps them. Finalize ends that.

// oldestLayout is the oldest version that this program opens.
const oldestLayout = 1

// Layout is the layout version that the store is kept in, and the newest one that
// this program knows.
func (s *Store) Layout() (store, newest int) { return int(s.layout.Load()), newestLayout }

// Finalize raises the store's layout version to the newest one. From then on
// older programs refuse the store. It does nothing when that has happened.
func (s *Store) Finalize(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.gate.RUnlock()
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if s.layout.Load() == newestLayout {
		return nil
	}
	if err := s.db.Set(metaFormat, bigEndian(newestLayout), pebble.Sync); err != nil {
		return fmt.Errorf("pebblestore: finalize: %w: %w", sessiond.ErrUnknown, err)
	}
	s.layout.Store(newestLayout)
	return nil
}
