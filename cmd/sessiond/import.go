package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/pebblestore"
)

// maxFailuresShown is how many lines that failed are told one by one.
const maxFailuresShown = 20

func (p *program) importCommand() *cobra.Command {
	var (
		req    importRequest
		format string
	)
	cmd := &cobra.Command{
		Use:   "import INPUT",
		Short: "Bring sessions from another store, or from another system",
		Long: "Read what \"sessiond export\" has written, from a file or from stdin when INPUT is -, into the store, through\n" +
			"the running server or, when none runs, into the store itself. Sessions keep their id, token, version, ETag,\n" +
			"times and deadlines, and applications notice nothing.\n\n" +
			"It may be repeated: what is here already stays, and a later export brings what has changed. A session that\n" +
			"was changed here later, or has ended here, stays as it is; one that was revoked in the other place ends\n" +
			"here. Let less than the shortest idle timeout pass between two, and import exports in their order.\n\n" +
			"With --format foreign the lines are sessions of another system, with the SHA-256 of their tokens, which go\n" +
			"on working until they are rotated. docs/migration.md tells their form.\n\n" +
			"Lines that are wrong are passed over and told, and the exit code is 1.",
		Example: "  sessiond import --config new.yaml sessions.jsonl\n" +
			"  sessiond import --config new.yaml --dry-run sessions.jsonl\n" +
			"  sessiond import --config /etc/sessiond/config.yaml --format foreign --tenant shop -",
		Args: exactArgs(1),
	}
	addStoreFlags(cmd)
	cmd.Flags().StringVar(&format, "format", "sessiond", "sessiond, or foreign for lines of another system")
	cmd.Flags().StringVar(&req.Tenant, "tenant", sessiond.DefaultTenant, "`tenant` of foreign lines that name none")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "read and check everything, and change nothing")
	cmd.Flags().Int64Var(&req.Skip, "skip", 0, "pass over so many `lines`, as an import that was cut off tells")
	cmd.Flags().BoolVar(&req.Old, "accept-old", false, "take an export older than session.retention: what has ended here "+
		"since may live again")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		switch req.Foreign = format == "foreign"; {
		case !req.Foreign && format != "sessiond":
			return usagef("--format must be sessiond or foreign")
		case !req.Foreign && cmd.Flags().Changed("tenant"):
			return usagef("--tenant is for --format foreign: the lines of an export name their tenants")
		case !sessiond.ValidTenant(req.Tenant):
			return usagef("--tenant %q is not a tenant", req.Tenant)
		case req.Skip < 0:
			return usagef("--skip must be at least 0")
		}
		cfg, place, err := p.storeConfig(cmd)
		if err != nil {
			return err
		}
		input := p.stdin
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close() // only read
			input = f
		}
		a, err := p.administerOrMake(cmd.Context(), cfg, place)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		return p.importFrom(cmd.Context(), a, input, req)
	}
	return cmd
}

// administerOrMake reaches the store, and makes one in a directory that has none.
func (p *program) administerOrMake(ctx context.Context, cfg *config.Config, place string) (administrator, error) {
	a, err := p.administer(ctx, cfg, place)
	if !errors.Is(err, pebblestore.ErrNoStore) {
		return a, err
	}
	s, err := p.openShared(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s.local, nil
}

// importFrom imports and tells what has become of the lines.
func (p *program) importFrom(ctx context.Context, a administrator, input io.Reader, req importRequest) error {
	last, shown := time.Now(), 0
	res, err := a.importFrom(ctx, input, req, importReports{
		progress: func(res sessiond.ImportResult) {
			if time.Since(last) >= time.Second {
				last = time.Now()
				fmt.Fprintf(p.stderr, "import: %d lines done, %d created, %d updated, %d failed\n",
					res.Lines, res.Created, res.Updated, res.Failed)
			}
		},
		failed: func(line int64, text string) {
			if shown++; shown <= maxFailuresShown {
				fmt.Fprintf(p.stderr, "line %d: %s\n", line, text)
			}
		},
	})
	if shown > maxFailuresShown {
		fmt.Fprintf(p.stderr, "and %d more lines\n", shown-maxFailuresShown)
	}
	if err != nil && res == (sessiond.ImportResult{}) {
		return err
	}
	what := "import"
	if req.DryRun {
		what = "dry run, nothing was changed"
	}
	if _, e := fmt.Fprintf(p.stdout, "%s: %d created, %d updated, %d ended, %d the same, %d expired, %d newer or ended here, "+
		"%d failed\n", what, res.Created, res.Updated, res.Ended, res.Same, res.Expired, res.Kept, res.Failed); e != nil {
		return errors.Join(err, e)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w\nGo on with --skip %d, or from the beginning", err, res.Lines)
	case res.Failed > 0:
		return fmt.Errorf("%d lines failed and were passed over", res.Failed)
	}
	return nil
}
