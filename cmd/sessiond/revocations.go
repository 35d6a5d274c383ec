package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync/atomic"

	jsonv2 "github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// A revocation is one line of a revocations file: an event as sessiond session
// watch prints it, or a session by tenant and id. Other members are refused, as
// they may be misspelt ones.
type revocation struct {
	Tenant string `json:"tenant"`
	api.Event
}

// maxRevocation is the longest line in bytes.
const maxRevocation = 16 << 10

// parseRevocation reads a line. end tells whether it is about the end of a session.
func parseRevocation(line []byte, tenant string) (r revocation, end bool, err error) {
	if err := jsonv2.Unmarshal(line, &r, jsonv2.RejectUnknownMembers(true)); err != nil {
		return r, false, errors.New("is not an event, and not {\"tenant\":\"...\",\"session_id\":\"...\"}")
	}
	if r.Tenant == "" {
		r.Tenant = tenant
	}
	if !sessiond.ValidTenant(r.Tenant) {
		return r, false, fmt.Errorf("names no tenant: %.70q", r.Tenant)
	}
	if _, err := sessiond.ParseID(r.SessionID); err != nil {
		return r, false, errors.New("names no session_id that can be one")
	}
	switch t := sessiond.EventType(r.Type); {
	case r.Type != "" && !t.Valid():
		return r, false, fmt.Errorf("has an unknown type %.40q", r.Type)
	case !sessiond.ValidText(r.Note):
		return r, false, errors.New("has a note that can't be one")
	default:
		return r, r.Type == "" || t == sessiond.EventRevoked || t == sessiond.EventExpired || t == sessiond.EventErased, nil
	}
}

// endNamed ends the sessions that lines name, and erases those that were. absent
// counts those that are not there. Lines about one session take effect in their
// order; others side by side.
func endNamed(ctx context.Context, m *sessiond.Manager, lines io.Reader, tenant string) (ended, absent int64, err error) {
	var named, missing atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	seed := maphash.MakeSeed()
	var queues [32]chan revocation
	for i := range queues {
		queues[i] = make(chan revocation)
		group.Go(func() error {
			for r := range queues[i] {
				switch err := m.As(r.Tenant, adminActor).Revoke(ctx, sessiond.ID(r.SessionID), r.params()); {
				case errors.Is(err, sessiond.ErrNotFound):
					missing.Add(1)
				case err != nil:
					return err
				default:
					named.Add(1)
				}
			}
			return nil
		})
	}
	err = readRevocations(lines, tenant, func(r revocation) bool {
		key := sessiond.Key{Tenant: r.Tenant, ID: sessiond.ID(r.SessionID)}
		select {
		case queues[maphash.Comparable(seed, key)%uint64(len(queues))] <- r:
			return true
		case <-ctx.Done(): // by the failure that Wait returns
			return false
		}
	})
	for _, q := range queues {
		close(q)
	}
	err = errors.Join(err, group.Wait())
	return named.Load(), missing.Load(), err
}

// readRevocations calls each for every line about an end, until it returns false.
func readRevocations(lines io.Reader, tenant string, each func(revocation) bool) error {
	s := bufio.NewScanner(lines)
	s.Buffer(nil, maxRevocation)
	number := 0
	for s.Scan() {
		number++
		r, end, err := parseRevocation(s.Bytes(), tenant)
		if err != nil {
			return fmt.Errorf("revocations: line %d %w", number, err)
		}
		if end && !each(r) {
			return nil
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("revocations: line %d is longer than %d bytes", number+1, maxRevocation)
	}
	return s.Err()
}

// params say why the session was ended, as far as a revoke can say it.
func (r *revocation) params() sessiond.RevokeParams {
	p := sessiond.RevokeParams{Note: r.Note, Erase: sessiond.EventType(r.Type) == sessiond.EventErased}
	switch reason := sessiond.EndReason(r.Reason); reason {
	case sessiond.EndLogout, sessiond.EndSecurity:
		p.Reason = reason
	default:
		p.Reason = sessiond.EndRevoked
	}
	return p
}
