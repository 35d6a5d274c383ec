// Command sessiond is the session service: a server, a development set-up, and
// the commands that operate them. Run it without arguments for help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains; from then on another one ends the process.
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		paceCollector()
	}
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// A program is one run of the command, so that tests can run it in process.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string // as os.Environ
}

// run executes a command line and returns the exit code: 0, 1 for a failure,
// 2 for a command line that is not understood.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(p.stderr, "sessiond: %v\n", err)
	var usage *usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// A usageError is the fault of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sessiond",
		Short: "Sessions for microservices",
		Long: "sessiond keeps sessions for microservices behind an HTTP API: created, checked, changed, listed and\n" +
			"ended by services that an OIDC issuer vouches for.\n\n" +
			"Try it on this machine with \"sessiond dev\"; run it with \"sessiond serve --config FILE\".",
		Example: "  sessiond dev\n" +
			"  sessiond serve --config /etc/sessiond/config.yaml\n" +
			"  sessiond session list --active --subject alice",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see \"%s --help\"", err, cmd.CommandPath())
	})
	root.AddCommand(
		p.devCommand(), p.serveCommand(), p.tokenCommand(), p.sessionCommand(),
		p.keysetCommand(), p.reencryptCommand(), p.backupCommand(), p.restoreCommand(), p.fenceCommand(),
		p.exportCommand(), p.importCommand(),
		p.migrateCommand(), p.configCommand(), p.doctorCommand(), p.benchCommand(), p.versionCommand(),
	)
	return root
}

// noArgs is cobra.NoArgs with a text that helps.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command or argument %q; see \"%s --help\"", args[0], cmd.CommandPath())
	}
	return nil
}

// exactArgs wants the arguments of the command's Use line.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// parentCommand is a command that only groups others.
func parentCommand(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(sub...)
	return c
}

// getenv is the value of a variable in p's environment.
func (p *program) getenv(name string) string {
	for _, entry := range p.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value // the first of a repeated name, like os.Getenv
		}
	}
	return ""
}
