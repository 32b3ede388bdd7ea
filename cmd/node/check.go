package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/cmd/node/config"
)

// checked is the result of check as JSON.
type checked struct {
	File       string           `json:"file"`
	Correct    bool             `json:"correct"`
	Registrars int              `json:"registrars"`
	Profiles   int              `json:"profiles"`
	Warnings   []string         `json:"warnings"`
	Problems   []config.Problem `json:"problems"`
	More       int              `json:"more_problems,omitempty"`
}

func newCheck() *cobra.Command {
	var path, form string
	var example bool
	c := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Check a configuration and its profile files",
		Long: `Check reads a configuration and the profile files that it names, as run would,
and reports everything that is wrong, with file and line. Nothing is started.

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
		result := checked{File: path, Correct: err == nil, Warnings: []string{}, Problems: []config.Problem{}}
		var problems *config.Problems
		switch {
		case errors.As(err, &problems):
			result.Problems, result.More = problems.List, problems.More
		case err != nil:
			return err
		default:
			result.Registrars, result.Profiles = len(loaded.Registrars), len(loaded.Profiles.Declarations)
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
		counted(len(loaded.Registrars), "registrar"), counted(len(loaded.Profiles.Declarations), "profile"))
	return nil
}
