package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/cmd/node/config"
)

// checked is the result of check as JSON.
type checked struct {
	File       string           `json:"file"`
	Correct    bool             `json:"correct"`
	Registrars int              `json:"registrars"`
	Profiles   int              `json:"profiles"`
	XSPs       []checkedXSP     `json:"xsp"`
	Trunks     []checkedTrunk   `json:"trunks"`
	Warnings   []string         `json:"warnings"`
	Problems   []config.Problem `json:"problems"`
	More       int              `json:"more_problems,omitempty"`
}

// checkedXSP is an entry of the section xsp as it was understood.
type checkedXSP struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Target      string   `json:"target"`
	Timeout     string   `json:"timeout"`
	Concurrency int      `json:"concurrency"`
	Waiting     int      `json:"waiting"`
	Headers     []string `json:"headers,omitempty"`
}

// checkedTrunk is an entry of the section trunks as it was understood.
type checkedTrunk struct {
	Name      string   `json:"name"`
	Peers     []string `json:"peers"`
	URI       string   `json:"uri"`
	Profile   string   `json:"profile"`
	Registrar string   `json:"registrar,omitempty"`
	Profiles  []string `json:"profiles,omitempty"`
	Headers   []string `json:"headers,omitempty"`
}

func newCheck() *cobra.Command {
	var path, form string
	var example bool
	c := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Check a configuration and its profile files",
		Long: `Check reads a configuration and the files that it names, as run would: profiles,
subscribers, tokens, keys and certificates. It reports everything that is wrong,
with file and line, and how it understands each xSP and trunk. Nothing is started, and
nobody is asked.

With --example it prints a configuration with every key and its meaning.`,
		Example: `  muster check --config muster.yaml
  muster check --config muster.yaml -o json
  muster check --example > muster.yaml`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if example {
				_, err := fmt.Fprint(c.OutOrStdout(), config.Example)
				return err
			}
			if err := required(c, "config", path); err != nil {
				return err
			}
			return check(c, path, form)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "", "configuration `FILE`")
	c.Flags().BoolVar(&example, "example", false, "print an annotated example configuration")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func check(c *cobra.Command, path, form string) error {
	loaded, err := config.Load(path)
	if form == formJSON {
		result := checked{File: path, Correct: err == nil, XSPs: []checkedXSP{}, Trunks: []checkedTrunk{}, Warnings: []string{}, Problems: []config.Problem{}}
		var problems *config.Problems
		switch {
		case errors.As(err, &problems):
			result.Problems, result.More = problems.List, problems.More
		case err != nil:
			return err
		default:
			result.Registrars, result.Profiles = len(loaded.Registrars), loaded.Profiles.Len()
			result.XSPs = append(result.XSPs, checkedXSPs(loaded)...)
			result.Trunks = append(result.Trunks, checkedTrunks(loaded)...)
			result.Warnings = append(result.Warnings, loaded.Warnings...)
		}
		if printing := printJSON(c.OutOrStdout(), result); printing != nil {
			return printing
		}
		if err != nil {
			return errReported
		}
		return nil
	}
	if err != nil {
		fmt.Fprintln(c.ErrOrStderr(), err)
		return errReported
	}
	for _, w := range loaded.Warnings {
		fmt.Fprintln(c.ErrOrStderr(), "warning:", w)
	}
	fmt.Fprintf(c.OutOrStdout(), "%s is correct: %s, %s\n", path,
		counted(len(loaded.Registrars), "registrar"), counted(loaded.Profiles.Len(), "profile"))
	for _, x := range checkedXSPs(loaded) {
		headers := ""
		if len(x.Headers) > 0 {
			headers = ", may change " + strings.Join(x.Headers, ", ")
		}
		fmt.Fprintf(c.OutOrStdout(), "xsp %s: %s, %s; within %s, %s at a time, %s waiting%s\n",
			x.Name, x.Kind, x.Target, x.Timeout, thousands(x.Concurrency), thousands(x.Waiting), headers)
	}
	for _, t := range checkedTrunks(loaded) {
		fmt.Fprintf(c.OutOrStdout(), "trunk %s: %s\n", t.Name, t)
	}
	return nil
}

func checkedXSPs(c *config.Config) []checkedXSP {
	list := make([]checkedXSP, len(c.XSPs))
	for i, x := range c.XSPs {
		list[i] = checkedXSP{x.Name, x.Kind(), x.Target(), x.Timeout.String(), x.Concurrency, x.Waiting, x.Headers}
	}
	return list
}

func checkedTrunks(c *config.Config) []checkedTrunk {
	list := make([]checkedTrunk, len(c.Trunks))
	for i, t := range c.Trunks {
		list[i] = checkedTrunk{t.Name, t.PeerNames(), t.URI, t.Profile, t.Registrar, t.Profiles, t.Headers}
	}
	return list
}

// String says what a trunk does.
func (t checkedTrunk) String() string {
	profiles := "all profiles of " + t.Registrar
	if t.Registrar == "" {
		profiles = counted(len(t.Profiles), "profile")
	}
	by := "From"
	if header, found := strings.CutPrefix(t.Profile, actors.ProfileHeader); found {
		by = header
	}
	text := fmt.Sprintf("calls from %s for %s, found by %s, and calls to them to %s", strings.Join(t.Peers, ", "), profiles, by, t.URI)
	if len(t.Headers) > 0 {
		text += "; passes " + strings.Join(t.Headers, ", ")
	}
	return text
}
