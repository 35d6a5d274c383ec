package server

import (
	"context"
	"errors"
	"net/http"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/auth"
)

// A LogoutVerifier judges the logout tokens of issuers, as [auth.Verifier] does. Its errors are those of a Verifier.
type LogoutVerifier interface {
	VerifyLogout(ctx context.Context, raw string) (*auth.Logout, error)
}

// Labels by which a session names the sign-in at its issuer that it came from.
const (
	labelIssuer    = "oidc_iss"
	labelSessionID = "oidc_sid"
)

// backchannelLogout ends the sessions that came from a sign-in which has ended at its issuer (OpenID Connect
// Back-Channel Logout 1.0 section 2.7). The logout token is the credential. Repeating it does no harm, so tokens that
// were seen are not remembered.
func (c *call) backchannelLogout() error {
	raw, err := c.logoutForm()
	if err != nil {
		return err
	}
	l, err := c.verifyLogout(raw)
	if err != nil {
		return err
	}
	c.tenant, c.op.Tenant, c.op.Principal = l.Tenant, l.Tenant, l.Subject
	m := c.cfg.Manager.As(l.Tenant, sessiond.Actor{Issuer: l.Issuer, Sub: l.Subject}).WithoutData()
	labels := map[string]string{labelIssuer: l.Issuer}
	if l.SessionID != "" {
		labels[labelSessionID] = l.SessionID
	}
	ended := 0
	if l.Subject != "" { // most of the time the session's subject is the issuer's, and there is an index
		if ended, err = endAll(c.ctx, m, sessiond.Filter{Subject: l.Subject, Labels: labels}); err != nil {
			return err
		}
	}
	if l.SessionID != "" && ended == 0 {
		if ended, err = endAll(c.ctx, m, sessiond.Filter{Labels: labels}); err != nil {
			return err
		}
	}
	if ended > 0 {
		c.op.Reason = sessiond.EndLogout
	}
	c.writeEmpty(http.StatusOK)
	return nil
}

// endAll ends every session that a filter selects.
func endAll(ctx context.Context, m *sessiond.Manager, f sessiond.Filter) (ended int, err error) {
	for {
		n, complete, err := m.RevokeMatching(ctx, sessiond.RevokeMatchingParams{Filter: f, Reason: sessiond.EndLogout})
		ended += n
		if err != nil || complete {
			return ended, err
		}
	}
}

func (c *call) verifyLogout(raw string) (*auth.Logout, error) {
	if c.cfg.Logout == nil {
		return nil, malformed("logout tokens are not accepted here")
	}
	l, err := c.cfg.Logout.VerifyLogout(c.ctx, raw)
	if err == nil {
		return l, nil
	}
	var refused *auth.Error
	if errors.As(err, &refused) {
		c.op.AuthFailure = refused.Reason
	}
	if errors.Is(err, auth.ErrInvalid) || errors.Is(err, auth.ErrTenant) {
		return nil, malformed("the logout token is not valid")
	}
	return nil, refuse(api.CodeIssuerUnavailable, "the logout token can't be judged now: the issuer's keys are not at hand")
}

// logoutForm reads the form of a logout request (section 2.5).
func (c *call) logoutForm() (raw string, err error) {
	seen := false
	err = parsePairs(string(c.body), func(name, value string) error {
		if name != "logout_token" {
			return nil
		}
		if seen {
			return malformed("the field logout_token is repeated")
		}
		seen, raw = true, value
		return nil
	})
	if err == nil && raw == "" {
		err = malformed("the field logout_token is required")
	}
	return raw, err
}
