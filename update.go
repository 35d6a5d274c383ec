package sessiond

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// UpdateParams name what is to be replaced. What is nil stays.
type UpdateParams struct {
	Data   jsontext.Value    // a JSON object of at most Policy.MaxData bytes
	Labels map[string]string // an empty map removes all labels
	// ExpiresIn counts from now; the deadline is capped at CreatedAt + Policy.MaxLifetime.
	ExpiresIn *time.Duration
	// IdleTimeout, if less than the idleness already passed, ends the session
	// at once with EndIdle.
	IdleTimeout *time.Duration

	IfMatch []ETag // the update fails with ErrVersion unless one matches. Default: unconditional
}

// Update replaces the given parts of a session, atomically. An update that
// changes nothing leaves the version as it is.
//
// It returns [ErrInvalid], [ErrNotFound], an [*EndedError], [ErrVersion], or
// [ErrSealed], before anything is written, when the result could not show data.
func (m *Manager) Update(ctx context.Context, id ID, p UpdateParams) (_ *Session, err error) {
	ctx, done := m.span(ctx, "update")
	defer func() { done(err) }()
	var v validator
	c := changes{labels: p.Labels, expiresIn: p.ExpiresIn, idleTimeout: p.IdleTimeout}
	if p.Data != nil {
		c.data = v.data(p.Data, &m.policy)
	}
	c.validate(&v, &m.policy)
	if err := v.err(); err != nil {
		return nil, err
	}
	return m.update(ctx, id, p.IfMatch, func(*Record) (changes, error) { return c, nil })
}

// PatchParams are a merge patch and its condition.
type PatchParams struct {
	// Patch is a JSON merge patch (RFC 7396) over the members data, labels,
	// expires_in and idle_timeout (in seconds). null empties data and labels
	// and is refused for the others.
	Patch jsontext.Value

	IfMatch []ETag // the patch fails with ErrVersion unless one matches. Default: unconditional
}

// Patch merges a patch into a session, atomically: two parallel patches of
// different keys both survive. Otherwise it is like [Manager.Update]; a patch
// that is not a JSON object is [ErrMalformed].
func (m *Manager) Patch(ctx context.Context, id ID, p PatchParams) (_ *Session, err error) {
	ctx, done := m.span(ctx, "patch")
	defer func() { done(err) }()
	patch, err := m.parsePatch(p.Patch)
	if err != nil {
		return nil, err
	}
	return m.update(ctx, id, p.IfMatch, func(r *Record) (changes, error) { return m.applyPatch(patch, r) })
}

// changes are the new values of what is to change; nil is what stays.
type changes struct {
	data        jsontext.Value
	labels      map[string]string
	expiresIn   *time.Duration
	idleTimeout *time.Duration
}

func (c *changes) validate(v *validator, p *Policy) {
	v.labels(c.labels)
	if c.expiresIn != nil {
		v.expiresIn(*c.expiresIn, p)
	}
	if c.idleTimeout != nil {
		v.idleTimeout(*c.idleTimeout, p)
	}
}

var errUnchanged = errors.New("nothing to change")

// update applies the changes that get derives from the record, in one atomic step.
func (m *Manager) update(
	ctx context.Context, id ID, ifMatch []ETag, get func(*Record) (changes, error),
) (*Session, error) {
	if !validID(string(id)) {
		return nil, ErrNotFound
	}
	res, err := m.store.Update(ctx, m.key(id), func(now time.Time, r *Record) (Change, error) {
		if !r.matches(ifMatch) {
			return Change{}, ErrVersion
		}
		c, err := get(r)
		if err != nil {
			return Change{}, err
		}
		changed, err := m.apply(c, now, r)
		if err != nil {
			return Change{}, err
		}
		if !changed {
			return Change{}, errUnchanged
		}
		if c.data == nil {
			if err := m.readable(r); err != nil {
				return Change{}, err
			}
		}
		var e Event
		if !now.Before(r.Deadline()) {
			reason := EndIdle // by a shorter idle timeout
			if !now.Before(r.ExpiresAt) {
				reason = EndAbsolute // Policy.MaxLifetime was larger when the session began
			}
			r.End(now, reason, "", Actor{})
			e = r.EndEvent(RequestID(ctx))
			e.Actor = m.by()
		} else {
			r.Version++
			r.UpdatedAt = now
			e = r.Event(EventUpdated, m.by(), RequestID(ctx))
		}
		return Change{Event: &e}, nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, m.writeError(res, err)
	}
	return m.tagged(res.Record)
}

// apply writes c into r and reports whether that changed anything.
func (m *Manager) apply(c changes, now time.Time, r *Record) (changed bool, err error) {
	if c.data != nil {
		// Data that can't be opened may still be replaced.
		old, err := m.open(r)
		if err != nil || !bytes.Equal(old, c.data) {
			if err := m.seal(r, c.data); err != nil {
				return false, err
			}
			changed = true
		}
	}
	if c.labels != nil && !maps.Equal(r.Labels, c.labels) {
		r.Labels = maps.Clone(c.labels)
		changed = true
	}
	if c.expiresIn != nil {
		at := earlier(r.CreatedAt.Add(m.policy.MaxLifetime), now.Add(*c.expiresIn))
		changed = changed || !at.Equal(r.ExpiresAt)
		r.ExpiresAt = at
	}
	if c.idleTimeout != nil {
		changed = changed || *c.idleTimeout != r.IdleTimeout
		r.IdleTimeout = *c.idleTimeout
	}
	return changed, nil
}

// A sessionPatch is a merge patch taken apart. Absent members are nil.
type sessionPatch struct {
	data, labels jsontext.Value
	changes      // the members that don't merge
}

func (m *Manager) parsePatch(raw jsontext.Value) (*sessionPatch, error) {
	if err := ValidateJSON(raw, MaxNesting); err != nil {
		return nil, err
	}
	var v validator
	if raw.Kind() != '{' {
		return nil, fmt.Errorf("%w: a patch must be a JSON object", ErrMalformed)
	}
	ms, err := members(raw)
	if err != nil {
		return nil, err
	}
	var p sessionPatch
	for _, mem := range ms {
		switch mem.name {
		case "data":
			v.check(mem.value.Kind() == '{' || mem.value.Kind() == 'n', "/data", "must be an object or null")
			p.data = mem.value
		case "labels":
			v.check(mem.value.Kind() == '{' || mem.value.Kind() == 'n', "/labels", "must be an object or null")
			p.labels = mem.value
			if p.labels.Kind() == '{' { // what is wrong whatever the session has is told before it is asked for
				set := map[string]string{}
				v.mergeLabels(set, p.labels)
				v.labels(set)
			}
		case "expires_in":
			p.expiresIn = v.seconds("/expires_in", mem.value)
		case "idle_timeout":
			p.idleTimeout = v.seconds("/idle_timeout", mem.value)
		default:
			v.check(false, pointer(mem.name), "unknown member")
		}
	}
	p.changes.validate(&v, &m.policy)
	return &p, v.err()
}

// applyPatch derives from r and the patch what is to change.
func (m *Manager) applyPatch(p *sessionPatch, r *Record) (changes, error) {
	c := p.changes
	var v validator
	if p.data != nil {
		merged := jsontext.Value(emptyData)
		if p.data.Kind() == '{' {
			old, err := m.open(r)
			if err != nil {
				return c, err
			}
			if merged, err = mergePatch(old, p.data); err != nil {
				return c, err
			}
		}
		c.data = v.data(merged, &m.policy)
	}
	if p.labels != nil {
		c.labels = map[string]string{}
		if p.labels.Kind() == '{' {
			maps.Copy(c.labels, r.Labels)
			v.mergeLabels(c.labels, p.labels)
			v.labels(c.labels)
		}
	}
	return c, v.err()
}

// mergeLabels applies a patch to labels in place.
func (v *validator) mergeLabels(labels map[string]string, patch jsontext.Value) {
	ms, err := members(patch)
	v.check(err == nil, "/labels", "must be an object")
	for _, mem := range ms {
		switch mem.value.Kind() {
		case 'n':
			delete(labels, mem.name)
		case '"':
			// The value was validated as JSON before.
			text, err := jsontext.AppendUnquote(nil, mem.value)
			v.check(err == nil, "/labels"+pointer(mem.name), "must be a string or null")
			labels[mem.name] = string(text)
		default:
			v.check(false, "/labels"+pointer(mem.name), "must be a string or null")
		}
	}
}

// seconds reads a plain integer number of seconds; nil when it is none.
func (v *validator) seconds(pointer string, raw jsontext.Value) *time.Duration {
	d, ok := ParseSeconds(raw)
	v.check(ok, pointer, "must be a whole number of seconds")
	if !ok {
		return nil
	}
	return &d
}

// ParseSeconds reads a JSON number of seconds. Only plain integers are
// accepted: no fraction, no exponent, no string. Numbers beyond the longest
// duration of a session come back as a duration that every bound refuses.
func ParseSeconds(raw jsontext.Value) (time.Duration, bool) {
	if raw.Kind() != '0' || bytes.ContainsAny(raw, ".eE") || string(raw) == "-0" {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, false
	}
	return time.Duration(min(max(n, -1), longest+1)) * time.Second, true
}

// pointer is the RFC 6901 pointer to a member of the root, cut to a length
// that is fit to be answered. Names that are not fit to be shown are left out.
func pointer(name string) string {
	if len(name) > 64 || !ValidText(name) {
		return ""
	}
	return "/" + escapePointer.Replace(name)
}

var escapePointer = strings.NewReplacer("~", "~0", "/", "~1")
