package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
)

func newRegistrars() *cobra.Command {
	var to connection
	c := group(&cobra.Command{
		Use:   "registrars",
		Short: "Look at the registrars of a running node",
	})
	to.flags(c)
	c.AddCommand(newRegistrarsList(&to))
	return c
}

func newRegistrarsList(to *connection) *cobra.Command {
	var form string
	var answers bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List registrars with their profiles, their pace and who answers",
		Long: `List shows each registrar of the configuration.

STATE is up, silent (nothing heard for a while), down (one probe at a time is
sent) or retry_after (it asked to be left alone). WAITING profiles are due and
wait for the registrar's pace; IN-FLIGHT ones have a request open. HANDLER answers
the challenges to REGISTER for profiles that name nobody.

With --answers there is a row for each registrar and handler: what became of the
questions to it since the node started. A refusal for good passes a question on to
the next of a chain; FAILED ones have no valid answer.`,
		Example: "  muster registrars list\n  muster registrars list --answers\n  muster registrars list -o json",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var answer struct{ Registrars []actors.RegistrarView }
			if done, err := to.show(c, "/registrars", form, &answer); done || err != nil {
				return err
			}
			if answers {
				return printAnswers(c, answer.Registrars)
			}
			t := newTable(c.OutOrStdout(), "NAME", "STATE", "PROFILES", "REGISTERED", "WAITING", "IN-FLIGHT", "RATE", "HANDLER", "URI")
			for _, r := range answer.Registrars {
				t.row(registrarRow(r)...)
			}
			return t.flush()
		},
	}
	c.Flags().BoolVar(&answers, "answers", false, "a row for each registrar and handler; -o json has both")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func registrarRow(r actors.RegistrarView) []string {
	total := 0
	for _, n := range r.Profiles {
		total += n
	}
	rate := "unlimited"
	if r.Rate > 0 {
		rate = strconv.FormatFloat(r.Rate, 'f', -1, 64) + "/s"
	}
	state := r.State
	if r.RetryAfter != nil {
		state = strings.TrimSpace(state + " " + until(r.RetryAfter))
	}
	return []string{
		r.Name, state, strconv.Itoa(total), strconv.Itoa(r.Profiles[actors.StateRegistered]),
		strconv.Itoa(r.Waiting), strconv.Itoa(r.InFlight), rate, r.RegistrationHandler, r.URI,
	}
}

// printAnswers writes who answered the challenges of each registrar.
func printAnswers(c *cobra.Command, registrars []actors.RegistrarView) error {
	t := newTable(c.OutOrStdout(), "REGISTRAR", "HANDLER", "ANSWERED", "REFUSED", "FAILED", "MEAN-MS")
	for _, r := range registrars {
		for _, name := range slices.Sorted(maps.Keys(r.Answers)) {
			a := r.Answers[name]
			t.row(r.Name, name, strconv.FormatUint(a.Answered, 10), strconv.FormatUint(a.Refused, 10),
				strconv.FormatUint(a.Failed, 10), milliseconds(a.MeanMS))
		}
	}
	return t.flush()
}
