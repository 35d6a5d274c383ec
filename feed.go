package sessiond

import (
	"context"
	"iter"
	"slices"
	"time"
)

// EventParams select events and where to begin.
type EventParams struct {
	After     Position      // EventBatch.Position of an earlier batch. Default: begin now
	Subject   string        // only events of this subject's sessions. Default: all
	Types     []EventType   // only these types. Default: all
	Heartbeat time.Duration // longest silence: then an empty batch comes. Default 15s
}

const (
	defaultHeartbeat = 15 * time.Second
	eventBatch       = 256
)

// Events follows the events of the tenant: at least once each, those of one
// session in order of version. Without After the first batch is empty and
// carries the position from which the feed goes on. A caller that gives the
// last Position it has handled misses nothing, unless a batch says Reset.
//
// The sequence ends with an error: [ErrInvalid], [ErrUnavailable], or the error
// of ctx.
func (m *Manager) Events(ctx context.Context, p EventParams) iter.Seq2[EventBatch, error] {
	return func(yield func(EventBatch, error) bool) {
		var v validator
		v.check(ValidText(p.Subject), "/subject", textRule)
		for _, t := range p.Types {
			v.check(t.Valid(), "/type", "must be a type of events")
		}
		if err := v.err(); err != nil {
			yield(EventBatch{}, err)
			return
		}
		if p.Heartbeat <= 0 {
			p.Heartbeat = defaultHeartbeat
		}
		q := EventQuery{Tenant: m.tenant, After: p.After, Limit: eventBatch, Wait: p.Heartbeat}
		last := time.Now()
		for {
			batch, err := m.store.Events(ctx, q)
			if err != nil {
				yield(EventBatch{}, err)
				return
			}
			q.After = batch.Position
			found := len(batch.Events)
			batch.Events = p.filter(batch.Events)
			silence := time.Since(last)
			if found > 0 && len(batch.Events) == 0 && !batch.Reset && silence < p.Heartbeat {
				q.Wait = p.Heartbeat - silence // only events that were not asked for
				continue
			}
			if !yield(batch, nil) {
				return
			}
			last, q.Wait = time.Now(), p.Heartbeat
		}
	}
}

func (p *EventParams) filter(events []Event) []Event {
	if p.Subject == "" && len(p.Types) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(e Event) bool {
		return p.Subject != "" && e.Subject != p.Subject ||
			len(p.Types) > 0 && !slices.Contains(p.Types, e.Type)
	})
}
