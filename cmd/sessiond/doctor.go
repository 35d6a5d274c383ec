package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

func (p *program) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what a server needs, and say what to do",
		Long: "Check the configuration and everything that it names: keys, issuers, clock, store, disk, addresses,\n" +
			"certificate and limits. Each line says ok, warn or FAIL with what to do; after a FAIL the exit code is 1.\n\n" +
			"Run it as the user and on the machine of the server, before the first start or beside a running one.\n" +
			"A store that no server has open is opened for a moment.",
		Example: "  sessiond doctor --config /etc/sessiond/config.yaml\n" +
			"  sessiond doctor --config /etc/sessiond/config.yaml --json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			d := &doctor{p: p}
			if !asJSON {
				d.out = p.stdout
			}
			cfg, warnings, err := p.readConfig(cmd)
			d.configuration(warnings, err)
			if err == nil {
				d.cfg = cfg
				d.examine(cmd.Context())
			}
			return d.conclude(asJSON)
		},
	}
	addConfigFlags(cmd)
	cmd.Flags().Bool("json", false, "print one JSON object instead of lines")
	return cmd
}

// Results of checks.
const (
	resultOK   = "ok"
	resultWarn = "warn"
	resultFail = "fail"
)

// A finding is one line of a diagnosis.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"` // what was found, and if that is not right, what to do
}

// A check looks at one thing.
type check struct {
	name string
	run  func(context.Context, *doctor) []finding
	most time.Duration // it may take
}

// checkTime is what most checks may take.
const checkTime = 5 * time.Second

// checks are what doctor looks at once it has a configuration, in order.
func checks(cfg *config.Config) []check {
	list := []check{{"keyset", checkKeyset, checkTime}}
	for _, issuer := range issuers(cfg) {
		list = append(list, check{"issuer " + issuer.Issuer, issuerCheck(issuer), checkTime})
	}
	return append(list,
		check{"clock", checkClock, checkTime}, // after the issuers, whose clocks it knows from them
		check{"store", checkStore, 6 * checkTime},
		check{"disk", checkDisk, 2 * checkTime},
		check{"listen", checkListen, checkTime},
		check{"ops_listen", checkOpsListen, checkTime},
		check{"tls", checkTLS, checkTime},
		check{"tracing", checkTracing, checkTime},
		check{"files", checkFiles, checkTime},
		check{"memory", checkMemory, checkTime},
	)
}

// A doctor collects findings.
type doctor struct {
	p        *program
	cfg      *config.Config
	out      io.Writer // nil: nothing is printed on the way
	findings []finding

	mu      sync.Mutex // a check that was given up may still run
	offsets []offset
}

// An offset is how far the clock of this machine is ahead of an issuer's.
type offset struct {
	issuer string
	ahead  time.Duration
}

func ok(format string, args ...any) finding   { return newFinding(resultOK, format, args) }
func warn(format string, args ...any) finding { return newFinding(resultWarn, format, args) }
func fail(format string, args ...any) finding { return newFinding(resultFail, format, args) }

func newFinding(result, format string, args []any) finding {
	return finding{Result: result, Detail: oneLine(fmt.Sprintf(format, args...))}
}

// oneLine keeps what others wrote, in errors, within a line of printable text.
func oneLine(s string) string {
	const most = 500
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200e && r <= 0x206f {
			return ' '
		}
		return r
	}, strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\n", "; "))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func (d *doctor) add(name string, found ...finding) {
	for _, f := range found {
		f.Check = name
		d.findings = append(d.findings, f)
		if d.out != nil {
			word := f.Result
			if word == resultFail {
				word = "FAIL" // to be seen
			}
			fmt.Fprintf(d.out, "%-4s %s: %s\n", word, f.Check, f.Detail)
		}
	}
}

// configuration judges how the configuration was loaded.
func (d *doctor) configuration(warnings []config.Warning, err error) {
	const name = "configuration"
	for _, w := range warnings {
		d.add(name, warn("%s", w))
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.add(name, fail("%s", line))
		}
		d.add(name, warn("the other checks need a valid configuration; \"sessiond config reference\" prints a commented one"))
		return
	}
	d.add(name, ok("valid"))
}

// examine runs the checks, each no longer than it may take: a file system that
// hangs must not make the doctor hang.
func (d *doctor) examine(ctx context.Context) {
	for _, c := range checks(d.cfg) {
		ctx, cancel := context.WithTimeout(ctx, c.most)
		found := make(chan []finding, 1)
		go func() { found <- c.run(ctx, d) }()
		select {
		case f := <-found:
			d.add(c.name, f...)
		case <-time.After(c.most + time.Second): // it had its chance to say more
			d.add(c.name, fail("no answer within %v: see whether the disk or the network hangs", c.most))
		}
		cancel()
	}
}

// conclude prints what is left to print and fails when a check did.
func (d *doctor) conclude(asJSON bool) error {
	failed := 0
	for _, f := range d.findings {
		if f.Result == resultFail {
			failed++
		}
	}
	if asJSON {
		document := struct {
			OK       bool      `json:"ok"`
			Findings []finding `json:"findings"`
		}{failed == 0, d.findings}
		e := json.NewEncoder(d.p.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(document); err != nil {
			return err
		}
	}
	switch failed {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("1 check failed")
	default:
		return fmt.Errorf("%d checks failed", failed)
	}
}
