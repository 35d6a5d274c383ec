package sessiond

import "time"

// A Filter selects sessions. All of its conditions must hold; the zero Filter
// selects every session.
type Filter struct {
	Subject       string            // exactly this subject; empty: any
	Status        Status            // empty: any
	ActiveOnly    bool              // the same as StatusActive
	Labels        map[string]string // all of these labels with these values
	CreatedAfter  time.Time         // inclusive; zero: any
	CreatedBefore time.Time         // exclusive; zero: any
	ExpiresBefore time.Time         // exclusive, of the earlier deadline; zero: any
}

// IsZero reports whether f selects every session.
func (f *Filter) IsZero() bool {
	return f.Subject == "" && f.Status == "" && !f.ActiveOnly && len(f.Labels) == 0 &&
		f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero() && f.ExpiresBefore.IsZero()
}

// LiveOnly reports whether f can only select live sessions.
func (f *Filter) LiveOnly() bool { return f.ActiveOnly || f.Status == StatusActive }

// Match reports whether f selects r, which [Record.At] has brought up to date.
func (f *Filter) Match(r *Record) bool {
	status := r.status()
	switch {
	case f.Subject != "" && f.Subject != r.Subject,
		f.Status != "" && f.Status != status,
		f.ActiveOnly && status != StatusActive,
		!f.CreatedAfter.IsZero() && r.CreatedAt.Before(f.CreatedAfter),
		!f.CreatedBefore.IsZero() && !r.CreatedAt.Before(f.CreatedBefore),
		!f.ExpiresBefore.IsZero() && !r.Deadline().Before(f.ExpiresBefore):
		return false
	}
	for k, v := range f.Labels {
		if got, ok := r.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
