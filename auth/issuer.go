package auth

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	demandCoolDown   = 30 * time.Second // between two loads for the sake of unknown keys
	demandWait       = 5 * time.Second  // how long a credential waits for such a load
	maxDemandWaiters = 64               // how many wait at a time
	firstRetry       = time.Second
	lastRetry        = 30 * time.Second
)

// issuer is a configured issuer with its keys. All loads happen in run, so there is never more than one at a time, and
// none that belongs to a request.
type issuer struct {
	name      string
	audience  string
	strictTyp bool
	// logoutAudiences are accepted in logout tokens.
	logoutAudiences []string
	grants          grants
	source          source
	refresh         time.Duration
	maxKeyAge       time.Duration
	now             func() time.Time
	logger          *slog.Logger

	set     atomic.Pointer[keySet] // nil until first loaded
	waiting chan struct{}          // one element for each credential that waits
	wake    chan struct{}          // tells run of a demand

	mu         sync.Mutex
	running    bool
	failing    bool      // the latest load failed
	demand     *demand   // the load that credentials wait for, or nil
	demandedAt time.Time // when the latest demand was made

	lastBody [sha256.Size]byte // of the latest key set; only in run
}

// demand is a load asked for because of an unknown key.
type demand struct{ done chan struct{} }

// fresh reports whether the issuer's keys may be used at this time.
func (i *issuer) fresh(now time.Time) bool {
	set := i.set.Load()
	return set != nil && now.Sub(set.loaded) <= i.maxKeyAge
}

// keysFor returns the keys that the token may be signed with, at least one. An unknown kid makes it ask the issuer.
func (i *issuer) keysFor(ctx context.Context, t *token) ([]*key, error) {
	for asked := false; ; asked = true {
		set := i.set.Load()
		if set == nil {
			return nil, unavailable(ReasonKeysNotLoaded)
		}
		if i.now().Sub(set.loaded) > i.maxKeyAge {
			return nil, unavailable(ReasonKeysStale)
		}
		keys, known := set.find(t.kid, t.alg)
		if len(keys) > 0 {
			return keys, nil
		}
		if known || t.kid == "" || asked {
			return nil, invalid(ReasonUnknownKey)
		}
		if err := i.awaitLoad(ctx); err != nil {
			return nil, err
		}
	}
}

// awaitLoad returns nil after a load that began after the call, or that others were waiting for already. In the
// cool-down after a load it refuses at once; so it does, as unavailable, while the issuer cannot be asked: the key may
// be a new one.
func (i *issuer) awaitLoad(ctx context.Context) error {
	d, err := i.joinDemand()
	if err != nil {
		return err
	}
	select {
	case i.waiting <- struct{}{}:
		defer func() { <-i.waiting }()
	default:
		return unavailable(ReasonKeysRefresh)
	}
	ctx, cancel := context.WithTimeout(ctx, demandWait)
	defer cancel()
	select {
	case <-d.done:
	case <-ctx.Done():
		return unavailable(ReasonKeysRefresh)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failing {
		return unavailable(ReasonKeysRefresh)
	}
	return nil
}

func (i *issuer) joinDemand() (*demand, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.demand != nil {
		return i.demand, nil
	}
	now := i.now()
	switch inCoolDown := !i.demandedAt.IsZero() && now.Sub(i.demandedAt) < demandCoolDown; {
	case !i.running, inCoolDown && i.failing:
		return nil, unavailable(ReasonKeysRefresh)
	case inCoolDown:
		return nil, invalid(ReasonUnknownKey)
	}
	i.demandedAt = now
	i.demand = &demand{done: make(chan struct{})}
	i.wake <- struct{}{} // has room: takeDemand empties it before the demand is over
	return i.demand, nil
}

// takeDemand returns the demand that a load starting now will satisfy, if there is one.
func (i *issuer) takeDemand() *demand {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-i.wake:
	default:
	}
	return i.demand
}

// finish records how a load went and releases those who waited for it.
func (i *issuer) finish(d *demand, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failing = err != nil
	if d != nil {
		close(d.done)
		i.demand = nil
	}
}

func (i *issuer) start() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.running = true
}

// stop releases everybody: nobody will load keys any more.
func (i *issuer) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.running, i.failing = false, true
	if i.demand != nil {
		close(i.demand.done)
		i.demand = nil
	}
}

// run loads the keys at once and then again and again until ctx ends.
func (i *issuer) run(ctx context.Context) {
	i.start()
	defer i.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := firstRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-i.wake:
		}
		started := time.Now()
		d := i.takeDemand()
		err := i.load(ctx)
		i.finish(d, err)
		if ctx.Err() != nil {
			return
		}
		var pause time.Duration
		if err == nil {
			// Shorter than the interval by chance, so that replicas spread, and counted from the start of the load,
			// so that a removed key is gone within the interval.
			retry = firstRetry
			pause = i.refresh*3/4 + rand.N(i.refresh/5) - time.Since(started)
		} else {
			pause = min(retry/2+rand.N(retry/2), i.refresh)
			retry = min(retry*2, lastRetry)
			i.logger.LogAttrs(ctx, slog.LevelWarn, "issuer keys could not be loaded",
				slog.String("issuer", i.name), slog.Any("err", err), slog.Duration("retry_in", pause))
		}
		timer.Reset(max(pause, 0))
	}
}

// load replaces the keys by the issuer's current ones, or leaves them as they are and says why.
func (i *issuer) load(ctx context.Context) error {
	asOf := i.now()
	body, err := i.source.keySet(ctx)
	if err != nil {
		return err
	}
	keys, passed, err := parseKeySet(body)
	if hash := sha256.Sum256(body); hash != i.lastBody { // log what is wrong with a key set once
		i.lastBody = hash
		for _, entry := range passed {
			i.logger.LogAttrs(ctx, slog.LevelWarn, "issuer key skipped", slog.String("issuer", i.name),
				slog.Int("index", entry.index), slog.String("kid", strconv.QuoteToASCII(entry.id)),
				slog.Any("err", entry.err))
		}
	}
	if err != nil {
		return err
	}
	set := &keySet{keys: keys, loaded: asOf}
	earlier := i.set.Load()
	added, removed := set.adopt(earlier)
	i.set.Store(set)
	if earlier == nil || added+removed > 0 {
		i.logger.LogAttrs(ctx, slog.LevelInfo, "issuer keys loaded", slog.String("issuer", i.name),
			slog.Int("keys", len(keys)), slog.Int("added", added), slog.Int("removed", removed))
	}
	return nil
}
