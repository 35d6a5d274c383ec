package steadyclock

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspended returns how long the machine has been suspended since boot: by clock_gettime(2), CLOCK_BOOTTIME is
// CLOCK_MONOTONIC plus that time. It may be short by the time between the two readings. Where a sandbox denies
// the call, it is zero, and the clock falls behind by the suspended time until it has slewed back.
func suspended() time.Duration {
	var boot, monotonic unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil ||
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - monotonic.Nano())
}
