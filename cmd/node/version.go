package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

// build says what this binary was made of.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"`
	Go      string `json:"go"`
	System  string `json:"system"`
}

func buildInfo() build {
	b := build{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok {
		if b.Version == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Time = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

func newVersion() *cobra.Command {
	var form string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this binary",
		Example: "  muster version\n  muster version -o json",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			b := buildInfo()
			if form == formJSON {
				return printJSON(c.OutOrStdout(), b)
			}
			fmt.Fprintf(c.OutOrStdout(), "muster %s (%s, %s)\n", b.Version, b.Go, b.System)
			return nil
		},
	}
	outputFlag(c, &form, formTable, formJSON)
	return c
}
