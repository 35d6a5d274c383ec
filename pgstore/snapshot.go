package pgstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A snapshot tells which transactions a reader has seen: those with ids below
// xmax that are not in running (ascending). It is PostgreSQL's pg_snapshot.
type snapshot struct {
	xmax    uint64
	running []uint64
}

// blank is the snapshot that has seen nothing. Ids of transactions begin above it.
var blank = snapshot{xmax: 1}

// maxRunning bounds the list of a snapshot in a position.
const maxRunning = 1000

func parseSnapshot(s string) (snapshot, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return snapshot{}, fmt.Errorf("snapshot %.50q", s)
	}
	var snap snapshot
	var err error
	if snap.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return snapshot{}, fmt.Errorf("snapshot %.50q: %w", s, err)
	}
	if parts[2] == "" {
		return snap, nil
	}
	for p := range strings.SplitSeq(parts[2], ",") {
		id, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return snapshot{}, fmt.Errorf("snapshot %.50q: %w", s, err)
		}
		snap.running = append(snap.running, id)
	}
	return snap, nil
}

// String is the snapshot as PostgreSQL writes it.
func (s snapshot) String() string {
	xmin := s.xmax
	if len(s.running) > 0 {
		xmin = s.running[0]
	}
	b := fmt.Appendf(nil, "%d:%d:", xmin, s.xmax)
	for i, id := range s.running {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, id, 10)
	}
	return string(b)
}

// id is the i-th running transaction as text.
func (s snapshot) id(i int) string { return strconv.FormatUint(s.running[i], 10) }

// sees reports whether the transaction had finished in s.
func (s snapshot) sees(id uint64) bool {
	_, runs := slices.BinarySearch(s.running, id)
	return id < s.xmax && !runs
}

func (s snapshot) xmaxText() string { return strconv.FormatUint(s.xmax, 10) }

// upTo is s without what is above newest, the largest transaction id of an event
// that is visible in s. It has seen the same events. All ids that it counts as
// finished are below the id of a commit that is on disk, since it is visible. So a
// server that crashes and recovers never gives such an id to another transaction,
// as it may do with the ids of transactions that were rolled back last.
//
// A list that is too long for a position is cut: then some events come twice.
func (s snapshot) upTo(newest uint64) snapshot {
	s.xmax = min(s.xmax, newest+1)
	n, _ := slices.BinarySearch(s.running, s.xmax)
	s.running = s.running[:n]
	if n > maxRunning {
		s.xmax = s.running[maxRunning]
		s.running = s.running[:maxRunning]
	}
	return s
}
