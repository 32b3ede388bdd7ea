package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/admin/declare"
)

// security is who answers the challenges to a profile, as the API says it.
type security struct {
	Registration string `json:"registration_handler"`
	Session      string `json:"session_handler"`
}

func newProfilesSecurity(to *connection) *cobra.Command {
	var registration, session, form string
	c := &cobra.Command{
		Use:   "security ID",
		Short: "Show or choose who answers the challenges to a profile",
		Long: `Security shows who answers when a registrar or proxy challenges a profile:
registration for REGISTER, session for the requests of its sessions. With a flag
it changes that. The change is recorded in the profile's history and counts from
its next attempt on; a request that is open is not disturbed.

A HANDLER is digest (the built-in one, with the profile's password), the name of
an xSP of the node's configuration (see muster xsp list), or a chain of at most
four such as token-service>digest: the next one is asked when one refuses for
good. Quote a chain, or the shell takes the > for itself. An empty HANDLER ("") is
the registrar's default.`,
		Example: `  muster profiles security sip:alice@example.test
  muster profiles security sip:alice@example.test --registration token-service
  muster profiles security alice --registration 'token-service>digest' --session digest
  muster profiles security alice --registration ""`,
		Args: arguments(1, 1, "the id of a profile"),
		RunE: func(c *cobra.Command, args []string) error {
			change := map[string]string{}
			for _, flag := range []struct{ name, field, value string }{
				{"registration", "registration_handler", registration},
				{"session", "session_handler", session},
			} {
				if !c.Flags().Changed(flag.name) {
					continue
				}
				if _, err := declare.Handlers(flag.value); err != nil {
					return wrongUse(c, "--%s %q %v (%s)", flag.name, flag.value, err, declare.HandlerMend)
				}
				change[flag.field] = flag.value
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			method, body := "GET", []byte(nil)
			if len(change) > 0 {
				method = "PUT"
				if body, err = json.Marshal(change); err != nil {
					return err
				}
			}
			var raw json.RawMessage
			if err := node.call(c.Context(), method, profilePath(args[0], "/security"), body, &raw); err != nil {
				return err
			}
			return printSecurity(c, form, raw)
		},
	}
	c.Flags().StringVar(&registration, "registration", "", "`HANDLER` of challenges to REGISTER")
	c.Flags().StringVar(&session, "session", "", "`HANDLER` of challenges in sessions")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func printSecurity(c *cobra.Command, form string, raw json.RawMessage) error {
	if form == formJSON {
		return printJSON(c.OutOrStdout(), raw)
	}
	var s security
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	t := newTable(c.OutOrStdout())
	t.row("registration", s.Registration)
	t.row("session", s.Session)
	return t.flush()
}
