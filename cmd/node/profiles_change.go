package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// outcome is what became of one profile or session of several.
type outcome struct {
	ID    string `json:"id"`
	Done  bool   `json:"done"`
	State string `json:"state,omitempty"`
	Error string `json:"error,omitempty"`
}

// newProfilesDo makes remove, enable, disable and refresh: the same for each of
// several ids.
func newProfilesDo(to *connection, verb, short, done, more string) *cobra.Command {
	var form string
	long := short + "."
	if more != "" {
		long += "\n\n" + more
	}
	c := &cobra.Command{
		Use:     verb + " ID...",
		Short:   short,
		Long:    long,
		Example: fmt.Sprintf("  muster profiles %s sip:alice@example.test\n  muster profiles %s alice bob carol", verb, verb),
		Args:    arguments(1, -1, "the id of at least one profile"),
		RunE: func(c *cobra.Command, ids []string) error {
			node, err := to.open(c)
			if err != nil {
				return err
			}
			return eachOf(c, form, done, ids, func(id string) (state string, err error) {
				if verb == "remove" {
					return "", node.call(c.Context(), "DELETE", profilePath(id), nil, nil)
				}
				var v actors.ProfileView
				err = node.call(c.Context(), "POST", profilePath(id, "/", verb), nil, &v)
				return v.State, err
			})
		},
	}
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// eachOf does something with each id, until the command is interrupted, and says
// of each what came of it.
func eachOf(c *cobra.Command, form, done string, ids []string, do func(id string) (state string, err error)) error {
	outcomes := make([]outcome, 0, len(ids))
	failed := false
	for _, id := range ids {
		o := outcome{ID: id, Done: true}
		state, err := do(id)
		if err != nil {
			o.Done, o.Error, failed = false, err.Error(), true
		} else {
			o.State = state
		}
		outcomes = append(outcomes, o)
		if c.Context().Err() != nil {
			break
		}
	}
	if err := printOutcomes(c, form, done, outcomes); err != nil {
		return err
	}
	if failed {
		return errReported
	}
	return nil
}

// printOutcomes says of each what was done with it; when done is empty its state
// tells that.
func printOutcomes(c *cobra.Command, form, done string, outcomes []outcome) error {
	if form == formJSON {
		return printJSON(c.OutOrStdout(), outcomes)
	}
	for _, o := range outcomes {
		if !o.Done {
			fmt.Fprintf(c.ErrOrStderr(), "muster: %s: %s\n", printable(o.ID), o.Error)
			continue
		}
		fmt.Fprintf(c.OutOrStdout(), "%s %s\n", printable(o.ID), cmp.Or(done, o.State))
	}
	return nil
}

func newProfilesAdd(to *connection) *cobra.Command {
	var form string
	var d newProfile
	c := &cobra.Command{
		Use:   "add --aor URI --registrar NAME",
		Short: "Add one profile",
		Long: `Add declares a profile at a running node. It survives restarts; its password is
sealed in the node's store.

Passwords are not taken from the command line, where other users of the machine
can see them: give --ask-password, or a file, or "-" for the standard input.`,
		Example: `  muster profiles add --aor sip:alice@example.test --registrar acme --ask-password
  muster profiles add --aor sip:bob@example.test --registrar acme --password-file bob.secret
  pass show bob | muster profiles add --aor sip:bob@example.test --registrar acme --password-file -
  muster profiles add --aor sip:eve@example.test --registrar acme --registration-handler 'token-service>digest' --ask-password`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			node, err := to.open(c)
			if err != nil {
				return err
			}
			body, err := d.body(c)
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := node.call(c.Context(), "POST", apiPath+"/profiles", body, &raw); err != nil {
				return err
			}
			return printProfile(c.OutOrStdout(), form, raw)
		},
	}
	d.flags(c)
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// newProfile holds the flags of add.
type newProfile struct {
	id, aor, registrar, username, contactUser string
	registrationHandler, sessionHandler       string
	expires                                   string
	passwordFile, ha1File                     string
	ask, noRegister, disabled                 bool
}

func (d *newProfile) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.aor, "aor", "", "address-of-record, a SIP `URI`")
	f.StringVar(&d.registrar, "registrar", "", "`NAME` of a registrar of the node's configuration")
	f.StringVar(&d.id, "id", "", "id of the profile (default: the AOR)")
	f.StringVar(&d.username, "username", "", "user name for the digest (default: the user part of the AOR)")
	f.StringVar(&d.contactUser, "contact-user", "", "user part of the Contact (default: the user part of the AOR)")
	f.StringVar(&d.expires, "expires", "", "wanted expiry, such as 3600 or 1h (default: the registrar's)")
	f.StringVar(&d.registrationHandler, "registration-handler", "", "`HANDLER` of challenges to REGISTER: digest, an xSP, or a chain such as 'token-service>digest' (default: the registrar's)")
	f.StringVar(&d.sessionHandler, "session-handler", "", "`HANDLER` of challenges in sessions (default: the registrar's)")
	f.StringVar(&d.passwordFile, "password-file", "", "`FILE` that holds the password, - for the standard input")
	f.StringVar(&d.ha1File, "ha1-file", "", "`FILE` that holds the HA1 in hex, - for the standard input")
	f.BoolVar(&d.ask, "ask-password", false, "ask for the password on the terminal")
	f.BoolVar(&d.noRegister, "no-register", false, "do not register: the profile only places and takes sessions")
	f.BoolVar(&d.disabled, "disabled", false, "add the profile disabled")
}

// body reads the secret and checks the declaration with the node's own words,
// before anything is sent.
func (d *newProfile) body(c *cobra.Command) ([]byte, error) {
	sources := 0
	for _, given := range []bool{d.ask, d.passwordFile != "", d.ha1File != ""} {
		if given {
			sources++
		}
	}
	if sources > 1 {
		return nil, wrongUse(c, "give one of --ask-password, --password-file and --ha1-file")
	}
	fields := map[string]any{"register": !d.noRegister, "enabled": !d.disabled}
	for name, value := range map[string]string{
		"id": d.id, "aor": d.aor, "registrar": d.registrar, "username": d.username, "contact_user": d.contactUser,
		"expires": d.expires, "registration_handler": d.registrationHandler, "session_handler": d.sessionHandler,
	} {
		if value != "" {
			fields[name] = value
		}
	}
	var err error
	switch {
	case d.ask:
		fields["password"], err = askPassword(c)
	case d.passwordFile != "":
		fields["password"], err = secretFrom(c, d.passwordFile)
	case d.ha1File != "":
		fields["ha1"], err = secretFrom(c, d.ha1File)
	}
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if _, faults := declare.JSON(body); len(faults) > 0 {
		lines := make([]string, len(faults))
		for i, f := range faults {
			f.Field = strings.ReplaceAll(f.Field, "_", "-")
			lines[i] = f.Error()
		}
		return nil, wrongUse(c, "%s", strings.Join(lines, "\nmuster: "))
	}
	return body, nil
}

// secretFrom reads one line from a file or the standard input.
func secretFrom(c *cobra.Command, path string) (string, error) {
	if path != "-" {
		secret, err := readSecret(path)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		return secret, nil
	}
	line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("read secret: the standard input holds none")
	}
	return line, nil
}

// askPassword asks twice without showing what is typed.
func askPassword(c *cobra.Command) (string, error) {
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", wrongUse(c, "--ask-password needs a terminal; use --password-file")
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(c.ErrOrStderr(), prompt)
		typed, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		return string(typed), err
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	second, err := ask("The same again: ")
	switch {
	case err != nil:
		return "", fmt.Errorf("read password: %w", err)
	case first != second:
		return "", errors.New("the two passwords differ")
	case first == "":
		return "", errors.New("the password is empty")
	}
	return first, nil
}

// localTime is how times of the history are shown.
const localTime = "2006-01-02 15:04:05.000"

func newProfilesHistory(to *connection) *cobra.Command {
	var form string
	var count int
	c := &cobra.Command{
		Use:   "history ID",
		Short: "Show what happened to a profile",
		Long: `History shows the latest events of a profile, oldest first: time, version, type
and the event as a sentence. Times are local.`,
		Example: `  muster profiles history sip:alice@example.test
  muster profiles history sip:alice@example.test -n 200
  muster profiles history sip:alice@example.test -o json`,
		Args: arguments(1, 1, "the id of a profile"),
		RunE: func(c *cobra.Command, args []string) error {
			if count < 1 {
				return wrongUse(c, "-n must be at least 1")
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			events, err := readHistory(c, node, profilePath(args[0]), count)
			if err != nil {
				return err
			}
			if form == formJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"events": events})
			}
			return printHistory(c.OutOrStdout(), events)
		},
	}
	c.Flags().IntVarP(&count, "number", "n", 50, "at most this many events")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func printHistory(w io.Writer, events []actors.HistoryEntry) error {
	t := newTable(w)
	for _, e := range events {
		t.row(e.At.Local().Format(localTime), fmt.Sprintf("#%d", e.Version), e.Type, e.Text)
	}
	return t.flush()
}

// readHistory returns the newest events of what is at a path, oldest first.
func readHistory(c *cobra.Command, node *client, of string, count int) ([]actors.HistoryEntry, error) {
	events := []actors.HistoryEntry{}
	for before := uint64(0); len(events) < count; {
		var page struct {
			Events []actors.HistoryEntry
			Next   uint64
		}
		path := fmt.Sprintf("%s/history?limit=%d", of, min(count-len(events), maxPage))
		if before > 0 {
			path += fmt.Sprintf("&before=%d", before)
		}
		if err := node.call(c.Context(), "GET", path, nil, &page); err != nil {
			return nil, err
		}
		events = append(events, page.Events...)
		if before = page.Next; before == 0 {
			break
		}
	}
	slices.Reverse(events)
	return events, nil
}
