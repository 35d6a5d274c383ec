package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/pgstore"
)

func (p *program) migrateCommand() *cobra.Command {
	var finalize bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make or update a database's schema, show the store's layout version, or raise it after an upgrade",
		Long: "In PostgreSQL, make the schema or bring it to the version that this program needs, which servers of the\n" +
			"version before go on working with. Run it before the first start and before each upgrade; servers never\n" +
			"do it themselves, and several runs at once wait for each other. In other stores, show the layout version\n" +
			"that the store is kept in, and the newest that this program knows. They keep their version when a newer\n" +
			"program opens them, so that one can go back to the program before.\n\n" +
			"With --finalize the version is raised to the newest, through the running server or, when none runs, on\n" +
			"the store itself. Older programs refuse the store from then on.",
		Example: "  sessiond migrate --config /etc/sessiond/config.yaml\n" +
			"  sessiond migrate --finalize --config /etc/sessiond/config.yaml",
		Args: noArgs,
	}
	addStoreFlags(cmd)
	cmd.Flags().BoolVar(&finalize, "finalize", false, "raise the version to the newest")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, place, err := p.storeConfig(cmd)
		switch {
		case err != nil:
			return err
		case cfg.Store.Postgres():
			return p.migratePostgres(cmd.Context(), cfg.Store.URL, place, finalize)
		case cfg.Store.Redis():
			return p.checkRedis(cmd.Context(), cfg, place)
		default:
			return p.migrateLayout(cmd.Context(), cfg, place, finalize)
		}
	}
	return cmd
}

func (p *program) migratePostgres(ctx context.Context, url, place string, finalize bool) error {
	m, err := pgstore.Migrate(ctx, url)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s has schema version %d", place, m.To)
	if m.From != m.To {
		text += fmt.Sprintf(" now, and had %d", m.From)
	}
	if m.NewFeed {
		text += "; the database came from another cluster, so a new feed of events was begun"
	}
	if finalize {
		if err := pgstore.Finalize(ctx, url); err != nil {
			return err
		}
		text += "; older programs refuse it from now on"
	}
	_, err = fmt.Fprintln(p.stdout, text)
	return err
}

// checkRedis opens the store, which makes or checks its layout. There is one
// version of it yet.
func (p *program) checkRedis(ctx context.Context, cfg *config.Config, place string) error {
	s, err := p.openShared(ctx, cfg)
	if err == nil {
		err = s.close()
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s has the layout that sessiond %s knows; there is nothing to do\n", place, version)
	return err
}

func (p *program) migrateLayout(ctx context.Context, cfg *config.Config, place string, finalize bool) (err error) {
	a, err := p.administer(ctx, cfg, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	found, err := a.layout(ctx)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s has layout version %d, the newest that sessiond %s knows", place, found.Store, version)
	if found.Store < found.Newest {
		text = fmt.Sprintf("%s has layout version %d; sessiond %s knows versions up to %d. When you will not go back "+
			"to the program before, run \"sessiond migrate --finalize\"", place, found.Store, version, found.Newest)
		if finalize {
			done, err := a.finalize(ctx)
			if err != nil {
				return err
			}
			text = fmt.Sprintf("%s has layout version %d now, and had %d", place, done.Store, found.Store)
		}
	}
	_, err = fmt.Fprintln(p.stdout, text)
	return err
}
