package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/client"
)

// A sessionCLI is the commands that talk to a server.
type sessionCLI struct {
	*program
	server, tokenFile, tenant string
}

func (p *program) sessionCommand() *cobra.Command {
	c := &sessionCLI{program: p}
	cmd := parentCommand("session", "Work with the sessions of a running server",
		c.createCommand(), c.getCommand(), c.listCommand(), c.updateCommand(), c.touchCommand(),
		c.revokeCommand(), c.watchCommand())
	cmd.Long = "Work with the sessions of a running server over its API.\n\n" +
		"The server is --server or $SESSIOND_SERVER; the access token is read from --token-file or is\n" +
		"$SESSIOND_TOKEN. With \"sessiond dev\", \"sessiond token\" makes one."
	cmd.Example = "  export SESSIOND_TOKEN=$(sessiond token --permissions sessions:create,sessions:read,sessions:delete)\n" +
		"  sessiond session create --subject alice --data '{\"cart\":[]}'\n" +
		"  sessiond session list --active --subject alice\n" +
		"  sessiond session revoke --subject alice --reason security"
	c.addFlags(cmd.PersistentFlags())
	return cmd
}

// addFlags adds the flags that say which server it is.
func (c *sessionCLI) addFlags(flags interface {
	StringVar(p *string, name, value, usage string)
}) {
	server := c.getenv("SESSIOND_SERVER")
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	flags.StringVar(&c.server, "server", server, "`URL` of the server (or $SESSIOND_SERVER)")
	flags.StringVar(&c.tokenFile, "token-file", "", "`file` with the access token (else $SESSIOND_TOKEN)")
	flags.StringVar(&c.tenant, "tenant", "", "`tenant`, if not the token's own")
}

// client is the client that the flags and the environment ask for.
func (c *sessionCLI) client() (*client.Client, error) { return c.clientOver(nil) }

// clientOver is client with a transport, nil for the usual one.
func (c *sessionCLI) clientOver(transport http.RoundTripper) (*client.Client, error) {
	cfg := client.Config{Server: c.server, Tenant: c.tenant, Transport: transport}
	switch {
	case c.tokenFile != "":
		// Read anew for each request, so that it may be renewed under a long watch.
		cfg.Token = func(context.Context) (string, error) {
			b, err := os.ReadFile(c.tokenFile)
			return strings.TrimSpace(string(b)), err
		}
	case c.getenv("SESSIOND_TOKEN") != "":
		cfg.Token = client.StaticToken(c.getenv("SESSIOND_TOKEN"))
	default:
		return nil, usagef("no access token: give --token-file or set SESSIOND_TOKEN;" +
			" with sessiond dev, \"sessiond token\" makes one")
	}
	return client.New(cfg)
}

// explain adds to an error what the user can do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, client.ErrUnauthenticated):
		return fmt.Errorf("%w\nThe access token is not accepted; it may have expired. Get a new one", err)
	case errors.Is(err, client.ErrDenied):
		return fmt.Errorf("%w\nAsk for an access token with that permission", err)
	case errors.Is(err, sessiond.ErrUnknown):
		return fmt.Errorf("%w\nIt may or may not have taken effect; look with \"sessiond session get\"", err)
	case errors.Is(err, sessiond.ErrUnavailable):
		return fmt.Errorf("%w\nIs the server running, and is --server right?", err)
	default:
		return err
	}
}

// print writes a session as JSON that a person can read.
func (p *program) print(s *sessiond.Session, token sessiond.Token) error {
	v := jsontext.Value(api.AppendSession(nil, s, token))
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "%s\n", v)
	return err
}

// changeFlags are the flags of what a session holds.
type changeFlags struct {
	data      string
	labels    map[string]string
	expiresIn time.Duration
	idle      time.Duration
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "`JSON` object to keep, or @FILE")
	cmd.Flags().StringToStringVar(&f.labels, "label", nil, "`key=value`, may be repeated")
	cmd.Flags().DurationVar(&f.expiresIn, "expires-in", 0, "`time` from now to the absolute deadline, such as 1h")
	cmd.Flags().DurationVar(&f.idle, "idle-timeout", 0, "allowed `gap` between activities; 0s: none")
}

// values are the flags that were given; nil is what was not.
func (f *changeFlags) values(cmd *cobra.Command) (p sessiond.UpdateParams, err error) {
	if cmd.Flags().Changed("data") {
		p.Data = jsontext.Value(f.data)
		if name, ok := strings.CutPrefix(f.data, "@"); ok {
			if p.Data, err = os.ReadFile(name); err != nil {
				return p, err
			}
		}
		if !p.Data.IsValid() {
			return p, usagef("--data is not a JSON object")
		}
	}
	if cmd.Flags().Changed("label") {
		p.Labels = f.labels
	}
	if cmd.Flags().Changed("expires-in") {
		p.ExpiresIn = &f.expiresIn
	}
	if cmd.Flags().Changed("idle-timeout") {
		p.IdleTimeout = &f.idle
	}
	return p, nil
}

func (c *sessionCLI) createCommand() *cobra.Command {
	var (
		f           changeFlags
		id, subject string
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a session and print it with its token",
		Example: "  sessiond session create --subject alice --expires-in 1h --label device=phone\n" +
			"  sessiond session create --id session-001 --data @data.json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			values, err := f.values(cmd)
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			s, token, err := cl.Create(cmd.Context(), sessiond.CreateParams{
				ID: sessiond.ID(id), Subject: subject, Data: values.Data, Labels: values.Labels,
				ExpiresIn: values.ExpiresIn, IdleTimeout: values.IdleTimeout,
			})
			if err != nil {
				return explain(err)
			}
			return c.print(s, token)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "`id` of the session; a new UUID by default")
	cmd.Flags().StringVar(&subject, "subject", "", "`subject` whose session it is; a guest by default")
	return cmd
}

func (c *sessionCLI) getCommand() *cobra.Command {
	return c.oneCommand("get ID", "Print a session", "  sessiond session get session-001", (*client.Client).Get)
}

func (c *sessionCLI) touchCommand() *cobra.Command {
	return c.oneCommand("touch ID", "Record activity of the session's holder now",
		"  sessiond session touch session-001", (*client.Client).Touch)
}

// oneCommand is a command that takes an id and prints the session.
func (c *sessionCLI) oneCommand(
	use, short, example string, call func(*client.Client, context.Context, sessiond.ID) (*sessiond.Session, error),
) *cobra.Command {
	return &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			s, err := call(cl, cmd.Context(), sessiond.ID(args[0]))
			if err != nil {
				return explain(err)
			}
			return c.print(s, "")
		},
	}
}

func (c *sessionCLI) updateCommand() *cobra.Command {
	var (
		f     changeFlags
		merge bool
	)
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Replace parts of a session, or merge into its data",
		Long: "Replace the given parts of a session; the others stay. With --merge, --data is a JSON merge patch\n" +
			"(RFC 7396): its members are merged into the data, and null removes one.",
		Example: "  sessiond session update session-001 --data '{\"cart\":[]}' --expires-in 2h\n" +
			"  sessiond session update session-001 --merge --data '{\"theme\":\"dark\",\"cart\":null}'",
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := f.values(cmd)
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			var s *sessiond.Session
			if merge {
				if values.Data == nil || values.Labels != nil || values.ExpiresIn != nil || values.IdleTimeout != nil {
					return usagef("--merge takes --data and no other change")
				}
				patch := append(append(jsontext.Value(`{"data":`), values.Data...), '}')
				s, err = cl.Patch(cmd.Context(), sessiond.ID(args[0]), sessiond.PatchParams{Patch: patch})
			} else {
				s, err = cl.Update(cmd.Context(), sessiond.ID(args[0]), values)
			}
			if err != nil {
				return explain(err)
			}
			return c.print(s, "")
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&merge, "merge", false, "merge --data into the data instead of replacing it")
	return cmd
}
