package main

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"time"
)

// A limit is the least that could record activity durably: a map in memory, and
// a log that writes and syncs what has come together. It has no indexes, no
// expiry, no events and no recovery; it is what touch is measured against.
type limit struct {
	log    *os.File
	shards [256]limitShard
	queue  chan *entry
	done   chan struct{}
	err    error // why the log has ended, once done is closed
}

type limitShard struct {
	mu     sync.Mutex
	active map[string]time.Time
}

// An entry waits for the log.
type entry struct {
	record [64]byte
	synced chan struct{}
}

func newLimit(path string, ids []string) (*limit, error) {
	log, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	l := &limit{log: log, queue: make(chan *entry, 1024), done: make(chan struct{})}
	for i := range l.shards {
		l.shards[i].active = make(map[string]time.Time)
	}
	for _, id := range ids {
		l.shard(id).active[id] = time.Time{}
	}
	go l.write()
	return l, nil
}

// shard is where a session is. Ids end in random digits.
func (l *limit) shard(id string) *limitShard {
	n := len(id)
	return &l.shards[(id[n-1]%16)<<4|id[n-2]%16]
}

// touch records activity of a session now.
func (l *limit) touch(id string, e *entry) error {
	now := time.Now()
	s := l.shard(id)
	s.mu.Lock()
	last, ok := s.active[id]
	if ok && now.After(last) {
		s.active[id] = now
	}
	s.mu.Unlock()
	if !ok {
		return errors.New("no such session")
	}
	binary.BigEndian.PutUint64(e.record[:], uint64(now.UnixMilli()))
	copy(e.record[8:], id)
	select {
	case l.queue <- e:
	case <-l.done:
		return l.err
	}
	select {
	case <-e.synced:
		return nil
	case <-l.done:
		return l.err
	}
}

// write writes what waits, syncs it and tells those who wait.
func (l *limit) write() {
	defer close(l.done)
	var group []*entry
	var buf []byte
	for e := range l.queue {
		group, buf = append(group[:0], e), append(buf[:0], e.record[:]...)
		for len(l.queue) > 0 {
			e := <-l.queue
			group, buf = append(group, e), append(buf, e.record[:]...)
		}
		if _, l.err = l.log.Write(buf); l.err != nil {
			return
		}
		if l.err = syncData(l.log); l.err != nil {
			return
		}
		for _, e := range group {
			e.synced <- struct{}{} // which has room
		}
	}
}

// close ends the log. Nobody may be waiting for it.
func (l *limit) close() error {
	close(l.queue)
	<-l.done
	return errors.Join(l.err, l.log.Close())
}
