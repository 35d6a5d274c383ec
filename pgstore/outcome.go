package pgstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sessiond.example/sessiond"
)

var (
	errClosed = fmt.Errorf("%w: the store is closed", sessiond.ErrUnavailable)
	// errNotReplicated is the outcome of a commit whose wait for a standby was
	// broken off: it is in force here, and may be lost with this server.
	errNotReplicated = errors.New("the commit may not have been replicated")
)

// readError is the error of a statement that changed nothing.
func readError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case rejected(err):
		return fmt.Errorf("pgstore: %s: %w", op, err)
	default:
		return fmt.Errorf("pgstore: %s: %w: %w", op, sessiond.ErrUnavailable, err)
	}
}

// writeError is the error of a statement that commits by itself, or of a commit. sent tells
// whether anything of it was sent: what the driver says of that is not always right.
func writeError(op string, sent bool, err error) error {
	switch {
	case err == nil:
		return nil
	case rejected(err):
		return fmt.Errorf("pgstore: %s: %w", op, err)
	case !sent || rolledBack(err):
		return fmt.Errorf("pgstore: %s: %w: %w", op, sessiond.ErrUnavailable, err)
	default:
		return fmt.Errorf("pgstore: %s: %w: %w", op, sessiond.ErrUnknown, err)
	}
}

// rejected reports whether the server refused the values of a statement
// (SQLSTATE class 22), such as text that is not UTF-8: the caller's mistake,
// with which another try would fail as well.
func rejected(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "22")
}

// rolledBack reports whether err says that a change was sent and certainly had no effect.
func rolledBack(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	// A connection that the server or a pooler ends, or that a pooler lost, may have
	// been in the middle of a commit.
	return !fatal(pg) && pg.Code != "40003" && // statement_completion_unknown
		!strings.HasPrefix(pg.Code, "08") && !strings.HasPrefix(pg.Code, "57P")
}

func fatal(pg *pgconn.PgError) bool {
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	return severity == "FATAL" || severity == "PANIC"
}

// answered reports whether err is the server's answer to a statement, after which
// the connection goes on.
func answered(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !fatal(pg)
}
