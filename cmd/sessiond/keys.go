package main

// The keyset commands that change and show an existing file. create is in keyset.go.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pebblestore"
)

// loadPatience is how long promote waits for the server to have loaded a key.
const loadPatience = 10 * time.Second

// editKeyset changes a keyset file, all or nothing, while no other command does.
func editKeyset(path string, change func(*keyset.Keyset) (*keyset.Keyset, error)) error {
	path, err := filepath.EvalSymlinks(path) // the file is replaced, not a link to it
	if err != nil {
		return err
	}
	// The directory is locked, since the file is another one after the change.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // which unlocks it
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", dir.Name(), err)
	}
	k, err := keyset.Load(path)
	if err != nil {
		return err
	}
	if k, err = change(k); err != nil {
		return err
	}
	return k.ReplaceFile(path)
}

func keyArg(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || id == 0 {
		return 0, usagef("%q is not a key id; \"sessiond keyset list FILE\" shows them", s)
	}
	return uint32(id), nil
}

// keysetAdministrator reaches the store that uses the keyset file. It is nil when
// there is no store yet.
func (p *program) keysetAdministrator(cmd *cobra.Command, file string) (administrator, error) {
	cfg, dir, err := p.storeConfig(cmd)
	if err != nil {
		return nil, err
	}
	if err := sameFile(cfg, file); err != nil {
		return nil, err
	}
	a, err := p.administer(cmd.Context(), cfg, dir)
	if errors.Is(err, pebblestore.ErrNoStore) {
		return nil, nil
	}
	return a, err
}

// keysetServer reaches the server that uses the keyset file. It is nil when none
// runs.
func (p *program) keysetServer(cmd *cobra.Command, file string) (administrator, error) {
	cfg, dir, err := p.storeConfig(cmd)
	if err != nil {
		return nil, err
	}
	if err := sameFile(cfg, file); err != nil {
		return nil, err
	}
	if cfg.Store.Shared() {
		return p.sharedServers(cmd.Context(), cfg)
	}
	server, err := dialServer(cmd.Context(), dir)
	if err != nil || server != nil {
		return server, err
	}
	if pid, held, err := lockHolder(dir); err != nil {
		return nil, err
	} else if held {
		return nil, fmt.Errorf("process %d has %s open and does not answer: if it is a server that is starting, try again",
			pid, dir)
	}
	return nil, nil
}

func sameFile(cfg *config.Config, file string) error {
	named, err := os.Stat(file)
	if err != nil {
		return err
	}
	used, err := os.Stat(cfg.Encryption.KeysetFile)
	if err != nil || !os.SameFile(named, used) {
		return errors.Join(fmt.Errorf("%s is not the keyset file of the configuration, which is %q",
			file, cfg.Encryption.KeysetFile), err)
	}
	return nil
}

// checked is a command that changes a key, and asks the store first unless the user
// takes the responsibility.
func (p *program) checked(
	cmd *cobra.Command, reach func(*cobra.Command, string) (administrator, error),
	do func(file string, id uint32, a administrator, unchecked bool) error,
) {
	addStoreFlags(cmd)
	unchecked := cmd.Flags().Bool("unchecked", false, "ask no server and no store: you are sure")
	cmd.Args = exactArgs(2)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		id, err := keyArg(args[1])
		if err != nil {
			return err
		}
		if *unchecked {
			return do(args[0], id, nil, true)
		}
		if !p.namesStore(cmd) {
			return usagef("give --config FILE, so that the server and the store can be asked, or --unchecked")
		}
		a, err := reach(cmd, args[0])
		if err != nil {
			return err
		}
		if a != nil {
			defer func() { err = errors.Join(err, a.close()) }()
		}
		return do(args[0], id, a, false)
	}
}

func (p *program) keysetAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE",
		Short: "Add a new key, which only opens data until it is promoted",
		Long: "Add a new key to a keyset file and print its id. Nothing is sealed with it until it is promoted, so that\n" +
			"every server can load it first. A running server does so within seconds. Back the file up again.",
		Example: "  sessiond keyset add /etc/sessiond/keyset.json",
		Args:    exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var id uint32
			err := editKeyset(args[0], func(k *keyset.Keyset) (added *keyset.Keyset, err error) {
				added, id, err = k.Add()
				return added, err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, id)
			return err
		},
	}
}

func (p *program) keysetPromoteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote FILE KEY_ID",
		Short: "Seal data with this key from now on",
		Long: "Make a key the primary one, which seals data from now on. Data that other keys have sealed stays\n" +
			"readable; \"sessiond reencrypt\" seals it again.\n\n" +
			"With --config the running server is asked first: the key is promoted once it has loaded it, for which\n" +
			"the command waits 10 seconds.",
		Example: "  sessiond keyset promote /etc/sessiond/keyset.json 123456789 --config /etc/sessiond/config.yaml",
	}
	p.checked(cmd, p.keysetServer, func(file string, id uint32, a administrator, unchecked bool) error {
		ctx := cmd.Context()
		err := editKeyset(file, func(k *keyset.Keyset) (*keyset.Keyset, error) {
			promoted, err := k.Promote(id) // before anyone waits for a key that isn't there
			if err == nil && a != nil {
				err = waitForKey(ctx, a, id)
			}
			return promoted, err
		})
		if err != nil {
			return err
		}
		switch {
		case unchecked:
			fmt.Fprintf(p.stderr, "sessiond: not checked that every server has loaded key %d\n", id)
		case a != nil:
			use, err := a.reload(ctx)
			if err == nil && use.Primary != id {
				err = fmt.Errorf("the server seals with key %d", use.Primary)
			}
			if err != nil {
				return fmt.Errorf("key %d is promoted in %s, but the server has not taken it over: %w", id, file, err)
			}
		default:
			fmt.Fprintln(p.stderr, "sessiond: no server runs on the store; the next one starts with this keyset")
		}
		_, err = fmt.Fprintf(p.stdout, "%s: key %d is primary\n", file, id)
		return err
	})
	return cmd
}

// waitForKey returns when the server has loaded a key.
func waitForKey(ctx context.Context, a administrator, id uint32) error {
	deadline := time.Now().Add(loadPatience)
	for {
		use, err := a.reload(ctx)
		if k, ok := use.find(id); err == nil && ok && k.Status == keyset.Enabled {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("a running server has not loaded key %d, so nothing was changed: "+
				"does it read the same file?", id), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *program) keysetRetireCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retire FILE KEY_ID",
		Short: "Remove a key that no record needs any more",
		Long: "Remove a key from a keyset file. It is refused for the primary key, and while records are sealed with\n" +
			"the key: run \"sessiond reencrypt\" first.\n\n" +
			"Backups that were made before the last record was sealed again need the key. Keep a copy of the keyset\n" +
			"file, apart from them, for as long as they are to be of use.",
		Example: "  sessiond keyset retire /etc/sessiond/keyset.json 987654321 --config /etc/sessiond/config.yaml",
	}
	p.checked(cmd, p.keysetAdministrator, func(file string, id uint32, a administrator, unchecked bool) error {
		err := editKeyset(file, func(k *keyset.Keyset) (*keyset.Keyset, error) {
			removed, err := k.Remove(id)
			if err != nil || a == nil {
				return removed, err
			}
			return removed, unneeded(cmd.Context(), a, id)
		})
		if err != nil {
			return err
		}
		if unchecked {
			fmt.Fprintf(p.stderr, "sessiond: not checked whether records need key %d\n", id)
		}
		fmt.Fprintf(p.stderr, "sessiond: backups with data that key %d has sealed can't be read without a copy of it\n", id)
		if a != nil && a.running() {
			if _, err := a.reload(cmd.Context()); err != nil {
				return fmt.Errorf("key %d is removed from %s, but the server has not taken that over: %w", id, file, err)
			}
		}
		_, err = fmt.Fprintf(p.stdout, "%s: key %d is removed\n", file, id)
		return err
	})
	return cmd
}

// unneeded fails unless the server seals with another key and no record needs this
// one.
func unneeded(ctx context.Context, a administrator, id uint32) error {
	use, err := a.reload(ctx)
	if err == nil && (use.Primary == id || slices.Contains(use.Sealing, id)) {
		err = fmt.Errorf("a server still seals with key %d: does it read the same file?", id)
	}
	if err == nil && a.running() {
		use, err = settle(ctx, a)
	}
	if err != nil {
		return err
	}
	if k, _ := use.find(id); k.Records > 0 {
		return fmt.Errorf("%d records need key %d: run \"sessiond reencrypt\", and then this again", k.Records, id)
	}
	return nil
}

func (p *program) keysetListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list FILE",
		Short: "Show the keys of a file, and with --config how many records need each",
		Example: "  sessiond keyset list /etc/sessiond/keyset.json\n" +
			"  sessiond keyset list /etc/sessiond/keyset.json --config /etc/sessiond/config.yaml",
		Args: exactArgs(1),
	}
	addStoreFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		keys, err := keyset.Load(args[0])
		if err != nil {
			return err
		}
		var use *keyUse
		if p.namesStore(cmd) {
			a, err := p.keysetAdministrator(cmd, args[0])
			if err != nil {
				return err
			}
			use = &keyUse{}
			if a != nil {
				*use, err = a.keyUse(cmd.Context())
				if err = errors.Join(err, a.close()); err != nil {
					return err
				}
			}
		}
		return p.printKeys(keys, use)
	}
	return cmd
}

// printKeys prints a table. use is nil when records were not asked for.
func (p *program) printKeys(keys *keyset.Keyset, use *keyUse) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	row := func(id uint32, primary string, status keyset.Status, records int64) {
		if use == nil {
			fmt.Fprintf(w, "%d\t%s\t%s\n", id, primary, status)
		} else {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\n", id, primary, status, records)
		}
	}
	head := "KEY\tPRIMARY\tSTATUS"
	if use != nil {
		head += "\tRECORDS"
	}
	fmt.Fprintln(w, head)
	listed := make(map[uint32]bool)
	for _, k := range keys.Keys() {
		listed[k.ID] = true
		primary, records := "no", int64(0)
		if k.Primary {
			primary = "yes"
		}
		if use != nil {
			s, _ := use.find(k.ID)
			records = s.Records
		}
		row(k.ID, primary, k.Status, records)
	}
	if use != nil {
		for _, k := range use.Keys {
			if !listed[k.ID] && k.Records > 0 {
				row(k.ID, "no", keyMissing, k.Records)
			}
		}
	}
	return w.Flush()
}
