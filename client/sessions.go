package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// Create is [sessiond.Manager.Create]. With an IdempotencyKey a lost answer may
// be asked for again.
func (c *Client) Create(ctx context.Context, p sessiond.CreateParams) (*sessiond.Session, sessiond.Token, error) {
	body, err := api.Marshal(api.CreateRequest{
		ID: string(p.ID), Subject: p.Subject, Data: p.Data, Labels: p.Labels,
		ExpiresIn: seconds(p.ExpiresIn), IdleTimeout: seconds(p.IdleTimeout),
	})
	if err != nil {
		return nil, "", errNotJSON()
	}
	r := call{method: http.MethodPost, path: api.PathSessions + "/", media: api.MediaJSON, body: body, token: true}
	if p.IdempotencyKey != "" {
		r.header = http.Header{api.HeaderIdempotencyKey: {p.IdempotencyKey}}
	}
	return c.session(ctx, r)
}

// Get is [sessiond.Manager.Get].
func (c *Client) Get(ctx context.Context, id sessiond.ID) (*sessiond.Session, error) {
	if err := check(id); err != nil {
		return nil, err
	}
	s, _, err := c.session(ctx, call{method: http.MethodGet, path: sessionPath(id, "")})
	return s, err
}

// Update is [sessiond.Manager.Update].
func (c *Client) Update(ctx context.Context, id sessiond.ID, p sessiond.UpdateParams) (*sessiond.Session, error) {
	if err := check(id); err != nil {
		return nil, err
	}
	req := api.UpdateRequest{Data: p.Data, ExpiresIn: seconds(p.ExpiresIn), IdleTimeout: seconds(p.IdleTimeout)}
	if p.Labels != nil {
		req.Labels = &p.Labels
	}
	body, err := api.Marshal(req)
	if err != nil {
		return nil, errNotJSON()
	}
	s, _, err := c.session(ctx, call{
		method: http.MethodPut, path: sessionPath(id, ""), header: ifMatch(nil, p.IfMatch),
		media: api.MediaJSON, body: body,
	})
	return s, err
}

// Patch is [sessiond.Manager.Patch].
func (c *Client) Patch(ctx context.Context, id sessiond.ID, p sessiond.PatchParams) (*sessiond.Session, error) {
	if err := check(id); err != nil {
		return nil, err
	}
	s, _, err := c.session(ctx, call{
		method: http.MethodPatch, path: sessionPath(id, ""), header: ifMatch(nil, p.IfMatch),
		media: api.MediaMergePatch, body: p.Patch,
	})
	return s, err
}

// Touch is [sessiond.Manager.Touch].
func (c *Client) Touch(ctx context.Context, id sessiond.ID) (*sessiond.Session, error) {
	if err := check(id); err != nil {
		return nil, err
	}
	s, _, err := c.session(ctx, call{method: http.MethodPost, path: sessionPath(id, "/touch")})
	return s, err
}

// Rotate is [sessiond.Manager.Rotate].
func (c *Client) Rotate(
	ctx context.Context, id sessiond.ID, p sessiond.RotateParams,
) (*sessiond.Session, sessiond.Token, error) {
	if err := check(id); err != nil {
		return nil, "", err
	}
	body, err := api.Marshal(api.RotateRequest{Token: string(p.Token), Subject: p.Subject})
	if err != nil {
		return nil, "", errNotJSON()
	}
	return c.session(ctx, call{
		method: http.MethodPost, path: sessionPath(id, "/rotate"), header: ifMatch(nil, p.IfMatch),
		media: api.MediaJSON, body: body, token: true,
	})
}

// Revoke is [sessiond.Manager.Revoke].
func (c *Client) Revoke(ctx context.Context, id sessiond.ID, p sessiond.RevokeParams) error {
	if err := check(id); err != nil {
		return err
	}
	q := ending(p.Reason, p.Note)
	if p.Erase {
		q.Set("erase", "true")
	}
	_, err := c.do(ctx, call{
		method: http.MethodDelete, path: sessionPath(id, ""), query: q, header: ifMatch(nil, p.IfMatch),
	}, nil)
	return err
}

// RevokeMatching is [sessiond.Manager.RevokeMatching].
func (c *Client) RevokeMatching(
	ctx context.Context, p sessiond.RevokeMatchingParams,
) (n int, complete bool, err error) {
	q := ending(p.Reason, p.Note)
	filter(q, &p.Filter)
	if p.Except != "" {
		q.Set("except", string(p.Except))
	}
	if p.DryRun {
		q.Set("dry_run", "true")
	}
	r := call{method: http.MethodDelete, path: api.PathSessions + "/", query: q}
	var out struct { // pointers, to see what is not there
		Revoked  *int  `json:"revoked"`
		Complete *bool `json:"complete"`
	}
	if _, err = c.do(ctx, r, &out); err != nil {
		return 0, false, err
	}
	if out.Revoked == nil || out.Complete == nil {
		return 0, false, r.transportError(ctx, errNotOurs)
	}
	return *out.Revoked, *out.Complete, nil
}

// List is [sessiond.Manager.List].
func (c *Client) List(ctx context.Context, p sessiond.ListParams) (*sessiond.SessionPage, error) {
	q := url.Values{}
	filter(q, &p.Filter)
	if p.Limit != 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Cursor != "" {
		q.Set("cursor", p.Cursor)
	}
	if p.IncludeData {
		q.Set("include", "data")
	}
	r := call{method: http.MethodGet, path: api.PathSessions + "/", query: q, limit: manySessions}
	var wire api.SessionPage
	if _, err := c.do(ctx, r, &wire); err != nil {
		return nil, err
	}
	if wire.Sessions == nil {
		return nil, r.transportError(ctx, errNotOurs)
	}
	page := &sessiond.SessionPage{NextCursor: wire.NextCursor, Sessions: make([]*sessiond.Session, len(wire.Sessions))}
	for i := range wire.Sessions {
		s, err := wire.Sessions[i].Session(c.tenant(), "")
		if err != nil {
			return nil, r.transportError(ctx, err)
		}
		page.Sessions[i] = s
	}
	return page, nil
}

// Verify is [sessiond.Manager.Verify].
func (c *Client) Verify(
	ctx context.Context, t sessiond.Token, p sessiond.VerifyParams,
) (sessiond.Verification, error) {
	req := api.VerifyRequest{Token: string(t)}
	if p.NoTouch {
		req.Touch = new(false)
	}
	body, err := api.Marshal(req)
	if err != nil {
		return sessiond.Verification{}, nil // not UTF-8, so not a token
	}
	r := call{method: http.MethodPost, path: api.PathVerify, media: api.MediaJSON, body: body}
	var wire struct { // a pointer, to see what is not there
		Active  *bool        `json:"active"`
		Session *api.Session `json:"session"`
		Reason  string       `json:"reason"`
	}
	if _, err := c.do(ctx, r, &wire); err != nil {
		return sessiond.Verification{}, err
	}
	if wire.Active == nil {
		return sessiond.Verification{}, r.transportError(ctx, errNotOurs)
	}
	v := sessiond.Verification{Active: *wire.Active, Reason: sessiond.EndReason(wire.Reason)}
	if !v.Active {
		return v, nil
	}
	if wire.Session == nil {
		wire.Session = &api.Session{}
	}
	if v.Session, err = wire.Session.Session(c.tenant(), ""); err != nil {
		return sessiond.Verification{}, r.transportError(ctx, err)
	}
	return v, nil
}

// RevokeToken is [sessiond.Manager.RevokeToken].
func (c *Client) RevokeToken(ctx context.Context, t sessiond.Token) error {
	form := url.Values{"token": {string(t)}}
	_, err := c.do(ctx, call{
		method: http.MethodPost, path: api.PathRevoke, media: api.MediaForm, body: []byte(form.Encode()),
	}, nil)
	return err
}

// check keeps an ID that is none from naming another path. No session has it.
func check(id sessiond.ID) error {
	if _, err := sessiond.ParseID(string(id)); err != nil {
		return sessiond.ErrNotFound
	}
	return nil
}

// errNotJSON stands for an encoder's error, which may repeat the input.
func errNotJSON() error {
	return &sessiond.InvalidError{Fields: []sessiond.FieldError{{Detail: "texts must be UTF-8 and data must be JSON"}}}
}

// seconds is d in whole seconds. What is not whole becomes 0 or less, which the
// server refuses.
func seconds(d *time.Duration) *int64 {
	switch {
	case d == nil:
		return nil
	case *d%time.Second != 0:
		return new(int64(-1))
	default:
		return new(int64(*d / time.Second))
	}
}

func ending(reason sessiond.EndReason, note string) url.Values {
	q := url.Values{}
	if reason != "" {
		q.Set("reason", string(reason))
	}
	if note != "" {
		q.Set("note", note)
	}
	return q
}

func filter(q url.Values, f *sessiond.Filter) {
	if f.Subject != "" {
		q.Set("subject", f.Subject)
	}
	if f.Status != "" {
		q.Set("status", string(f.Status))
	}
	if f.ActiveOnly {
		q.Set("active_only", "true")
	}
	for k, v := range f.Labels {
		q.Set("label."+k, v)
	}
	for name, t := range map[string]time.Time{
		"created_after": f.CreatedAfter, "created_before": f.CreatedBefore, "expires_before": f.ExpiresBefore,
	} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
}
