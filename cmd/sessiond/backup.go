package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond/pebblestore"
)

func (p *program) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup DEST",
		Short: "Back the store up to a file, while the server runs",
		Long: "Write a consistent copy of the store to a new file, or to stdout when DEST is -, through the running\n" +
			"server or, when none runs, from the store itself. Everything acknowledged before is in it. The archive is\n" +
			"checked as it is written.\n\n" +
			"The keyset is not in it: without a copy of the keyset file the data in a backup can't be read. Keep the\n" +
			"two apart.",
		Example: "  sessiond backup --config /etc/sessiond/config.yaml /backup/sessiond.tar\n" +
			"  sessiond backup --config /etc/sessiond/config.yaml - | gzip > sessiond.tar.gz",
		Args: exactArgs(1),
	}
	addStoreFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		cfg, dir, err := p.embeddedConfig(cmd)
		if err != nil {
			return err
		}
		a, err := p.administer(cmd.Context(), cfg, dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		var m pebblestore.Manifest
		write := func(w io.Writer) error {
			m, err = verifiedBackup(cmd.Context(), a, w)
			return err
		}
		if args[0] == "-" {
			err = write(p.stdout)
		} else {
			err = writeNew(args[0], write)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "%d files, %d bytes, as of %s\nThe keyset file %s is not in the backup; keep a copy of it "+
			"elsewhere\n", len(m.Files), m.Size(), m.Time.UTC().Format(timeLayout), cfg.Encryption.KeysetFile)
		return nil
	}
	return cmd
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// verifiedBackup reads the backup in full while it is written to w.
func verifiedBackup(ctx context.Context, a administrator, w io.Writer) (m pebblestore.Manifest, err error) {
	r, pipe := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := a.backup(ctx, pipe)
		return errors.Join(err, pipe.CloseWithError(err))
	})
	group.Go(func() error {
		var err error
		m, err = pebblestore.ReadBackup(ctx, io.TeeReader(r, w))
		r.CloseWithError(err)
		return err
	})
	return m, group.Wait()
}

// writeNew makes a file for its owner only, durably and all or nothing. It replaces
// none.
func writeNew(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists and was left as it is; choose another name", path)
	}
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if e := os.Remove(temp.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	if err = write(temp); err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	err = os.Link(temp.Name(), path) // unlike a rename it never replaces a file
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and was left as it is; choose another name", path)
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) { // a file system without links
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
