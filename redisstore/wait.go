package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// maxHops is how many redirections a write follows. The client follows them by itself, but
// not on connections that are reserved for a caller.
const maxHops = 8

// writeAndWait runs a script and waits until replicas have what it wrote. WAIT speaks of the
// writes of its own connection, so script and WAIT go together over a reserved one.
func (s *Store) writeAndWait(ctx context.Context, c *call) (valkey.ValkeyMessage, error) {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	case <-ctx.Done():
		return valkey.ValkeyMessage{}, unavailable(errors.New("too many writes wait for replicas"))
	}
	client, asking := s.client, false
	for hop := 0; ; hop++ {
		answer, copies, err := s.runWithWait(ctx, client, c, asking)
		addr, ask := redirection(err)
		if addr == "" || hop == maxHops {
			return s.copied(c, answer, copies, err)
		}
		if client = s.client.Nodes()[addr]; client == nil {
			return answer, unavailable(fmt.Errorf("the slot has moved to %s, which is not known yet", addr))
		}
		asking = ask
	}
}

// copied judges a write by the answers to it and to WAIT.
func (s *Store) copied(
	c *call, answer valkey.ValkeyMessage, copies valkey.ValkeyResult, err error,
) (valkey.ValkeyMessage, error) {
	if err != nil {
		return answer, s.writeError(err)
	}
	if refused(c, answer) {
		return answer, nil
	}
	if err := s.enough(copies); err != nil {
		return answer, fmt.Errorf("%w: %w", sessiond.ErrUnknown, err)
	}
	return answer, nil
}

// refused reports whether a script says that it has changed nothing.
func refused(c *call, answer valkey.ValkeyMessage) bool {
	if c.script != createScript && c.script != changeScript && c.script != endScript {
		return false
	}
	status, _, err := parseStatus(answer)
	return err == nil && status != statusDone
}

// enough returns an error unless enough servers have the write.
func (s *Store) enough(copies valkey.ValkeyResult) error {
	if !s.target.aof {
		n, err := copies.AsInt64()
		if err != nil {
			return fmt.Errorf("waiting for replicas: %w", explain(err))
		}
		if n < int64(s.target.replicas) {
			return fmt.Errorf("%d of %d replicas have the write", n, s.target.replicas)
		}
		return nil
	}
	n, err := copies.AsIntSlice()
	if err != nil || len(n) != 2 {
		return fmt.Errorf("waiting for the disks: %w", explain(errors.Join(err, errors.New("no counts"))))
	}
	if n[0] < 1 || n[1] < int64(s.target.replicas) {
		return fmt.Errorf("the server (%d) and %d of %d replicas have the write on disk", n[0], n[1], s.target.replicas)
	}
	return nil
}

// runWithWait runs the script and WAIT on a reserved connection.
func (s *Store) runWithWait(
	ctx context.Context, client valkey.Client, c *call, asking bool,
) (answer valkey.ValkeyMessage, copies valkey.ValkeyResult, err error) {
	reserved, release := client.Dedicate()
	defer release()
	for _, withText := range []bool{false, true} {
		var commands valkey.Commands
		if asking {
			commands = append(commands, s.client.B().Asking().Build())
		}
		commands = append(commands, s.command(c, withText), s.waitCommand())
		results := reserved.DoMulti(ctx, commands...)
		res := results[len(results)-2]
		copies = results[len(results)-1]
		if res.NonValkeyError() != nil || copies.NonValkeyError() != nil {
			reserved.Close() // something may still come
		}
		if answer, err = res.ToMessage(); !isNoScript(res) {
			break
		}
	}
	return answer, copies, err
}

func (s *Store) waitCommand() valkey.Completed {
	b, replicas, ms := s.client.B(), int64(s.target.replicas), s.target.patience().Milliseconds()
	if s.target.aof {
		return b.Waitaof().Numlocal(1).Numreplicas(replicas).Timeout(ms).Build()
	}
	return b.Wait().Numreplicas(replicas).Timeout(ms).Build()
}

// redirection is where a cluster sends a command, if it does.
func redirection(err error) (addr string, ask bool) {
	refusal, ok := valkey.IsValkeyErr(err)
	if !ok {
		return "", false
	}
	if addr, ok := refusal.IsMoved(); ok {
		return addr, false
	}
	if addr, ok := refusal.IsAsk(); ok {
		return addr, true
	}
	return "", false
}
