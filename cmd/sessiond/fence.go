package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pgstore"
)

func (p *program) fenceCommand() *cobra.Command {
	var (
		req    fenceRequest
		before string
		reason string
		yes    bool
	)
	cmd := &cobra.Command{
		Use:   "fence",
		Short: "End every session that was created before a time",
		Long: "End every live session of every tenant that was created before a time, in batches, through the running\n" +
			"server or, when none runs, on the store itself. Each gets its event. Interrupted, it may be run again.\n\n" +
			"With --reason restored, after a PostgreSQL database was put back from a copy, readers of events are told\n" +
			"to begin anew.\n\n" +
			"It asks for confirmation unless --yes is given.",
		Example: "  sessiond fence --before 2026-01-31T12:00:00Z --config /etc/sessiond/config.yaml\n" +
			"  sessiond fence --before now --reason security --note 'signing key leaked' --yes --config config.yaml",
		Args: noArgs,
	}
	addStoreFlags(cmd)
	cmd.Flags().StringVar(&before, "before", "", "RFC 3339 `time`, or now")
	cmd.Flags().StringVar(&reason, "reason", "security", "security, revoked or restored")
	cmd.Flags().StringVar(&req.Note, "note", "", "`text` to keep with the sessions")
	cmd.Flags().IntVar(&req.Pace, "pace", 0, "most `sessions` to look at in a second (default 20000)")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if req.Before, err = fenceTime(before); err != nil {
			return err
		}
		if req.Reason = sessiond.EndReason(reason); req.Pace < 0 {
			return usagef("--pace must be at least 1")
		}
		cfg, dir, err := p.storeConfig(cmd)
		if err != nil {
			return err
		}
		if !yes && !p.confirm(fmt.Sprintf("End every session of every tenant in %s that was created before %s?",
			dir, before)) {
			return errors.New("nothing was done; confirm with yes, or give --yes")
		}
		a, err := p.administer(cmd.Context(), cfg, dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		done, err := a.fence(cmd.Context(), req, p.progressLine("fence"))
		if err != nil {
			return err
		}
		if cfg.Store.Postgres() && req.Reason == sessiond.EndRestored {
			// The copy's positions and those given out since then mean different events.
			if err := pgstore.NewEpoch(cmd.Context(), cfg.Store.URL); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(p.stdout, "%d sessions looked at, %d ended\n", done.Seen, done.Changed)
		return err
	}
	return cmd
}

func fenceTime(text string) (time.Time, error) {
	switch text {
	case "":
		return time.Time{}, usagef("--before is required: a time such as 2026-01-31T12:00:00Z, or now")
	case "now":
		return time.Time{}, nil // by the store's clock
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usagef("--before must be a time such as 2026-01-31T12:00:00Z, or now")
	}
	return at.UTC(), nil
}

// confirm asks a person for a yes.
func (p *program) confirm(question string) bool {
	fmt.Fprintf(p.stderr, "%s Type yes: ", question)
	answer, err := bufio.NewReader(p.stdin).ReadString('\n')
	return err == nil && strings.TrimSpace(answer) == "yes"
}
