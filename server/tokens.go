package server

import (
	"errors"
	"net/http"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/auth"
)

// The handlers that deal in the tokens of sessions. A token is proof enough to see the data of its session.

func (c *call) verify() error {
	token, p, err := api.DecodeVerify(c.body)
	if err != nil {
		return err
	}
	v, err := c.check(c.manager(), token, p)
	if err != nil {
		return err
	}
	c.writeWith(http.StatusOK, valueJSON, func(b []byte) []byte { return api.AppendVerification(b, &v) })
	return nil
}

// check asks m whether the session of a token may go on.
func (c *call) check(m *sessiond.Manager, t sessiond.Token, p sessiond.VerifyParams) (sessiond.Verification, error) {
	v, err := m.Verify(c.ctx, t, p)
	if err == nil && v.Active {
		c.op.SessionID = string(v.Session.ID)
	}
	return v, err
}

// introspect answers as RFC 7662 has it.
func (c *call) introspect() error {
	token, p, err := c.tokenForm()
	if err != nil {
		return err
	}
	v, err := c.check(c.manager().WithoutData(), token, p)
	if err != nil {
		return err
	}
	if !v.Active {
		return c.writeMessage(api.Introspection{})
	}
	s := v.Session
	return c.writeMessage(api.Introspection{
		Active: true, Subject: s.Subject, SID: string(s.ID), Expires: s.Deadline().Unix(), IssuedAt: s.CreatedAt.Unix(),
		ClientID: s.Labels["client_id"], Scope: s.Labels["scope"],
	})
}

// revokeToken ends a session at sign-out, as RFC 7009 has it: the answer does not tell whether there was one.
func (c *call) revokeToken() error {
	token, _, err := c.tokenForm()
	if err != nil {
		return err
	}
	// Looked at first only for the log, which tells of ends alone.
	v, err := c.check(c.manager().WithoutData(), token, sessiond.VerifyParams{NoTouch: true})
	if err != nil {
		return err
	}
	if v.Active {
		if err := c.manager().RevokeToken(c.ctx, token); err != nil {
			return err
		}
		c.op.Reason = sessiond.EndLogout
	}
	c.writeEmpty(http.StatusOK)
	return nil
}

// tokenForm reads the form of an OAuth endpoint. Fields that are not ours are ignored; an empty field counts as absent
// (RFC 6749 section 3.2).
func (c *call) tokenForm() (token sessiond.Token, p sessiond.VerifyParams, err error) {
	seen := make(map[string]bool)
	err = parsePairs(string(c.body), func(name, value string) error {
		if name != "token" && name != "touch" {
			return nil
		}
		if seen[name] {
			return malformed("the field " + name + " is repeated")
		}
		seen[name] = true
		if name == "token" {
			token = sessiond.Token(value)
			return nil
		}
		if value != "true" && value != "false" && value != "" {
			return malformed("the field touch must be true or false")
		}
		p.NoTouch = value == "false"
		return nil
	})
	if err == nil && token == "" {
		err = malformed("the field token is required")
	}
	return token, p, err
}

// rotate replaces the token of a session. Holding the present one stands in for the permission to create, as long as no
// subject is to be bound.
func (c *call) rotate() error {
	p, err := api.DecodeRotate(c.body)
	if err != nil && !errors.Is(err, sessiond.ErrInvalid) {
		return err
	}
	if p.Token == "" || p.Subject != "" {
		// Before the details of the input: permission comes first.
		if err := c.require(auth.Create); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if p.IfMatch, err = parseIfMatch(c.r.Header["If-Match"]); err != nil {
		return err
	}
	m := c.reader()
	if p.Token != "" {
		m = c.manager()
	}
	s, token, err := m.Rotate(c.ctx, c.id, p)
	if err != nil {
		return err
	}
	c.writeSession(http.StatusOK, s, token)
	return nil
}
