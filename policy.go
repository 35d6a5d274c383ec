package sessiond

import (
	"errors"
	"fmt"
	"time"
)

// A Policy holds the timeouts and limits of a manager's sessions. Start from
// [DefaultPolicy] and change what must differ.
type Policy struct {
	DefaultLifetime    time.Duration // of sessions that ask for none; whole seconds. Default 12h
	MaxLifetime        time.Duration // longest life from creation, whatever is asked; whole seconds. Default 720h
	DefaultIdleTimeout time.Duration // of sessions that ask for none; 0: none; whole seconds. Default 30m
	// MaxIdleTimeout bounds idle timeouts; with it every session must have one.
	// 0: unbounded, and sessions may go without. Whole seconds. Default 0
	MaxIdleTimeout time.Duration
	Retention      time.Duration // how long ended records stay, at least 1s. Default 24h
	SweepInterval  time.Duration // between passes of the sweeper, 10ms to 1h. Default 1s
	// TouchInterval is the smallest gap between two recorded activities by
	// Verify; a twentieth of the session's idle timeout if that is shorter.
	// 0: record every one. Default 60s
	TouchInterval   time.Duration
	RotationOverlap time.Duration // how long the previous token stays accepted after Rotate, at most 1h. Default 0
	RevokeOnReuse   bool          // the previous token, presented after the overlap, ends the session. Default false
	MaxPerSubject   int           // live sessions of one subject; 0: no limit. Default 0
	EvictOldest     bool          // over MaxPerSubject, end the oldest instead of refusing the new one. Default false
	MaxData         int           // bytes of Session.Data as compact JSON, 2 to 1 MiB. Default 32 KiB
	EventRetention  time.Duration // how long events stay, at least 1s. Default 1h
	MaxEvents       int64         // how many events stay, at least 1. Default 1,000,000
}

// DefaultPolicy returns the policy made of the defaults that [Policy] names.
func DefaultPolicy() Policy {
	return Policy{
		DefaultLifetime:    12 * time.Hour,
		MaxLifetime:        720 * time.Hour,
		DefaultIdleTimeout: 30 * time.Minute,
		Retention:          24 * time.Hour,
		SweepInterval:      time.Second,
		TouchInterval:      time.Minute,
		MaxData:            32 << 10,
		EventRetention:     time.Hour,
		MaxEvents:          1_000_000,
	}
}

// longest bounds every duration of a session, so that no deadline leaves the
// years that RFC 3339 can write and no arithmetic wraps.
const longest = 876_000 * 3600 // seconds, 100 years

// Validate reports everything that is wrong with p.
func (p *Policy) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	const most = longest * time.Second
	seconds := func(d time.Duration) bool { return d >= 0 && d <= most && d%time.Second == 0 }
	check(seconds(p.MaxLifetime) && p.MaxLifetime > 0, "MaxLifetime must be 1s to %v in whole seconds", most)
	check(seconds(p.DefaultLifetime) && p.DefaultLifetime > 0 && p.DefaultLifetime <= p.MaxLifetime,
		"DefaultLifetime must be 1s to MaxLifetime in whole seconds")
	check(seconds(p.MaxIdleTimeout), "MaxIdleTimeout must be 0 to %v in whole seconds", most)
	check(seconds(p.DefaultIdleTimeout), "DefaultIdleTimeout must be 0 to %v in whole seconds", most)
	check(p.MaxIdleTimeout == 0 || p.DefaultIdleTimeout > 0 && p.DefaultIdleTimeout <= p.MaxIdleTimeout,
		"DefaultIdleTimeout must be 1s to MaxIdleTimeout when that is set")
	check(p.Retention >= time.Second && p.Retention <= most, "Retention must be 1s to %v", most)
	check(p.SweepInterval >= 10*time.Millisecond && p.SweepInterval <= time.Hour, "SweepInterval must be 10ms to 1h")
	check(p.TouchInterval >= 0 && p.TouchInterval <= most, "TouchInterval must be 0 to %v", most)
	check(p.RotationOverlap >= 0 && p.RotationOverlap <= time.Hour, "RotationOverlap must be 0 to 1h")
	check(p.MaxPerSubject >= 0, "MaxPerSubject must not be negative")
	check(p.MaxData >= 2 && p.MaxData <= 1<<20, "MaxData must be 2 bytes to 1 MiB")
	check(p.EventRetention >= time.Second && p.EventRetention <= most, "EventRetention must be 1s to %v", most)
	check(p.MaxEvents >= 1, "MaxEvents must be at least 1")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}

// touchInterval is the smallest gap between recorded activities of a session.
func (p *Policy) touchInterval(idle time.Duration) time.Duration {
	if d := idle / 20; idle > 0 && d < p.TouchInterval {
		return d
	}
	return p.TouchInterval
}
