package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) reencryptCommand() *cobra.Command {
	var req walkRequest
	cmd := &cobra.Command{
		Use:   "reencrypt",
		Short: "Seal all session data with the primary key",
		Long: "Seal session data again that another key than the primary has sealed, through the running server or, when\n" +
			"none runs, on the store itself. Sessions change neither version nor times, and there are no events.\n\n" +
			"Interrupted, it may be run again: what was sealed again is passed over. The exit code is 1 when data\n" +
			"could not be opened; \"sessiond keyset list\" then shows the key that is missing or still needed.",
		Example: "  sessiond reencrypt --config /etc/sessiond/config.yaml\n" +
			"  sessiond reencrypt --config /etc/sessiond/config.yaml --pace 1000",
		Args: noArgs,
	}
	addStoreFlags(cmd)
	cmd.Flags().IntVar(&req.Pace, "pace", 0, "most `sessions` to look at in a second (default 20000)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if req.Pace < 0 {
			return usagef("--pace must be at least 1")
		}
		cfg, dir, err := p.storeConfig(cmd)
		if err != nil {
			return err
		}
		a, err := p.administer(cmd.Context(), cfg, dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		use, err := a.reload(cmd.Context())
		if err != nil {
			return err
		}
		done, err := a.reencrypt(cmd.Context(), req, p.progressLine("reencrypt"))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.stdout, "%d sessions looked at, %d sealed again with key %d, %d failed\n",
			done.Seen, done.Changed, use.Primary, done.Failed); err != nil {
			return err
		}
		if done.Failed > 0 {
			return fmt.Errorf("the data of %d sessions can't be opened with the keys at hand; they stay as they are",
				done.Failed)
		}
		return nil
	}
	return cmd
}
