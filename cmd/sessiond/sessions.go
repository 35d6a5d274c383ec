package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/client"
)

// The session commands that work on many sessions: list, revoke, watch.

// filterFlags are the flags that select sessions.
type filterFlags struct {
	sessiond.Filter
	status                                     string
	createdAfter, createdBefore, expiresBefore string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Subject, "subject", "", "only sessions of this `subject`")
	cmd.Flags().StringVar(&f.status, "status", "", "only sessions in this `status`: active, expired or revoked")
	cmd.Flags().BoolVar(&f.ActiveOnly, "active", false, "only active sessions")
	cmd.Flags().StringToStringVar(&f.Labels, "label", nil, "only sessions with this `key=value`, may be repeated")
	cmd.Flags().StringVar(&f.createdAfter, "created-after", "", "only sessions created at this RFC 3339 `time` or later")
	cmd.Flags().StringVar(&f.createdBefore, "created-before", "", "only sessions created before this `time`")
	cmd.Flags().StringVar(&f.expiresBefore, "expires-before", "", "only sessions that end before this `time`")
}

func (f *filterFlags) filter() (sessiond.Filter, error) {
	f.Status = sessiond.Status(f.status)
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{
		{"--created-after", f.createdAfter, &f.CreatedAfter},
		{"--created-before", f.createdBefore, &f.CreatedBefore},
		{"--expires-before", f.expiresBefore, &f.ExpiresBefore},
	} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if err != nil {
			return f.Filter, usagef("%s must be a time such as 2026-01-31T12:00:00Z", t.flag)
		}
		*t.to = at
	}
	return f.Filter, nil
}

func (c *sessionCLI) listCommand() *cobra.Command {
	var (
		f      filterFlags
		limit  int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sessions, newest first",
		Example: "  sessiond session list --active --limit 50\n" +
			"  sessiond session list --subject alice --label device=phone --json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			if limit < 1 {
				return usagef("--limit must be at least 1")
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			sessions, more, err := listUpTo(cmd.Context(), cl, filter, limit)
			if err != nil {
				return explain(err)
			}
			if asJSON {
				for _, s := range sessions {
					if _, err := fmt.Fprintf(c.stdout, "%s\n", api.AppendSession(nil, s, "")); err != nil {
						return err
					}
				}
				return nil
			}
			if err := c.printTable(sessions); err != nil {
				return err
			}
			if more {
				fmt.Fprintf(c.stderr, "there are more; see --limit\n")
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", sessiond.DefaultLimit, "list at most this `many`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line instead of a table")
	return cmd
}

// listUpTo pages until it has limit sessions or all.
func listUpTo(
	ctx context.Context, cl *client.Client, filter sessiond.Filter, limit int,
) (found []*sessiond.Session, more bool, err error) {
	p := sessiond.ListParams{Filter: filter}
	for {
		p.Limit = min(limit-len(found), sessiond.MaxLimit)
		page, err := cl.List(ctx, p)
		if err != nil {
			return nil, false, err
		}
		found = append(found, page.Sessions...)
		if page.NextCursor == "" || len(found) == limit {
			return found, page.NextCursor != "", nil
		}
		p.Cursor = page.NextCursor
	}
}

func (p *program) printTable(sessions []*sessiond.Session) error {
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSUBJECT\tSTATUS\tCREATED\tLAST ACTIVE\tENDS\tLABELS")
	for _, s := range sessions {
		status, ends := string(s.Status), s.Deadline()
		if s.Status != sessiond.StatusActive {
			status, ends = fmt.Sprintf("%s (%s)", s.Status, s.EndReason), s.EndedAt
		}
		labels, err := json.Marshal(s.Labels)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Subject, status, s.CreatedAt.Format(time.RFC3339),
			s.LastActiveAt.Format(time.RFC3339), ends.Format(time.RFC3339), labels)
	}
	return w.Flush()
}

func (c *sessionCLI) revokeCommand() *cobra.Command {
	var (
		f                    filterFlags
		reason, note, except string
		erase, dryRun        bool
	)
	cmd := &cobra.Command{
		Use:   "revoke [ID]",
		Short: "End a session, or all that a filter selects",
		Long: "End the session with the given id, or all live sessions that the filter selects. --dry-run counts\n" +
			"what a filter selects and ends nothing.",
		Example: "  sessiond session revoke session-001 --reason logout\n" +
			"  sessiond session revoke --subject alice --reason security --note 'lost phone' --dry-run",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			why := sessiond.RevokeParams{Reason: sessiond.EndReason(reason), Note: note, Erase: erase}
			if len(args) == 1 {
				if !filter.IsZero() || except != "" || dryRun {
					return usagef("give an id or a filter, not both")
				}
				return explain(cl.Revoke(cmd.Context(), sessiond.ID(args[0]), why))
			}
			if filter.IsZero() || erase {
				return usagef("give the id of a session, or a filter such as --subject (without --erase)")
			}
			return c.revokeMatching(cmd.Context(), cl, sessiond.RevokeMatchingParams{
				Filter: filter, Except: sessiond.ID(except), Reason: why.Reason, Note: note, DryRun: dryRun,
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`why`: revoked (the default), logout or security")
	cmd.Flags().StringVar(&note, "note", "", "`text` to keep with the ended session")
	cmd.Flags().BoolVar(&erase, "erase", false, "remove the record at once (with an id)")
	cmd.Flags().StringVar(&except, "except", "", "spare the session with this `id` (with a filter)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "count only (with a filter)")
	return cmd
}

func (c *sessionCLI) revokeMatching(ctx context.Context, cl *client.Client, p sessiond.RevokeMatchingParams) error {
	total := 0
	for {
		n, complete, err := cl.RevokeMatching(ctx, p)
		total += n
		if err != nil {
			return explain(err)
		}
		if complete || p.DryRun {
			word, more := "revoked", ""
			if p.DryRun {
				word = "would revoke"
			}
			if !complete {
				more = " and more"
			}
			_, err := fmt.Fprintf(c.stdout, "%s %d%s\n", word, total, more)
			return err
		}
		fmt.Fprintf(c.stderr, "revoked %d so far\n", total)
	}
}

func (c *sessionCLI) watchCommand() *cobra.Command {
	var (
		p     sessiond.EventParams
		types []string
		after string
	)
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow what happens to sessions, one JSON event a line",
		Long: "Print events as they happen, until interrupted. A connection that breaks is taken up again where it\n" +
			"ended; if events may be missing, stderr says so.",
		Example: "  sessiond session watch --subject alice\n  sessiond session watch --type session.revoked,session.expired",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, t := range types {
				p.Types = append(p.Types, sessiond.EventType(t))
			}
			p.After = sessiond.Position(after)
			cl, err := c.client()
			if err != nil {
				return err
			}
			return c.watch(cmd.Context(), cl, p)
		},
	}
	cmd.Flags().StringVar(&p.Subject, "subject", "", "only events of this `subject`'s sessions")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only these `types`, such as session.revoked")
	cmd.Flags().StringVar(&after, "after", "", "begin after this `position` instead of now")
	return cmd
}

// watch follows the feed and reconnects, with growing pauses, for as long as
// the server refuses for no lasting reason.
func (c *sessionCLI) watch(ctx context.Context, cl *client.Client, p sessiond.EventParams) error {
	pause := time.Duration(0)
	for {
		for batch, err := range cl.Events(ctx, p) {
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, sessiond.ErrUnavailable):
				fmt.Fprintf(c.stderr, "sessiond: %v; trying again\n", err)
			case err != nil:
				return explain(err)
			default:
				pause = 0
				if err := c.printEvents(batch); err != nil {
					return err
				}
				p.After = batch.Position
			}
		}
		pause = min(pause*2+time.Second/4, 10*time.Second)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (c *sessionCLI) printEvents(batch sessiond.EventBatch) error {
	if batch.Reset {
		fmt.Fprintln(c.stderr, "sessiond: events may be missing here: the position is no longer kept")
	}
	for i := range batch.Events {
		line, err := api.Marshal(api.NewEvent(&batch.Events[i]))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.stdout, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}
