package consistency_test

import (
	"context"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
)

// feedBugs are those of the feed.
var feedBugs = map[string]bug{
	"feed-with-holes": {
		rule: consistency.Feed,
		says: `had no event between versions|told that nothing more had happened`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				b, err := s.Events(ctx, q)
				if len(b.Events) > 0 && often(30) {
					b.Events = b.Events[1:]
				}
				return b, err
			}
		},
	},
	"feed-with-late-events": { // a poll does not see what was committed just before
		rule: consistency.Feed,
		says: `told that nothing more had happened`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				if q.After == "" || !often(4) {
					return s.Events(ctx, q)
				}
				time.Sleep(2 * time.Millisecond)
				return sessiond.EventBatch{Position: q.After}, nil
			}
		},
	},
	"feed-out-of-order": {
		rule: consistency.Feed,
		says: `after that of version|had no event between versions`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				b, err := s.Events(ctx, q)
				for i := range b.Events {
					for j := i + 1; j < len(b.Events) && often(3); j++ {
						if b.Events[i].SessionID == b.Events[j].SessionID {
							b.Events[i], b.Events[j] = b.Events[j], b.Events[i]
							return b, err
						}
					}
				}
				return b, err
			}
		},
	},
	"feed-with-repeats": {
		rule: consistency.Feed,
		says: `twice, and the .* reader had not resumed`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				b, err := s.Events(ctx, q)
				if n := len(b.Events); n > 0 && often(20) {
					b.Events = append(b.Events, b.Events[n-1])
				}
				return b, err
			}
		},
	},
	"feed-resumes-at-the-end": { // replica b does not know the positions of a
		rule: consistency.Feed, onlyB: true,
		says: `had no event between versions|told that nothing more had happened`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				if often(4) {
					q.After = ""
				}
				return s.Events(ctx, q)
			}
		},
	},
	"feed-resets": {
		rule: consistency.Feed,
		says: `got a Reset`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				if q.After != "" && often(100) {
					q.After = "lost"
				}
				return s.Events(ctx, q)
			}
		},
	},
	"feed-names-another-actor": {
		rule: consistency.Feed,
		says: `of which the actor is not`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.events = func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
				b, err := s.Events(ctx, q)
				for i := range b.Events {
					if b.Events[i].Type == sessiond.EventRotated {
						b.Events[i].Actor.Client = "another"
					}
				}
				return b, err
			}
		},
	},
}
