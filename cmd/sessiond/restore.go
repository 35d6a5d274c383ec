package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pebblestore"
)

// A restoring is one run of sessiond restore.
type restoring struct {
	*program
	cfg           *config.Config
	dir           string
	logger        *slog.Logger
	keys          *keyset.File
	acceptUndone  bool
	revocations   io.Reader // nil without
	tenant        string    // of revocations that name none
	result        string    // what became of the sessions
	lastReported  time.Time
	reportedBytes bool
}

func (p *program) restoreCommand() *cobra.Command {
	r := &restoring{program: p}
	var file string
	cmd := &cobra.Command{
		Use:   "restore SRC",
		Short: "Make the store from a backup",
		Long: "Make the store, which must not exist, from a backup, or from stdin when SRC is -. It is made whole or not\n" +
			"at all, and no server can open it before.\n\n" +
			"What has happened since the backup is not in it, so a session in it may have been ended meanwhile. By\n" +
			"default every session ends, with reason restored. With --revocations only those end that a file names,\n" +
			"line by line: the events that \"sessiond session watch\" has printed since the backup, or\n" +
			"{\"tenant\":\"...\",\"session_id\":\"...\"}. With --accept-undone-revokes sessions stay as they were.\n\n" +
			"Put the keyset file back first. A backup is as trustworthy as who could write to it.",
		Example: "  sessiond restore --config /etc/sessiond/config.yaml /backup/sessiond.tar\n" +
			"  sessiond restore --config /etc/sessiond/config.yaml --revocations ended.jsonl /backup/sessiond.tar",
		Args: exactArgs(1),
	}
	addStoreFlags(cmd)
	cmd.Flags().BoolVar(&r.acceptUndone, "accept-undone-revokes", false, "end no session: some may live again")
	cmd.Flags().StringVar(&file, "revocations", "", "end the sessions that this `file` names, and no others")
	cmd.Flags().StringVar(&r.tenant, "tenant", sessiond.DefaultTenant, "`tenant` of the lines that name none")
	cmd.MarkFlagsMutuallyExclusive("accept-undone-revokes", "revocations")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if !sessiond.ValidTenant(r.tenant) {
			return usagef("--tenant %q is not a tenant", r.tenant)
		}
		if r.cfg, r.dir, err = p.embeddedConfig(cmd); err != nil {
			return err
		}
		if file != "" {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close() // only read
			r.revocations = f
		}
		if args[0] == "-" {
			return r.run(cmd.Context(), "stdin", p.stdin)
		}
		src, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer src.Close() // only read
		return r.run(cmd.Context(), args[0], src)
	}
	return cmd
}

func (r *restoring) run(ctx context.Context, name string, src io.Reader) (err error) {
	if err := checkOwner(r.dir); err != nil && !errors.Is(err, pebblestore.ErrNoStore) {
		return err
	}
	r.logger = slog.New(slog.NewTextHandler(r.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if r.keys, err = keyset.OpenFile(r.cfg.Encryption.KeysetFile, r.logger); err != nil {
		return fmt.Errorf("encryption.keyset_file: %w\nPut the keyset file of the backup's time back first", err)
	}
	r.lastReported = time.Now()
	m, err := pebblestore.Restore(ctx, pebblestore.RestoreParams{
		Source: src, Dir: r.dir, Prepare: r.prepare, Report: r.report, Logger: r.logger,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = fmt.Fprintf(r.stdout, "%s is restored as of %s: %s\n", r.dir, m.Time.UTC().Format(timeLayout), r.result)
	return err
}

func (r *restoring) report(done, total int64) {
	if time.Since(r.lastReported) >= time.Second || done == total && !r.reportedBytes {
		r.lastReported, r.reportedBytes = time.Now(), done == total
		fmt.Fprintf(r.stderr, "restore: %.1f of %.1f MiB\n", float64(done)/(1<<20), float64(total)/(1<<20))
	}
}

// prepare ends sessions before anyone can use them.
func (r *restoring) prepare(ctx context.Context, store *pebblestore.Store, _ pebblestore.Manifest) error {
	l, err := newLocal(r.cfg, store, r.keys, r.logger)
	if err != nil {
		return err
	}
	use, err := l.keyUse(ctx)
	if err != nil {
		return err
	}
	for _, k := range use.Keys {
		if k.Status != keyset.Enabled && k.Records > 0 {
			fmt.Fprintf(r.stderr, "sessiond: warning: %d records need key %d, which is %s in the keyset file: "+
				"put a copy of the file back that has it\n", k.Records, k.ID, k.Status)
		}
	}
	switch {
	case r.acceptUndone:
		r.result = "sessions are as they were; those ended since the backup live again"
		return nil
	case r.revocations != nil:
		n, absent, err := endNamed(ctx, l.manager, r.revocations, r.tenant)
		r.result = fmt.Sprintf("%d ends repeated, %d sessions named that the backup does not have", n, absent)
		return err
	default:
		done, err := l.fence(ctx, fenceRequest{Before: endOfTime, Reason: sessiond.EndRestored},
			r.progressLine("ending sessions"))
		r.result = fmt.Sprintf("%d sessions ended with reason %s", done.Changed, sessiond.EndRestored)
		return err
	}
}

// endOfTime is after the creation of every session.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
