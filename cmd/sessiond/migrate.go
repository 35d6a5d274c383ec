package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) migrateCommand() *cobra.Command {
	var finalize bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Show the store's layout version, or raise it after an upgrade",
		Long: "Show the layout version that the store is kept in, and the newest that this program knows. A store keeps\n" +
			"its version when a newer program opens it, so that one can go back to the program before.\n\n" +
			"With --finalize the version is raised to the newest, through the running server or, when none runs, on\n" +
			"the store itself. Older programs refuse the store from then on.",
		Example: "  sessiond migrate --config /etc/sessiond/config.yaml\n" +
			"  sessiond migrate --finalize --config /etc/sessiond/config.yaml",
		Args: noArgs,
	}
	addStoreFlags(cmd)
	cmd.Flags().BoolVar(&finalize, "finalize", false, "raise the version to the newest")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		cfg, dir, err := p.storeConfig(cmd)
		if err != nil {
			return err
		}
		a, err := p.administer(cmd.Context(), cfg, dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		found, err := a.layout(cmd.Context())
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s has layout version %d, the newest that sessiond %s knows", dir, found.Store, version)
		if found.Store < found.Newest {
			text = fmt.Sprintf("%s has layout version %d; sessiond %s knows versions up to %d. When you will not go back "+
				"to the program before, run \"sessiond migrate --finalize\"", dir, found.Store, version, found.Newest)
			if finalize {
				done, err := a.finalize(cmd.Context())
				if err != nil {
					return err
				}
				text = fmt.Sprintf("%s has layout version %d now, and had %d", dir, done.Store, found.Store)
			}
		}
		_, err = fmt.Fprintln(p.stdout, text)
		return err
	}
	return cmd
}
