package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"sessiond.example/sessiond"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the version of the schema that this program knows: the number
// of the last file in migrations.
const schemaVersion = 1

// ErrSchema is the error of a database whose schema is missing, or of a version with
// which this program can't work.
var ErrSchema = errors.New("the schema is not one that this program knows")

// A schemaStatus tells of the schema of a database.
type schemaStatus struct {
	Current int64 // the database's version, 0: there is no schema
	Known   int64 // the newest version that this program knows
	// Compatible is the oldest version that a program has to know to work with the database.
	Compatible int64
	// Moved tells that the database came here from another cluster, so that the feed has to
	// begin anew.
	Moved bool
}

// usable is nil or an ErrSchema that says what to do.
func (s schemaStatus) usable() error {
	switch {
	case s.Current == 0:
		return fmt.Errorf("%w: the database has none; run sessiond migrate", ErrSchema)
	case s.Current < s.Known:
		return fmt.Errorf("%w: it has version %d, and %d is needed; run sessiond migrate", ErrSchema, s.Current, s.Known)
	case s.Compatible > s.Known:
		return fmt.Errorf("%w: it has version %d, and this program knows %d; run a newer program",
			ErrSchema, s.Current, s.Known)
	case s.Moved:
		return fmt.Errorf("%w: the database was moved here from another cluster; run sessiond migrate", ErrSchema)
	}
	return nil
}

// connectConfig is the configuration of a connection that is fine behind any pooler.
func connectConfig(url string) (*pgx.ConnConfig, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	return config.ConnConfig, nil
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := connectConfig(url)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err)
	}
	return c, nil
}

func readStatus(ctx context.Context, c *pgx.Conn) (schemaStatus, error) {
	s := schemaStatus{Known: schemaVersion}
	const ask = `SELECT coalesce((SELECT max(version_id) FROM sessiond.migration WHERE is_applied), 0),
		coalesce((SELECT compatible FROM sessiond.meta), 0),
		coalesce((SELECT m.system <> c.system_identifier FROM sessiond.meta m, pg_control_system() c), false)`
	err := c.QueryRow(ctx, ask, pgx.QueryExecModeExec).Scan(&s.Current, &s.Compatible, &s.Moved)
	var pg *pgconn.PgError
	const undefinedTable, undefinedSchema = "42P01", "3F000"
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &pg) && (pg.Code == undefinedTable || pg.Code == undefinedSchema):
		return schemaStatus{Known: schemaVersion}, nil
	default:
		return schemaStatus{}, fmt.Errorf("read the schema's version: %w: %w", sessiond.ErrUnavailable, err)
	}
}

// A Migration is what Migrate did.
type Migration struct {
	From, To int64 // versions of the schema
	// NewFeed tells that events were dropped and a new feed begun, because the database
	// came from another cluster, whose transaction ids mean nothing here.
	NewFeed bool
}

// Migrate brings the schema in the database of url, in the schema "sessiond", to the
// version that this program knows, and makes it where there is none. It
// leaves newer ones alone. Programs of the version before go on working with it until
// [Finalize]. When several run at once they wait for each other. It works
// through poolers too.
func Migrate(ctx context.Context, url string) (Migration, error) {
	m, err := migrate(ctx, url)
	if err != nil {
		return m, fmt.Errorf("pgstore: migrate: %w", err)
	}
	return m, nil
}

func migrate(ctx context.Context, url string) (m Migration, err error) {
	c, err := connect(ctx, url)
	if err != nil {
		return Migration{}, err
	}
	defer closeConn(c)
	// The lock belongs to a transaction, which a pooler leaves on one server connection. It does
	// nothing else, so that it doesn't matter how it ends.
	lock, err := c.Begin(ctx)
	if err != nil {
		return Migration{}, err
	}
	defer func() { _ = lock.Rollback(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{
		"SET LOCAL idle_in_transaction_session_timeout = 0",
		fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", migrateLock),
	} {
		if _, err := lock.Exec(ctx, sql); err != nil {
			return Migration{}, fmt.Errorf("wait for other migrations: %w", err)
		}
	}
	worker, err := connect(ctx, url)
	if err != nil {
		return Migration{}, err
	}
	defer closeConn(worker)
	before, err := readStatus(ctx, worker)
	if err != nil {
		return Migration{}, err
	}
	m = Migration{From: before.Current, To: before.Current}
	if before.Current < schemaVersion {
		if err := up(ctx, worker, url); err != nil {
			return m, err
		}
		m.To = schemaVersion
	}
	m.NewFeed, err = adopt(ctx, worker)
	return m, err
}

// up runs the migrations that are missing.
func up(ctx context.Context, c *pgx.Conn, url string) error {
	// Whoever owns the schema need not be allowed to make one.
	const make = `DO $$ BEGIN
		IF to_regnamespace('sessiond') IS NULL THEN CREATE SCHEMA sessiond; END IF;
	END $$`
	if _, err := c.Exec(ctx, make); err != nil {
		return fmt.Errorf("make the schema: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	config, err := connectConfig(url)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("sessiond.migration"), goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return err
	}
	return nil
}

// adopt begins a new feed when the database was moved here from another cluster, as by
// a dump.
func adopt(ctx context.Context, c *pgx.Conn) (adopted bool, err error) {
	const sql = `WITH moved AS (
		UPDATE sessiond.meta m
		SET system = s.system_identifier, epoch = decode(replace(gen_random_uuid()::text, '-', ''), 'hex'),
			trimmed_ord = (SELECT coalesce(max(ord), 0) FROM sessiond.event), trimmed_txid = '0',
			forgotten_txid = '0'
		FROM pg_control_system() s
		WHERE m.system <> s.system_identifier
		RETURNING m.one
	), gone AS (
		DELETE FROM sessiond.event WHERE EXISTS (SELECT FROM moved)
	), forgotten AS (
		DELETE FROM sessiond.trimmed WHERE EXISTS (SELECT FROM moved)
	)
	SELECT EXISTS (SELECT FROM moved)`
	if err := c.QueryRow(ctx, sql).Scan(&adopted); err != nil {
		return false, fmt.Errorf("begin a new feed: %w", err)
	}
	return adopted, nil
}

// NewEpoch begins a new epoch of the feed, for a database that was put back from a copy: its
// transaction ids will mean other events than they did. Readers that come with a position
// from before get a batch with Reset.
func NewEpoch(ctx context.Context, url string) error {
	c, err := connect(ctx, url)
	if err != nil {
		return fmt.Errorf("pgstore: new epoch: %w", err)
	}
	defer closeConn(c)
	const sql = `UPDATE sessiond.meta SET epoch = decode(replace(gen_random_uuid()::text, '-', ''), 'hex')`
	if _, err := c.Exec(ctx, sql); err != nil {
		return fmt.Errorf("pgstore: new epoch: %w: %w", sessiond.ErrUnavailable, err)
	}
	return nil
}

// Finalize makes the database refuse programs that do not know its newest version.
func Finalize(ctx context.Context, url string) error {
	c, err := connect(ctx, url)
	if err != nil {
		return fmt.Errorf("pgstore: finalize: %w", err)
	}
	defer closeConn(c)
	const sql = `UPDATE sessiond.meta SET compatible = $1 WHERE compatible < $1`
	if _, err := c.Exec(ctx, sql, int64(schemaVersion)); err != nil {
		return fmt.Errorf("pgstore: finalize: %w: %w", sessiond.ErrUnavailable, err)
	}
	return nil
}
