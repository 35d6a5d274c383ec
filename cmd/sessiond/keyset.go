package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/keyset"
)

func (p *program) keysetCommand() *cobra.Command {
	create := &cobra.Command{
		Use:   "create FILE",
		Short: "Make a keyset file with one new key",
		Long: "Make a file with one new data encryption key, readable by its owner only. An existing file is never\n" +
			"replaced. Back the file up, apart from the data: sessions sealed with a lost key are lost.",
		Example: "  sessiond keyset create /etc/sessiond/keyset.json",
		Args:    exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := keyset.Create()
			if err != nil {
				return err
			}
			if err := k.WriteFile(args[0]); err != nil {
				if errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("%s exists and was left as it is; choose another name", args[0])
				}
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "%s: key %d\n", args[0], k.Primary())
			return err
		},
	}
	cmd := parentCommand("keyset", "Data encryption keys", create,
		p.keysetAddCommand(), p.keysetPromoteCommand(), p.keysetRetireCommand(), p.keysetListCommand())
	cmd.Long = "Make and change the keyset file: the keys that session data is encrypted with.\n\n" +
		"To replace a key while the server runs: add one, promote it, run \"sessiond reencrypt\", and retire the old\n" +
		"one. Servers take a changed file over by themselves."
	return cmd
}
