package server

import (
	"errors"
	"net/http"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/auth"
)

// The handlers of sessions by id, and of the collection.

// create starts a session. Its data goes back to whoever wrote it.
func (c *call) create() error {
	p, err := api.DecodeCreate(c.body)
	if err != nil {
		return err
	}
	if p.IdempotencyKey, err = idempotencyKey(c.r.Header[api.HeaderIdempotencyKey]); err != nil {
		return err
	}
	s, token, err := c.manager().Create(c.ctx, p)
	if err != nil {
		return err
	}
	c.op.SessionID = string(s.ID)
	c.set("Location", sessionsPrefix+string(s.ID))
	c.writeSession(http.StatusCreated, s, token)
	return nil
}

func idempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || !sessiond.ValidIdempotencyKey(values[0]) {
		return "", malformed("the header " + api.HeaderIdempotencyKey +
			" must be given once and have 1 to 128 visible ASCII characters")
	}
	return values[0], nil
}

func (c *call) get() error {
	s, err := c.reader().Get(c.ctx, c.id)
	if err != nil {
		return err
	}
	c.writeSession(http.StatusOK, s, "")
	return nil
}

func (c *call) update() error {
	p, err := api.DecodeUpdate(c.body)
	if err != nil {
		return err
	}
	if p.IfMatch, err = parseIfMatch(c.r.Header["If-Match"]); err != nil {
		return err
	}
	s, err := c.reader().Update(c.ctx, c.id, p)
	if err != nil {
		return err
	}
	c.writeSession(http.StatusOK, s, "")
	return nil
}

func (c *call) patch() error {
	ifMatch, err := parseIfMatch(c.r.Header["If-Match"])
	if err != nil {
		return err
	}
	p := sessiond.PatchParams{Patch: c.body, IfMatch: ifMatch}
	s, err := c.reader().Patch(c.ctx, c.id, p)
	if err != nil {
		return err
	}
	c.writeSession(http.StatusOK, s, "")
	return nil
}

// touch records activity now. The body may be an empty object, which some clients can't help sending.
func (c *call) touch() error {
	if err := api.DecodeEmpty(c.body); err != nil {
		return err
	}
	s, err := c.reader().Touch(c.ctx, c.id)
	if err != nil {
		return err
	}
	c.writeSession(http.StatusOK, s, "")
	return nil
}

// revoke ends one session.
func (c *call) revoke() error {
	p := sessiond.RevokeParams{Reason: sessiond.EndRevoked}
	err := parseQuery(c.r.URL.RawQuery, func(name, value string) (known bool, err error) {
		switch name {
		case "reason":
			p.Reason, err = reason(value)
		case "note":
			p.Note, err = note(value)
		case "erase":
			p.Erase, err = boolean(name, value)
		default:
			return false, nil
		}
		return true, err
	})
	if p.Erase || err != nil && c.asks("erase", "true") {
		if err := c.require(auth.Admin); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if p.IfMatch, err = parseIfMatch(c.r.Header["If-Match"]); err != nil {
		return err
	}
	if err := c.manager().Revoke(c.ctx, c.id, p); err != nil {
		return err
	}
	c.op.Reason = p.Reason
	c.writeEmpty(http.StatusNoContent)
	return nil
}

func (c *call) list() error {
	var p sessiond.ListParams
	err := parseQuery(c.r.URL.RawQuery, func(name, value string) (known bool, err error) {
		switch {
		case isFilter(name):
			err = setFilter(&p.Filter, name, value)
		case name == "limit":
			p.Limit, err = integer(name, value, sessiond.MaxLimit)
		case name == "cursor":
			if p.Cursor = value; value == "" {
				err = sessiond.ErrCursor
			}
		case name == "include":
			if p.IncludeData = value == "data"; !p.IncludeData {
				err = badParameter(name, "data")
			}
		default:
			return false, nil
		}
		return true, err
	})
	if p.IncludeData || err != nil && c.asks("include", "data") {
		if err := c.require(auth.Read); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if p.IncludeData && p.Limit > sessiond.MaxLimitData {
		return malformed("the parameter limit must be at most 100 with include=data")
	}
	page, err := c.manager().List(c.ctx, p)
	if err != nil {
		return err
	}
	c.writeWith(http.StatusOK, valueJSON, func(b []byte) []byte { return api.AppendPage(b, page) })
	return nil
}

// revokeMatching ends all sessions that filters select.
func (c *call) revokeMatching() error {
	p := sessiond.RevokeMatchingParams{Reason: sessiond.EndRevoked}
	bySubject := false
	err := parseQuery(c.r.URL.RawQuery, func(name, value string) (known bool, err error) {
		switch {
		case isFilter(name):
			bySubject = bySubject || name == "subject"
			if value == "" {
				return true, invalidFilter("a filter must not be empty")
			}
			err = setFilter(&p.Filter, name, value)
		case name == "except":
			if p.Except, err = sessiond.ParseID(value); err != nil {
				err = badParameter(name, "the id of a session")
			}
		case name == "reason":
			p.Reason, err = reason(value)
		case name == "note":
			p.Note, err = note(value)
		case name == "dry_run":
			p.DryRun, err = boolean(name, value)
		default:
			return false, nil
		}
		return true, err
	})
	if !bySubject && (err == nil || !c.r.URL.Query().Has("subject")) {
		if err := c.require(auth.Admin); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if len(c.r.Header["If-Match"]) > 0 {
		return malformed("the header If-Match has no meaning for many sessions")
	}
	if p.Filter.IsZero() {
		return invalidFilter("there must be a filter")
	}
	n, complete, err := c.manager().RevokeMatching(c.ctx, p)
	if err != nil {
		if !p.DryRun {
			// Whatever stopped it, some sessions may have ended before.
			err = errors.Join(sessiond.ErrUnknown, err)
		}
		return err
	}
	if !p.DryRun {
		c.op.Reason = p.Reason
	}
	return c.writeMessage(api.Revoked{Revoked: n, Complete: complete})
}

func invalidFilter(detail string) error {
	return &sessiond.InvalidError{Fields: []sessiond.FieldError{{Detail: detail}}}
}
