package server

import (
	"errors"

	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/internal/admission"
)

// Overload is refused here, once a request is known to be permitted and before its body is read. Kinds of requests are
// kept apart, so that one that is slow takes no room from the others; and the less it matters the sooner it is refused:
// lists, then writes, then checks of sessions, and what ends sessions last of all.

// A class is the kind of requests that a route is for.
type class uint8

const (
	classNone       class = iota // always admitted: event streams, which have a bound of their own
	classRevoke                  // ends one session
	classRevokeMany              // ends many, or is read without a credential
	classCheck                   // asks for one session
	classWrite                   // makes or changes one
	classList                    // looks at many
)

// newGate shares out the room of most requests. Each class leaves some to those above it. The limits adapt down to what
// keeps a store busy while it is well: a group of writes in each sync of its log, a request on each connection.
func newGate(most int) *admission.Gate {
	part := func(of16 int) int { return most * of16 / 16 }
	return admission.New(2*most,
		admission.Class{Name: "revoke", Ceiling: most, Most: most, Least: most},
		admission.Class{Name: "revoke_many", Ceiling: part(15), Most: part(2), Least: part(2)},
		admission.Class{Name: "check", Ceiling: part(14), Most: part(14), Least: part(1)},
		admission.Class{Name: "write", Ceiling: part(12), Most: part(12), Least: part(1)},
		admission.Class{Name: "list", Ceiling: part(8), Most: part(2), Least: part(1) / 4},
	)
}

// handle lets the request in, reads its body and does what the route is for.
func (c *call) handle() error {
	var place admission.Pass
	if c.route.class != classNone {
		var err error
		place, err = c.gate.Enter(c.ctx, int(c.route.class-1))
		switch {
		case errors.Is(err, admission.ErrRefused):
			return errOverloaded
		case err != nil:
			return err // the client has gone
		}
		defer place.Leave()
	}
	if err := c.readBody(c.route.body); err != nil {
		return err
	}
	if c.route.class != classNone {
		place.Begin()
	}
	return c.route.handler(c)
}

var errOverloaded = refuse(api.CodeOverloaded, "there are more requests than can be served now")

// Admission is the state of one class of requests.
type Admission struct {
	Class    string // revoke, revoke_many, check, write or list
	Limit    int    // how many may be in the works now
	InFlight int    // how many are
	Refused  uint64 // since the start
}

// Admissions are those of all classes.
func (s *Server) Admissions() []Admission {
	stats := s.gate.Stats()
	out := make([]Admission, len(stats))
	for i, c := range stats {
		out[i] = Admission{Class: c.Name, Limit: c.Limit, InFlight: c.InFlight, Refused: c.Refused}
	}
	return out
}
