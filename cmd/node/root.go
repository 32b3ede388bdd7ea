package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sipmuster/muster/admin/declare"
)

// newRoot builds the tree of commands.
func newRoot(s streams) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "muster",
		Short: "Keep SIP profiles registered and place calls in their name",
		Long: `Muster keeps very many SIP profiles registered, places and takes calls in their
name, answers the challenges of registrars and proxies, and records every decision
in a journal.

Try it without any configuration:   muster demo
Write a configuration:              muster check --example > muster.yaml
Run a node:                         muster run --config muster.yaml
Look at it:                         muster profiles list
Place a call:                       muster sessions start --help`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newDemo(), newRun(), newCheck(),
		newProfiles(), newSessions(), newRegistrars(), newXSP(), newJournal(), newVersion(),
	)
	return root
}

// group makes a command that only has subcommands: without one, or with an
// unknown one, it is used wrongly.
func group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		var names []string
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		if len(args) == 0 {
			return wrongUse(c, "%s needs a command: %s", c.CommandPath(), strings.Join(names, ", "))
		}
		did := ""
		if near := declare.Nearest(args[0], names); near != "" {
			did = fmt.Sprintf(" (did you mean %q?)", near)
		}
		return wrongUse(c, "unknown command %q for %q%s", args[0], c.CommandPath(), did)
	}
	return c
}

// wrongUse makes a usage error that points to the command's help.
func wrongUse(c *cobra.Command, format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...), hint: fmt.Sprintf("See %q.", c.CommandPath()+" --help")}
}

// flagError words a flag that is unknown or has a wrong value.
func flagError(c *cobra.Command, err error) error {
	text := err.Error()
	if name, unknown := strings.CutPrefix(text, "unknown flag: --"); unknown {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := declare.Nearest(name, names); near != "" {
			text += fmt.Sprintf(" (did you mean --%s?)", near)
		}
	}
	return wrongUse(c, "%s", text)
}

// arguments checks the number of arguments; what names them for the message.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return wrongUse(c, "%s needs %s", c.CommandPath(), what)
		case most == 0 && len(args) > 0:
			return wrongUse(c, "%s takes no argument, and got %q", c.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return wrongUse(c, "%s takes %s, and got %d arguments", c.CommandPath(), what, len(args))
		}
		return nil
	}
}

// noArguments is for commands with flags only.
var noArguments = arguments(0, 0, "")

// choice is a flag with a few allowed values.
type choice struct {
	value   *string
	allowed []string
}

// String implements pflag.Value.
func (c choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

// Type implements pflag.Value.
func (c choice) Type() string { return strings.Join(c.allowed, "|") }

// Set implements pflag.Value.
func (c choice) Set(text string) error {
	if !slices.Contains(c.allowed, text) {
		return fmt.Errorf("must be one of %s", strings.Join(c.allowed, ", "))
	}
	*c.value = text
	return nil
}

// outputFlag adds -o; the first form is the default.
func outputFlag(c *cobra.Command, into *string, forms ...string) {
	*into = forms[0]
	c.Flags().VarP(choice{into, forms}, "output", "o", "form of the output")
}

// required marks a flag without which the command makes no sense.
func required(c *cobra.Command, name, value string) error {
	if value == "" {
		return wrongUse(c, "%s needs --%s", c.CommandPath(), name)
	}
	return nil
}
