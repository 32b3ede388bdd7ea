package main

import (
	"encoding/json"
	"fmt"
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
	q := url.Values{}
	for name, value := range map[string]string{"state": f.state, "registrar": f.registrar, "q": f.text} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// pageOf is a page whose profiles are kept as the node wrote them.
type pageOf struct {
	Profiles []json.RawMessage `json:"profiles"`
	Next     string            `json:"next,omitempty"`
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
			if form == formJSON {
				return listJSON(c, node, f.query(), limit, all)
			}
			return listTable(c, node, f.query(), limit, all)
		},
	}
	f.flags(c)
	c.Flags().IntVar(&limit, "limit", 100, "at most this many profiles")
	c.Flags().BoolVar(&all, "all", false, "all profiles, whatever --limit says")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// maxPage is the largest page that the API gives.
const maxPage = 1000

// eachPage asks for pages until limit profiles came, or all of them.
func eachPage(c *cobra.Command, node *client, q url.Values, limit int, all bool, visit func(pageOf) error) (next string, err error) {
	for left := limit; all || left > 0; {
		size := maxPage
		if !all {
			size = min(left, maxPage)
		}
		q.Set("limit", strconv.Itoa(size))
		var page pageOf
		if err := node.call(c.Context(), "GET", apiPath+"/profiles?"+q.Encode(), nil, &page); err != nil {
			return "", err
		}
		if err := visit(page); err != nil {
			return "", err
		}
		if page.Next == "" {
			return "", nil
		}
		left -= len(page.Profiles)
		next = page.Next
		q.Set("after", next)
	}
	return next, nil
}

func listTable(c *cobra.Command, node *client, q url.Values, limit int, all bool) error {
	t := newTable(c.OutOrStdout(), "ID", "STATE", "REGISTRAR", "EXPIRES", "NEXT", "REASON")
	shown := 0
	next, err := eachPage(c, node, q, limit, all, func(page pageOf) error {
		for _, raw := range page.Profiles {
			var v actors.ProfileView
			if err := json.Unmarshal(raw, &v); err != nil {
				return err
			}
			due := until(v.NextAttemptAt)
			if v.Waiting {
				due = "waiting"
			}
			t.row(v.ID, v.State, v.Registrar, until(v.ExpiresAt), due, v.Reason)
			shown++
		}
		return t.flush()
	})
	if err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(c.ErrOrStderr(), "There are more than these %s; see --all and --limit, or filter with --state, --registrar and --query.\n", thousands(shown))
	}
	return nil
}

// listJSON writes one document, page by page.
func listJSON(c *cobra.Command, node *client, q url.Values, limit int, all bool) error {
	w := c.OutOrStdout()
	separator := "{\"profiles\":["
	next, err := eachPage(c, node, q, limit, all, func(page pageOf) error {
		for _, raw := range page.Profiles {
			if _, err := fmt.Fprintf(w, "%s\n%s", separator, raw); err != nil {
				return err
			}
			separator = ","
		}
		return nil
	})
	if err != nil {
		return err
	}
	if separator != "," {
		_, err = io.WriteString(w, separator)
	}
	if err == nil {
		_, err = io.WriteString(w, "\n]")
	}
	if err == nil && next != "" {
		quoted, _ := json.Marshal(next) // a string is always JSON
		_, err = fmt.Fprintf(w, ",\"next\":%s", quoted)
	}
	if err == nil {
		_, err = io.WriteString(w, "}\n")
	}
	return err
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
