package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

// configFlags are the settings that have a flag of their own, by flag name.
var configFlags = []struct{ flag, key, usage string }{
	{"listen", "listen", "address of the API"},
	{"ops-listen", "ops_listen", "address of health, metrics and documentation"},
	{"store-url", "store.url", "where sessions are kept"},
	{"keyset-file", "encryption.keyset_file", "data encryption keys"},
	{"log-level", "log.level", "debug, info, warn or error"},
	{"otlp-endpoint", "tracing.otlp_endpoint", "collector of traces"},
	{pprofFlag, "ops_pprof", "serve /debug/pprof/ on the operators' address"},
}

const pprofFlag = "pprof"

// addConfigFlags gives cmd the flags that loadConfig reads.
func addConfigFlags(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "configuration `file` (or $SESSIOND_CONFIG)")
	for _, f := range configFlags {
		usage := fmt.Sprintf("%s (overrides %s)", f.usage, f.key)
		if f.flag == pprofFlag {
			cmd.Flags().Bool(f.flag, false, usage)
			continue
		}
		cmd.Flags().String(f.flag, "", usage)
	}
}

// loadConfig loads and validates what the command line, environment and file
// say. The warnings are about variables that are not known.
func (p *program) loadConfig(cmd *cobra.Command) (*config.Config, []config.Warning, error) {
	cfg, warnings, err := p.readConfig(cmd)
	if err != nil {
		p.warn(warnings) // one of them may be the reason
		return nil, nil, fmt.Errorf("configuration:\n  %s\nThe commented reference is \"sessiond config reference\"",
			strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return cfg, warnings, nil
}

// readConfig is loadConfig with all problems as they are, one a line.
func (p *program) readConfig(cmd *cobra.Command) (*config.Config, []config.Warning, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, nil, err
	}
	if file == "" {
		file = p.getenv("SESSIOND_CONFIG")
	}
	params := config.LoadParams{File: file, Environ: p.environ, Flags: map[string]string{}}
	for _, f := range configFlags {
		if flag := cmd.Flags().Lookup(f.flag); flag != nil && flag.Changed {
			params.Flags[f.key] = flag.Value.String()
		}
	}
	cfg, warnings, err := config.Load(params)
	if err == nil {
		err = cfg.Validate()
	}
	return cfg, warnings, err
}

// warn tells a person of warnings; a server logs them instead.
func (p *program) warn(warnings []config.Warning) {
	for _, w := range warnings {
		fmt.Fprintf(p.stderr, "sessiond: warning: %s\n", w)
	}
}

func (p *program) configCommand() *cobra.Command {
	effective := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, secrets hidden",
		Long: "Print what \"sessiond serve\" would run with, given the same flags, environment and file, with secrets\n" +
			"hidden. The output is a valid configuration file.",
		Example: "  sessiond config --config /etc/sessiond/config.yaml\n  sessiond config reference > config.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := p.loadConfig(cmd)
			if err != nil {
				return err
			}
			p.warn(warnings)
			return cfg.Print(p.stdout)
		},
	}
	addConfigFlags(effective)
	effective.AddCommand(&cobra.Command{
		Use:     "reference",
		Short:   "Print a commented configuration file with every key and its default",
		Example: "  sessiond config reference > /etc/sessiond/config.yaml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(p.stdout, config.Reference())
			return err
		},
	})
	return effective
}
