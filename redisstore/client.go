package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// clientOption is how the client is set up: it never repeats a command by itself, follows
// redirections within a cluster, and reads from masters only.
func (t *target) clientOption(c *conns) (valkey.ClientOption, error) {
	encryption, err := t.tlsConfig()
	if err != nil {
		return valkey.ClientOption{}, err
	}
	const buffer = 64 << 10
	o := valkey.ClientOption{
		TLSConfig:   encryption,
		DialCtxFn:   c.dial,
		Username:    t.user,
		Password:    t.password,
		ClientName:  "sessiond",
		InitAddress: t.addrs,
		SelectDB:    t.db,

		// A reader of its own on each connection notices at once when it breaks, and a
		// caller who gives up does not take the connection down with it.
		AlwaysPipelining: true,
		ConnWriteTimeout: t.timeout,
		DisableRetry:     true,
		DisableCache:     true,

		ReadBufferEachConn:  buffer,
		WriteBufferEachConn: buffer,
		BlockingPoolSize:    64, // connections for writes that wait for replicas, for each server
	}
	o.Dialer.Timeout = connectTime
	switch t.kind {
	case single:
		o.ForceSingleClient = true
	case cluster:
		// The client asks for the topology anew after every error.
		o.ClusterOption = valkey.ClusterOption{MaxMovedRedirections: maxHops}
	case sentinel:
		o.Sentinel = valkey.SentinelOption{
			MasterSet: t.master, Username: t.sentinelUser, Password: t.sentinelPassword,
			TopologyRefreshInterval: time.Second,
		}
		o.Sentinel.Dialer.Timeout = connectTime
		o.Sentinel.TLSConfig = encryption
	}
	return o, nil
}

// connect makes the client. A cluster is found through one of its servers: given several, the
// client would leave connections and goroutines behind that it made twice.
func (t *target) connect(c *conns) (valkey.Client, error) {
	o, err := t.clientOption(c)
	if err != nil {
		return nil, err
	}
	if t.kind != cluster {
		return t.connectTo(o)
	}
	var client valkey.Client
	for _, addr := range t.addrs {
		o.InitAddress = []string{addr}
		if client, err = t.connectTo(o); err == nil {
			return client, nil
		}
	}
	return nil, err
}

func (t *target) connectTo(o valkey.ClientOption) (valkey.Client, error) {
	client, err := valkey.NewClient(o)
	switch {
	case err != nil && client != nil:
		client.Close()
		fallthrough
	case err != nil:
		return nil, unavailable(hideCause(err))
	case t.kind == cluster && client.Mode() != valkey.ClientModeCluster:
		client.Close()
		return nil, errors.New("the server is not part of a cluster; use a redis:// URL")
	}
	return client, nil
}

// hideCause makes an error a plain text, since callers must not take a time-out or a
// cancellation of our own for theirs.
func hideCause(err error) error { return errors.New(err.Error()) }

// A call is one run of a script.
type call struct {
	script *script
	keys   []string
	args   []string
}

func (s *Store) command(c *call, withText bool) valkey.Completed {
	b := s.client.B()
	n := int64(len(c.keys))
	switch {
	case c.script.write && withText:
		return b.Eval().Script(c.script.text).Numkeys(n).Key(c.keys...).Arg(c.args...).Build()
	case c.script.write:
		return b.Evalsha().Sha1(c.script.sha).Numkeys(n).Key(c.keys...).Arg(c.args...).Build()
	case withText:
		return b.EvalRo().Script(c.script.text).Numkeys(n).Key(c.keys...).Arg(c.args...).Build()
	default:
		return b.EvalshaRo().Sha1(c.script.sha).Numkeys(n).Key(c.keys...).Arg(c.args...).Build()
	}
}

// read runs a script that changes nothing, for as long as the caller's context allows.
func (s *Store) read(ctx context.Context, c *call) (valkey.ValkeyMessage, error) {
	own, cancel := context.WithTimeout(ctx, s.target.timeout)
	defer cancel()
	res := s.client.Do(own, s.command(c, false))
	if isNoScript(res) {
		res = s.client.Do(own, s.command(c, true))
	}
	m, err := res.ToMessage()
	return m, s.readError(ctx, err)
}

// readAll runs several such scripts in one go.
func (s *Store) readAll(ctx context.Context, calls []call) ([]valkey.ValkeyMessage, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	own, cancel := context.WithTimeout(ctx, s.target.timeout)
	defer cancel()
	answers := make([]valkey.ValkeyMessage, len(calls))
	for i, res := range s.doAll(own, calls) {
		m, err := res.ToMessage()
		if err != nil {
			return nil, s.readError(ctx, err)
		}
		answers[i] = m
	}
	return answers, nil
}

// write runs a script that changes something. Once it was sent it is waited for, whatever
// becomes of the caller.
func (s *Store) write(ctx context.Context, c *call) (valkey.ValkeyMessage, error) {
	if err := ctx.Err(); err != nil {
		return valkey.ValkeyMessage{}, err
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.target.timeout)
	defer cancel()
	if s.target.waits() {
		return s.writeAndWait(own, c)
	}
	return s.send(own, c)
}

// send runs a script that changes something.
func (s *Store) send(ctx context.Context, c *call) (valkey.ValkeyMessage, error) {
	res := s.client.Do(ctx, s.command(c, false))
	if isNoScript(res) {
		res = s.client.Do(ctx, s.command(c, true))
	}
	m, err := res.ToMessage()
	return m, s.writeError(err)
}

// A written is what came of one of several writes.
type written struct {
	answer valkey.ValkeyMessage
	err    error
}

// writeAll runs several such scripts in one go. It does not wait for replicas: it is for the
// sweeper and for repairs, which are done again if they get lost.
func (s *Store) writeAll(ctx context.Context, calls []call) []written {
	results := make([]written, len(calls))
	if err := ctx.Err(); err != nil {
		for i := range results {
			results[i].err = err
		}
		return results
	}
	if len(calls) == 0 {
		return nil
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.target.timeout)
	defer cancel()
	for i, res := range s.doAll(own, calls) {
		m, err := res.ToMessage()
		results[i] = written{m, s.writeError(err)}
	}
	return results
}

// doAll sends all calls, and once more with their text those whose script a server lacks.
func (s *Store) doAll(ctx context.Context, calls []call) []valkey.ValkeyResult {
	commands := make(valkey.Commands, len(calls))
	for i := range calls {
		commands[i] = s.command(&calls[i], false)
	}
	results := s.client.DoMulti(ctx, commands...)
	var lacking []int
	for i, res := range results {
		if isNoScript(res) {
			lacking = append(lacking, i)
		}
	}
	if len(lacking) == 0 {
		return results
	}
	again := make(valkey.Commands, len(lacking))
	for i, n := range lacking {
		again[i] = s.command(&calls[n], true)
	}
	for i, res := range s.client.DoMulti(ctx, again...) {
		results[lacking[i]] = res
	}
	return results
}

func isNoScript(res valkey.ValkeyResult) bool {
	refusal, ok := valkey.IsValkeyErr(res.Error())
	return ok && refusal.IsNoScript()
}

// readError maps an error of a read. The caller's own context goes first.
func (s *Store) readError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s.notice(err)
	if own := ctx.Err(); own != nil {
		return own
	}
	return unavailable(explain(err))
}

// writeError maps an error of a write that was handed to the client.
func (s *Store) writeError(err error) error {
	if err == nil {
		return nil
	}
	s.notice(err)
	if notApplied(err) {
		return unavailable(explain(err))
	}
	return fmt.Errorf("%w: %w", sessiond.ErrUnknown, explain(err))
}

// refusals are the first words of what a server answers when it has not begun to run a
// command. Errors that a script itself meets are others.
var refusals = []string{
	"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT", "LOADING", "MASTERDOWN", "READONLY",
	"NOREPLICAS", "OOM", "MISCONF", "BUSY", "NOSCRIPT", "NOAUTH", "WRONGPASS", "NOPERM",
}

// notApplied reports whether a write that failed with err has certainly changed nothing.
func notApplied(err error) bool {
	var unsent *notConnected
	if errors.As(err, &unsent) || errors.Is(err, valkey.ErrNoSlot) {
		return true
	}
	var refusal *valkey.ValkeyError
	if !errors.As(err, &refusal) {
		return false
	}
	word, rest, _ := strings.Cut(refusal.Error(), " ")
	return slices.Contains(refusals, word) || strings.HasPrefix(rest, "max number of clients")
}

// explain makes an error fit for people.
func explain(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, valkey.ErrClosing):
		return errors.New("the connection was closed")
	}
	return hideCause(err)
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err) }

// notice acts on an error. In a cluster the client now looks at the topology again. Elsewhere, a
// server that has become a replica tells that the address may lead to another one now, so
// the connections are given up.
func (s *Store) notice(err error) {
	var refusal *valkey.ValkeyError
	switch {
	case s.target.kind == cluster:
		s.conns.trouble()
	case s.target.kind == single && errors.As(err, &refusal) && strings.HasPrefix(refusal.Error(), "READONLY"):
		s.conns.drop()
	}
}
