package sessiond

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
)

// DefaultTenant is the tenant that [New] returns a manager for.
const DefaultTenant = "default"

// Config is what [New] needs.
type Config struct {
	Store  Store  // where sessions live. Required
	Sealer Sealer // encrypts data before the store sees it; see NoSealing. Required
	// Policy holds timeouts and limits. Default: DefaultPolicy, if it is the zero Policy
	Policy Policy
	Logger *slog.Logger // of the background work. Default: none
	// Trace is told of every call of a method that asks or changes the store for
	// its caller, except Events, Stats and the walks (Reencrypt, Fence): op is
	// "create", "get", "verify" and so on. The context it returns is handed to the
	// store; done is called once, with the call's error. Default: none, and calls
	// pay nothing
	Trace func(ctx context.Context, op string) (_ context.Context, done func(error))
}

// A Sealer encrypts the data of sessions. Implementations are safe for
// concurrent use; package keyset has the usual one.
type Sealer interface {
	// Seal encrypts plaintext and binds it to associatedData, which Open must
	// be given again. keyID names the key used, 0 for none.
	Seal(plaintext, associatedData []byte) (ciphertext []byte, keyID uint32, err error)
	// Open decrypts what Seal returned. The result does not alias ciphertext.
	Open(ciphertext, associatedData []byte) (plaintext []byte, err error)
}

// NoSealing is the [Sealer] that leaves data as it is, for tests and for
// stores that keep nothing outside of memory.
type NoSealing struct{}

// Seal returns plaintext.
func (NoSealing) Seal(plaintext, _ []byte) ([]byte, uint32, error) { return plaintext, 0, nil }

// Open returns a copy of ciphertext.
func (NoSealing) Open(ciphertext, _ []byte) ([]byte, error) {
	return append([]byte(nil), ciphertext...), nil
}

// A Manager creates, checks, changes and ends the sessions of one tenant on
// behalf of one actor. [Manager.As] gives the same for others. It is safe for
// concurrent use and cheap to copy through As.
//
// [Manager.Run] must be running for activity to be recorded by Verify and for
// expiries to be told; without it expired sessions are still refused on time.
type Manager struct {
	*core
	tenant      string
	actor       Actor
	withoutData bool
}

// core is what all handles on one store share.
type core struct {
	store   Store
	sealer  Sealer
	policy  Policy
	logger  *slog.Logger
	trace   func(context.Context, string) (context.Context, func(error))
	touches touchQueue
}

// New makes a manager of [DefaultTenant] with no actor. It starts nothing. The
// caller closes the store after the manager's last use.
func New(cfg Config) (*Manager, error) {
	if cfg.Store == nil {
		return nil, errors.New("sessiond: Config.Store is required")
	}
	if cfg.Sealer == nil {
		return nil, errors.New("sessiond: Config.Sealer is required; NoSealing{} leaves data in clear")
	}
	if cfg.Policy == (Policy{}) {
		cfg.Policy = DefaultPolicy()
	}
	if err := cfg.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("sessiond: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &core{store: cfg.Store, sealer: cfg.Sealer, policy: cfg.Policy, logger: cfg.Logger, trace: cfg.Trace}
	c.touches.init()
	return &Manager{core: c, tenant: DefaultTenant}, nil
}

// As is a handle on the sessions of another tenant, whose changes name actor.
// A tenant that [ValidTenant] refuses has no sessions, and creates in it fail
// with [ErrInvalid].
func (m *Manager) As(tenant string, actor Actor) *Manager {
	h := *m
	h.tenant, h.actor = tenant, actor
	return &h
}

// WithoutData is a handle whose results leave Session.Data out. It decrypts
// only where new data has to be merged or compared with the old.
func (m *Manager) WithoutData() *Manager {
	h := *m
	h.withoutData = true
	return &h
}

// by is the actor as records and events name it.
func (m *Manager) by() Actor { return Actor{Sub: m.actor.Sub, Client: m.actor.Client} }

// Tenant is the tenant that m acts in.
func (m *Manager) Tenant() string { return m.tenant }

// Policy is the policy that all handles share.
func (m *Manager) Policy() Policy { return m.policy }

// Stats tells of the store as a whole, all tenants together. It is also a
// check that the store answers.
func (m *Manager) Stats(ctx context.Context) (Stats, error) {
	stats, err := m.store.Stats(ctx)
	maps.DeleteFunc(stats.Active, func(tenant string, _ int64) bool { return !ValidTenant(tenant) })
	return stats, err
}

// Get returns the session. It is not activity of its holder. [ErrNotFound], or
// an [*EndedError].
func (m *Manager) Get(ctx context.Context, id ID) (_ *Session, err error) {
	ctx, done := m.span(ctx, "get")
	defer func() { done(err) }()
	if !validID(string(id)) {
		return nil, ErrNotFound
	}
	res, err := m.store.Get(ctx, m.key(id))
	if err != nil {
		return nil, err
	}
	if !res.Record.EndedAt.IsZero() {
		return nil, m.ended(res.Record)
	}
	return m.tagged(res.Record)
}

// span begins what Config.Trace is told of, if there is one.
func (m *Manager) span(ctx context.Context, op string) (context.Context, func(error)) {
	if m.trace == nil {
		return ctx, untraced
	}
	return m.trace(ctx, op)
}

func untraced(error) {}

func (m *Manager) key(id ID) Key { return Key{Tenant: m.tenant, ID: id} }

// session makes the view of a record that a store returned.
func (m *Manager) session(r *Record, withData bool) (*Session, error) {
	s := &Session{
		Tenant: r.Tenant, ID: r.ID, Subject: r.Subject, Labels: r.Labels,
		Status: r.status(), CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		LastActiveAt: r.LastActiveAt, ExpiresAt: r.ExpiresAt,
		IdleTimeout: r.IdleTimeout, IdleExpiresAt: r.IdleExpiresAt(),
		Version: r.Version, CreatedBy: r.CreatedBy,
		EndedAt: r.EndedAt, EndReason: r.EndReason, EndNote: r.EndNote, EndedBy: r.EndedBy,
	}
	if withData && s.Status == StatusActive {
		data, err := m.open(r)
		if err != nil {
			return nil, err
		}
		s.Data = data
	}
	return s, nil
}

// tagged is the view with its ETag, and with data unless m leaves it out.
func (m *Manager) tagged(r *Record) (*Session, error) {
	s, err := m.session(r, !m.withoutData)
	if err != nil {
		return nil, err
	}
	s.ETag = etag(r.Incarnation, r.Version)
	return s, nil
}

func (m *Manager) ended(r *Record) error {
	// Without data there is nothing that could fail.
	s, _ := m.session(r, false)
	return &EndedError{Session: s}
}

// writeError turns what a store's write returned into what callers see.
func (m *Manager) writeError(res Result, err error) error {
	if errors.Is(err, ErrEnded) && res.Record != nil {
		return m.ended(res.Record)
	}
	return err
}

const emptyData = "{}"

// open decrypts the data of r.
func (m *Manager) open(r *Record) ([]byte, error) {
	if r.Data == nil {
		return []byte(emptyData), nil
	}
	data, err := m.sealer.Open(r.Data, associatedData(r.Key))
	if err != nil {
		return nil, fmt.Errorf("session %s, key %d: %w", r.ID, r.DataKey, ErrSealed)
	}
	return data, nil
}

// readable fails when the view of r could not show its data. Writes ask before
// they commit, so that none takes effect and is then reported as a failure: a
// rotate would lose the new token that way.
func (m *Manager) readable(r *Record) error {
	if m.withoutData {
		return nil
	}
	_, err := m.open(r)
	return err
}

// seal encrypts data into r.
func (m *Manager) seal(r *Record, data []byte) error {
	if string(data) == emptyData {
		r.Data, r.DataKey = nil, 0
		return nil
	}
	var err error
	if r.Data, r.DataKey, err = m.sealer.Seal(data, associatedData(r.Key)); err != nil {
		return fmt.Errorf("seal session data: %w", err)
	}
	return nil
}

// associatedData binds sealed data to its place: a ciphertext that was moved
// to another session or tenant does not open.
func associatedData(k Key) []byte {
	const formatVersion = 1
	b := make([]byte, 0, 1+2+len(k.Tenant)+2+len(k.ID))
	return appendParts(append(b, formatVersion), k.Tenant, string(k.ID))
}

// limit is the limit on a subject that this manager's writes keep.
func (m *Manager) limit(ctx context.Context) SubjectLimit {
	return SubjectLimit{
		Max: m.policy.MaxPerSubject, Evict: m.policy.EvictOldest,
		By: m.by(), RequestID: RequestID(ctx),
	}
}

func newIncarnation() (i Incarnation) {
	rand.Read(i[:])
	return i
}
