package telemetry

// The lines of the log that are on the hot path are encoded here, by appending:
// no reflection, no allocation.

import (
	"log/slog"
	"strconv"
	"time"
)

const operationMessage = "operation"

// appendOperation appends the line of an operation. The names of its members
// are constants and need no care; all values do.
func appendOperation(b []byte, now time.Time, level slog.Level, op *Operation) []byte {
	b = appendHead(b, now, level, operationMessage)
	b = appendString(append(b, `,"op":`...), op.Op)
	b = appendOptional(b, `,"session_id":`, op.SessionID)
	b = appendString(append(b, `,"tenant":`...), op.Tenant)
	b = appendString(append(b, `,"principal":`...), op.Principal)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(op.Status), 10)
	b = append(b, `,"duration_ms":`...)
	b = appendMilliseconds(b, op.Duration)
	b = appendString(append(b, `,"request_id":`...), op.RequestID)
	b = appendOptional(b, `,"trace_id":`, op.TraceID)
	b = appendOptional(b, `,"reason":`, string(op.Reason))
	b = appendOptional(b, `,"auth_failure":`, op.AuthFailure)
	return append(b, "}\n"...)
}

// appendLoss appends the line that tells of lost lines.
func appendLoss(b []byte, now time.Time, lines int, cause error) []byte {
	b = appendHead(b, now, slog.LevelError, "log lines lost")
	b = append(b, `,"lines":`...)
	b = strconv.AppendInt(b, int64(lines), 10)
	b = appendString(append(b, `,"err":`...), cause.Error())
	return append(b, "}\n"...)
}

// appendHead appends the members that every line begins with.
func appendHead(b []byte, now time.Time, level slog.Level, msg string) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, now)
	b = append(b, `","level":"`...)
	b = append(b, levelName(level)...)
	b = append(b, `","msg":"`...)
	b = append(b, msg...)
	return append(b, '"')
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendTime appends t as RFC 3339 has it, in UTC with milliseconds.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append2(append2(b, year/100), year%100)
	b = append2(append(b, '-'), int(month))
	b = append2(append(b, '-'), day)
	b = append2(append(b, 'T'), hour)
	b = append2(append(b, ':'), minute)
	b = append2(append(b, ':'), second)
	b = append3(append(b, '.'), t.Nanosecond()/1e6)
	return append(b, 'Z')
}

// appendMilliseconds appends d in milliseconds with three decimals.
func appendMilliseconds(b []byte, d time.Duration) []byte {
	const half = time.Microsecond / 2
	us := int64((max(d, 0) + half) / time.Microsecond)
	b = strconv.AppendInt(b, us/1000, 10)
	return append3(append(b, '.'), int(us%1000))
}

// append2 appends the last two digits of n.
func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10%10), byte('0'+n%10)) }

// append3 appends the last three digits of n.
func append3(b []byte, n int) []byte { return append2(append(b, byte('0'+n/100%10)), n%100) }
