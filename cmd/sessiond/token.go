package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/internal/devidp"
)

func (p *program) tokenCommand() *cobra.Command {
	var (
		permissions          []string
		subject, tenant, dir string
		ttl                  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "token --permissions LIST",
		Short: "Print an access token from the issuer of \"sessiond dev\"",
		Long: "Print an access token from the local issuer of \"sessiond dev\", and nothing else. The token is for the\n" +
			"server that runs, or ran last, on the same directory.\n\n" +
			"Permissions: " + strings.Join(permissionNames(), ", "),
		Example: "  sessiond token --permissions sessions:create,sessions:read\n" +
			"  curl -H \"Authorization: Bearer $(sessiond token --permissions sessions:read)\" http://127.0.0.1:8080/sessions/",
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, name := range permissions {
				if _, ok := auth.ParsePermission(name); !ok {
					return usagef("--permissions: %q is none; there are %s", name, strings.Join(permissionNames(), ", "))
				}
			}
			if len(permissions) == 0 {
				return usagef("--permissions is required; there are %s", strings.Join(permissionNames(), ", "))
			}
			if !sessiond.ValidTenant(tenant) {
				return usagef("--tenant must have 1 to 63 characters of [a-z0-9-] and not begin with -")
			}
			if ttl < time.Second {
				return usagef("--ttl must be at least 1s")
			}
			token, err := mintDevToken(dir, devidp.MintParams{
				Subject: subject, Tenant: tenant, Permissions: permissions, TTL: ttl,
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, token)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&permissions, "permissions", nil, "comma-separated `permissions` to grant")
	cmd.Flags().StringVar(&subject, "subject", "dev", "`name` of who the token is for")
	cmd.Flags().StringVar(&tenant, "tenant", sessiond.DefaultTenant, "`tenant` of the token")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how `long` the token is valid")
	cmd.Flags().StringVar(&dir, "data", devDir, "`directory` of sessiond dev")
	return cmd
}

func mintDevToken(dir string, params devidp.MintParams) (string, error) {
	name := filepath.Join(dir, devIssuerFile)
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is not there: start \"sessiond dev\" first, or name its directory with --data", name)
	}
	if err != nil {
		return "", err
	}
	var issuer devIssuer
	if err := json.Unmarshal(content, &issuer); err != nil {
		return "", fmt.Errorf("%s is damaged: start \"sessiond dev\" again to write it anew", name)
	}
	provider, err := openDevIssuer(dir, issuer)
	if err != nil {
		return "", err
	}
	return provider.Mint(params)
}
