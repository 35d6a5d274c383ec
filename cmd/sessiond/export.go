package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
)

func (p *program) exportCommand() *cobra.Command {
	var (
		req           exportRequest
		output, after string
	)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all live sessions to a file, for another store",
		Long: "Write the live sessions of all tenants as JSON Lines to a new file, or to stdout, for \"sessiond import\" to\n" +
			"read elsewhere: through the running server or, when none runs, from the store itself. Sessions that were\n" +
			"revoked and are still retained are told too, so that a later import ends them where an earlier one has\n" +
			"brought them. Expired and erased sessions are not in it, nor are events.\n\n" +
			"Data stays sealed, and the place it goes to needs the same keyset file; with --open it is written in\n" +
			"clear. Tokens are in it as hashes only. Whoever can change the file can make sessions: keep it like a\n" +
			"backup.\n\n" +
			"Interrupted, it tells how to go on into another file. Both are then imported, in their order.",
		Example: "  sessiond export --config /etc/sessiond/config.yaml --output sessions.jsonl\n" +
			"  sessiond export --config old.yaml | sessiond import --config new.yaml -",
		Args: noArgs,
	}
	addStoreFlags(cmd)
	cmd.Flags().StringVar(&output, "output", "-", "new `file` to write, or - for stdout")
	cmd.Flags().BoolVar(&req.Open, "open", false, "write data in clear")
	cmd.Flags().StringVar(&req.Tenant, "tenant", "", "only this `tenant` (default all)")
	cmd.Flags().StringVar(&after, "after", "", "go on after this session, as `TENANT/ID`")
	cmd.Flags().IntVar(&req.Pace, "pace", 0, "most `sessions` to look at in a second (default 20000)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if req.Pace < 0 {
			return usagef("--pace must be at least 1")
		}
		if req.After, err = parseSessionName(after); err != nil {
			return err
		}
		cfg, place, err := p.storeConfig(cmd)
		if err != nil {
			return err
		}
		req.Source, _, _ = strings.Cut(cfg.Store.URL, ":")
		a, err := p.administer(cmd.Context(), cfg, place)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		out := &exportCopy{w: p.stdout, report: p.exportProgress()}
		if output == "-" {
			return p.exported(out, a.export(cmd.Context(), req, out))
		}
		return writePart(output, func(w io.Writer) error {
			out.w = w
			return p.exported(out, a.export(cmd.Context(), req, out))
		})
	}
	return cmd
}

func parseSessionName(s string) (sessionName, error) {
	if s == "" {
		return sessionName{}, nil
	}
	tenant, id, _ := strings.Cut(s, "/")
	if _, err := sessiond.ParseID(id); err != nil || !sessiond.ValidTenant(tenant) {
		return sessionName{}, usagef("--after must be a tenant, a slash and a session's id, as an export that was cut off tells")
	}
	return sessionName{tenant, sessiond.ID(id)}, nil
}

// exported tells what became of an export.
func (p *program) exported(out *exportCopy, err error) error {
	var trailer struct {
		End     bool  `json:"end"`
		Lines   int64 `json:"lines"`
		LeftOut int64 `json:"left_out"`
	}
	if err == nil {
		err = json.Unmarshal(out.last, &trailer)
	}
	if err == nil && !trailer.End {
		err = errors.New("the server went away before the end")
	}
	if err != nil {
		if at := out.at(); at.Tenant != "" {
			return fmt.Errorf("%w\nThe export is cut off. Go on with --after %s/%s into another file, and import both",
				err, at.Tenant, at.ID)
		}
		return err
	}
	fmt.Fprintf(p.stderr, "%d sessions, live or revoked, written\n", trailer.Lines)
	if trailer.LeftOut > 0 {
		return fmt.Errorf("the data of %d sessions can't be opened with the keys at hand; they are not in the export",
			trailer.LeftOut)
	}
	return nil
}

// exportProgress tells a person how far an export has come, at most once a second.
func (p *program) exportProgress() func(*exportCopy) {
	last := time.Now()
	return func(c *exportCopy) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		at := c.at()
		fmt.Fprintf(p.stderr, "export: %d lines written, up to %s/%s\n", c.lines, at.Tenant, at.ID)
	}
}

// An exportCopy passes whole lines on, so that what is cut off ends with one, and
// remembers the last.
type exportCopy struct {
	w       io.Writer
	report  func(*exportCopy)
	pending []byte
	last    []byte
	lines   int64
}

func (c *exportCopy) Write(b []byte) (int, error) {
	c.pending = append(c.pending, b...)
	end := bytes.LastIndexByte(c.pending, '\n') + 1
	if end == 0 {
		return len(b), nil
	}
	whole := c.pending[:end]
	if _, err := c.w.Write(whole); err != nil {
		return 0, err
	}
	c.lines += int64(bytes.Count(whole, []byte{'\n'}))
	c.last = append(c.last[:0], whole[bytes.LastIndexByte(whole[:end-1], '\n')+1:]...)
	c.pending = append(c.pending[:0], c.pending[end:]...)
	c.report(c)
	return len(b), nil
}

// at is the session of the last line, empty when there is none in it.
func (c *exportCopy) at() (n sessionName) {
	if json.Unmarshal(c.last, &n) != nil {
		return sessionName{}
	}
	return n
}

// writePart makes a file for its owner only, durably. It replaces none, and keeps
// what was written when write fails.
func writePart(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists and was left as it is; choose another name", path)
	}
	if err != nil {
		return err
	}
	err = write(f)
	info, statErr := f.Stat()
	err = errors.Join(err, statErr, f.Sync(), f.Close())
	if statErr == nil && info.Size() == 0 {
		return errors.Join(err, os.Remove(path))
	}
	dir, dirErr := os.Open(filepath.Dir(path))
	if dirErr != nil {
		return errors.Join(err, dirErr)
	}
	return errors.Join(err, dir.Sync(), dir.Close())
}
