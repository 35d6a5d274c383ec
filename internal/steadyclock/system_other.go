//go:build !linux

package steadyclock

import "time"

// suspended is unknown here: Go's monotonic clock counts suspended time on some of these systems and not on others.
func suspended() time.Duration { return 0 }
