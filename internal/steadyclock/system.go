package steadyclock

import "time"

// origin only makes readings of the process's monotonic clock expressible.
var origin = time.Now()

// System reads the clocks of the machine. Inside a testing/synctest bubble it follows the bubble's time.
type System struct{}

// Wall returns the wall clock in UTC without a monotonic reading.
func (System) Wall() time.Time { return civil(time.Now()) }

// Boot returns the time since an arbitrary fixed point, including (on Linux) the time the machine was suspended.
// On Linux it costs two system calls.
func (s System) Boot() time.Duration {
	// Suspended time is added to the process's own monotonic time, rather than CLOCK_BOOTTIME returned as it is, so
	// that a test with virtual time sees one consistent clock. The sleep is read first: late readings err to less.
	asleep := suspended()
	return asleep + s.Monotonic()
}

// Monotonic returns the time since an arbitrary fixed point. On Linux it stands still while the machine is suspended.
func (System) Monotonic() time.Duration { return time.Since(origin) }
