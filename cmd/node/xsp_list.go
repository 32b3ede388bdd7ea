package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
)

func newXSP() *cobra.Command {
	var to connection
	c := group(&cobra.Command{
		Use:   "xsp",
		Short: "Look at who answers challenges besides digest",
		Long: `An xSP (extensible Service Provider) is somebody's own procedure to answer the
challenges of registrars: a webhook, a gRPC service, an actor on another node, or
one of the built-in ones (aka, bearer, hmac). The section xsp of the configuration
declares them; profiles and registrars choose them by name.`,
		Example: "  muster xsp list\n  muster profiles security sip:alice@example.test --registration token-service",
	})
	to.flags(c)
	c.AddCommand(newXSPList(&to))
	return c
}

func newXSPList(to *connection) *cobra.Command {
	var form string
	c := &cobra.Command{
		Use:   "list",
		Short: "List xSPs and how well they answer",
		Long: `List shows each xSP of the configuration. The counts are of this node since it
started.

STATE is down while too many questions failed: then only a probe is sent now and
then, and profiles are tried again later. WAITING questions wait for their turn,
IN-FLIGHT ones are out. FAILED counts questions without a valid answer: silence,
errors, and answers that change what they may not. MEAN-MS is the mean time to an
answer, LAST-ERROR why the latest question has none.`,
		Example: "  muster xsp list\n  muster xsp list -o json",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var answer struct{ XSP []actors.XSPView }
			if done, err := to.show(c, "/xsp", form, &answer); done || err != nil {
				return err
			}
			t := newTable(c.OutOrStdout(), "NAME", "KIND", "STATE", "WAITING", "IN-FLIGHT", "ANSWERED", "REFUSED", "FAILED", "MEAN-MS", "LAST-ERROR")
			for _, x := range answer.XSP {
				t.row(x.Name, x.Kind, x.State, strconv.Itoa(x.Waiting), strconv.Itoa(x.InFlight),
					strconv.FormatUint(x.Answered, 10), strconv.FormatUint(x.Refused, 10), strconv.FormatUint(x.Failed, 10),
					milliseconds(x.MeanMS), x.LastError)
			}
			return t.flush()
		},
	}
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// milliseconds writes a mean time, "-" when there is none. The digest takes a
// few microseconds, so that small ones have more digits.
func milliseconds(mean float64) string {
	switch {
	case mean == 0:
		return ""
	case mean < 1:
		return strconv.FormatFloat(mean, 'f', 3, 64)
	}
	return strconv.FormatFloat(mean, 'f', 1, 64)
}
