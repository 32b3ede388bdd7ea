package main

import (
	"encoding/json"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
)

func newProfiles() *cobra.Command {
	var to connection
	c := group(&cobra.Command{
		Use:   "profiles",
		Short: "Look at and change the profiles of a running node",
		Long: `Profiles are what a node keeps registered. These commands ask a running node; name
it with --server or MUSTER_SERVER.

States: registered; registering and challenged (a request is open); backoff (it
failed and will be tried again); rejected (the registrar said no for good);
disabled; unregistered (nothing to do, or not yet).`,
		Example: `  muster profiles list --state rejected
  muster profiles history sip:alice@example.test
  muster profiles refresh sip:alice@example.test`,
	})
	to.flags(c)
	c.AddCommand(
		newProfilesList(&to), newProfilesShow(&to), newProfilesHistory(&to), newProfilesSecurity(&to),
		newProfilesAdd(&to), newProfilesImport(&to), newProfilesExport(&to),
		newProfilesDo(&to, "remove", "Remove profiles and their bindings", "removed",
			"The bindings are withdrawn at the registrars, at their pace. A profile that a\nprofile file declares comes back when its row changes, so remove it there."),
		newProfilesDo(&to, "enable", "Register disabled profiles again", "enabled", ""),
		newProfilesDo(&to, "disable", "Withdraw bindings and leave the profiles alone", "disabled",
			"A disabled profile stays disabled over restarts until it is enabled."),
		newProfilesDo(&to, "refresh", "Register profiles soon, whatever their timers say", "refreshed",
			"A rejected profile is tried again, for example after its password was changed\nat the registrar."),
		newWatch(&to, "profile"),
	)
	return c
}

// filter holds the flags that choose profiles.
type filter struct{ state, registrar, text string }

func (f *filter) flags(c *cobra.Command) {
	c.Flags().Var(choice{&f.state, actors.States()}, "state", "only profiles in this `STATE`: one of registered, registering, challenged, backoff, rejected, disabled, unregistered")
	c.Flags().StringVar(&f.registrar, "registrar", "", "only profiles of this registrar (`NAME`)")
	c.Flags().StringVar(&f.text, "query", "", "only profiles with this `TEXT` in the id or AOR")
}

func (f *filter) query() url.Values {
	return given(map[string]string{"state": f.state, "registrar": f.registrar, "q": f.text})
}

func newProfilesList(to *connection) *cobra.Command {
	var f filter
	var form string
	var limit int
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List profiles",
		Long: `List shows one page of profiles, and says how to go on when there are more.

EXPIRES is how long the binding still lasts, NEXT when the next request is due,
REASON why a profile is not registered or could not be refreshed.`,
		Example: `  muster profiles list
  muster profiles list --state backoff --registrar acme
  muster profiles list --query alice -o json
  muster profiles list --all | wc -l`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return wrongUse(c, "--limit must be at least 1")
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			l := listing{node: node, name: "profiles", query: f.query(), limit: limit, all: all}
			if form == formJSON {
				return l.json(c)
			}
			return listTable(c, l)
		},
	}
	f.flags(c)
	c.Flags().IntVar(&limit, "limit", 100, "at most this many profiles")
	c.Flags().BoolVar(&all, "all", false, "all profiles, whatever --limit says")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func listTable(c *cobra.Command, l listing) error {
	t := newTable(c.OutOrStdout(), "ID", "STATE", "REGISTRAR", "EXPIRES", "NEXT", "REASON")
	return l.table(c, t, "--state, --registrar and --query", func(raw json.RawMessage) error {
		var v actors.ProfileView
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		due := until(v.NextAttemptAt)
		if v.Waiting {
			due = "waiting"
		}
		t.row(v.ID, v.State, v.Registrar, until(v.ExpiresAt), due, v.Reason)
		return nil
	})
}

func newProfilesShow(to *connection) *cobra.Command {
	var form string
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one profile",
		Example: "  muster profiles show sip:alice@example.test\n  muster profiles show sip:alice@example.test -o json",
		Args:    arguments(1, 1, "the id of a profile"),
		RunE: func(c *cobra.Command, args []string) error {
			node, err := to.open(c)
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := node.call(c.Context(), "GET", profilePath(args[0]), nil, &raw); err != nil {
				return err
			}
			return printProfile(c.OutOrStdout(), form, raw)
		},
	}
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// printProfile shows one profile, a line for each field.
func printProfile(w io.Writer, form string, raw json.RawMessage) error {
	if form == formJSON {
		return printJSON(w, raw)
	}
	var v actors.ProfileView
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	t := newTable(w)
	for _, line := range [][2]string{
		{"id", v.ID},
		{"aor", v.AOR},
		{"registrar", v.Registrar},
		{"state", v.State},
		{"reason", v.Reason},
		{"enabled", strconv.FormatBool(v.Enabled)},
		{"register", strconv.FormatBool(v.Register)},
		{"binding ends in", until(v.ExpiresAt)},
		{"next request in", until(v.NextAttemptAt)},
		{"waiting for the registrar", strconv.FormatBool(v.Waiting)},
		{"attempts", number(int64(v.Attempt))},
		{"last status", number(int64(v.LastStatus))},
		{"wanted expiry", number(int64(v.Expires))},
		{"username", v.Username},
		{"contact user", v.ContactUser},
		{"registration handler", v.RegistrationHandler},
		{"session handler", v.SessionHandler},
		{"call id", v.CallID},
		{"cseq", number(int64(v.CSeq))},
		{"declared by", v.Source},
	} {
		t.row(line[0], line[1])
	}
	return t.flush()
}
