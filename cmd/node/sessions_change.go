package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

func newSessionsEnd(to *connection) *cobra.Command {
	var f sessionFilter
	var form string
	var all bool
	c := &cobra.Command{
		Use:   "end ID...",
		Short: "Hang up",
		Long: `End hangs up: CANCEL for a call that is not established, BYE for one that is. It
does not wait for the far end; an ending session is over within two minutes,
whatever the far end does. Ending a session that is over is no fault.

With --all it ends every session that the other flags choose.`,
		Example: `  muster sessions end 8f0c1d… 2b77aa…
  muster sessions end --all --profile alice
  muster sessions end --all`,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return wrongUse(c, "give ids or --all, not both")
			case !all && len(args) == 0:
				return wrongUse(c, "%s needs the id of at least one session, or --all", c.CommandPath())
			case !all && f != (sessionFilter{}):
				return wrongUse(c, "--profile, --registrar and --state go with --all")
			}
			return nil
		},
		RunE: func(c *cobra.Command, ids []string) error {
			node, err := to.open(c)
			if err != nil {
				return err
			}
			if all {
				if ids, err = sessionIDs(c, f.listing(node, 0, true)); err != nil {
					return err
				}
				if len(ids) == 0 {
					fmt.Fprintln(c.ErrOrStderr(), "There is no such session.")
				}
			}
			return endSessions(c, node, form, ids)
		},
	}
	f.flags(c)
	c.Flags().BoolVar(&all, "all", false, "end all sessions that --profile, --registrar and --state choose")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// sessionIDs reads the ids first: a listing moves while its entries end.
func sessionIDs(c *cobra.Command, l listing) ([]string, error) {
	ids := []string{}
	_, err := l.each(c, func(page []json.RawMessage) error {
		for _, raw := range page {
			var v struct{ ID string }
			if err := json.Unmarshal(raw, &v); err != nil {
				return err
			}
			ids = append(ids, v.ID)
		}
		return nil
	})
	return ids, err
}

func endSessions(c *cobra.Command, node *client, form string, ids []string) error {
	return eachOf(c, form, "", ids, func(id string) (state string, err error) {
		var v actors.SessionView
		err = node.call(c.Context(), "DELETE", sessionPath(id), nil, &v)
		return v.State, err
	})
}

func newSessionsReinvite(to *connection) *cobra.Command {
	var content contentFlags
	var form string
	c := &cobra.Command{
		Use:   "reinvite ID --sdp FILE",
		Short: "Change an established session with another INVITE",
		Long: `Reinvite sends an INVITE inside the session (RFC 3261 §14), with a session
description of yours, and waits for the answer. A challenge is answered on the way.
The far end's session description goes to the standard output; exit code 0 means
that it accepted.`,
		Example: "  muster sessions reinvite 8f0c1d… --sdp hold.sdp\n  muster sessions reinvite 8f0c1d… --sdp - -o json < hold.sdp",
		Args:    arguments(1, 1, "the id of a session"),
		RunE: func(c *cobra.Command, args []string) error {
			if !content.given() {
				return wrongUse(c, "%s needs --sdp, or --body and --content-type", c.CommandPath())
			}
			body, err := content.document(c, nil, func(b []byte) error { _, faults := declare.ReinviteJSON(b); return asError(faults) })
			if err != nil {
				return err
			}
			return to.sendInSession(c, sessionPath(args[0], "/reinvite"), form, body)
		},
	}
	content.flags(c)
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func newSessionsRequest(to *connection) *cobra.Command {
	var content contentFlags
	var method, form string
	c := &cobra.Command{
		Use:   "request ID --method METHOD",
		Short: "Send another request inside an established session",
		Long: `Request sends INFO, REFER, UPDATE, MESSAGE, NOTIFY or OPTIONS inside the session and
waits for the answer. A challenge is answered on the way. The body of the answer
goes to the standard output; exit code 0 means that its status was 2xx.`,
		Example: `  muster sessions request 8f0c1d… --method INFO --body dtmf.txt --content-type application/dtmf-relay
  muster sessions request 8f0c1d… --method REFER --header 'Refer-To: <sip:carol@example.test>'
  echo hello | muster sessions request 8f0c1d… --method MESSAGE --body - --content-type text/plain`,
		Args: arguments(1, 1, "the id of a session"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := required(c, "method", method); err != nil {
				return err
			}
			fields := []member{{"method", method}}
			body, err := content.document(c, fields, func(b []byte) error { _, faults := declare.InDialogJSON(b); return asError(faults) })
			if err != nil {
				return err
			}
			return to.sendInSession(c, sessionPath(args[0], "/requests"), form, body)
		},
	}
	c.Flags().Var(choice{&method, declare.SessionMethods()}, "method", "the `METHOD`: one of "+strings.Join(declare.SessionMethods(), ", "))
	content.flags(c)
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// asError keeps no faults from becoming an error that is not nil.
func asError(faults declare.Faults) error {
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// sendInSession posts a request and shows its answer.
func (n *connection) sendInSession(c *cobra.Command, path, form string, body []byte) error {
	node, err := n.open(c)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := node.call(c.Context(), "POST", path, body, &raw); err != nil {
		return err
	}
	var answer struct {
		Status               int
		Phrase, Reason, Body string
		Base64               []byte `json:"body_base64"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if form == formJSON {
		err = printJSON(c.OutOrStdout(), raw)
	} else {
		_, err = c.OutOrStdout().Write(append([]byte(answer.Body), answer.Base64...))
		fmt.Fprintln(c.ErrOrStderr(), printable(answerText(answer.Status, answer.Phrase, answer.Reason)))
	}
	if err == nil && answer.Status/100 != 2 {
		return errReported
	}
	return err
}

// answerText words what became of a request.
func answerText(status int, phrase, reason string) string {
	text := "no answer"
	if status > 0 {
		text = strings.TrimSpace(fmt.Sprintf("%d %s", status, phrase))
	}
	if reason != "" {
		text += " (" + reason + ")"
	}
	return text
}

// contentFlags are what a request of a session carries.
type contentFlags struct {
	sdp, body, contentType string
	headers                []string
}

func (f *contentFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.sdp, "sdp", "", "`FILE` with a session description, - for the standard input")
	c.Flags().StringVar(&f.body, "body", "", "`FILE` with another body, - for the standard input; with --content-type")
	c.Flags().StringVar(&f.contentType, "content-type", "", "media `TYPE` of --body")
	c.Flags().StringArrayVar(&f.headers, "header", nil, "a `'Name: value'` to add; may be repeated")
}

func (f *contentFlags) given() bool { return f.sdp != "" || f.body != "" }

// member is one name and value of a JSON object, whose order is kept.
type member struct {
	name  string
	value any
}

// document makes the JSON of a request, and lets check read it as the node
// will. Neither header values nor bodies are shown.
func (f *contentFlags) document(c *cobra.Command, fields []member, check func([]byte) error) ([]byte, error) {
	switch {
	case f.sdp != "" && f.body != "":
		return nil, wrongUse(c, "give --sdp or --body, not both")
	case (f.body != "") != (f.contentType != ""):
		return nil, wrongUse(c, "--body and --content-type go together")
	}
	if len(f.headers) > 0 {
		lines, err := headerObject(f.headers)
		if err != nil {
			return nil, wrongUse(c, "%v", err)
		}
		fields = append(fields, member{"headers", lines})
	}
	if f.given() {
		content, err := readContent(c, f.sdp+f.body)
		if err != nil {
			return nil, err
		}
		if utf8.Valid(content) {
			fields = append(fields, member{"body", string(content)})
		} else {
			fields = append(fields, member{"body_base64", base64.StdEncoding.EncodeToString(content)})
		}
		contentType := f.contentType
		if f.sdp != "" {
			contentType = "application/sdp"
		}
		fields = append(fields, member{"content_type", contentType})
	}
	document, err := object(fields)
	if err != nil {
		return nil, err
	}
	faults, wrong := errors.AsType[declare.Faults](check(document))
	if !wrong {
		return document, nil
	}
	lines := make([]string, len(faults))
	for i, fault := range faults {
		fault.Field = f.flagOf(fault.Field)
		lines[i] = fault.Error()
	}
	return nil, wrongUse(c, "%s", strings.Join(lines, "\nmuster: "))
}

// flagOf names the flag that a field of the API came from.
func (f *contentFlags) flagOf(field string) string {
	name, rest, nested := strings.Cut(field, ".")
	switch name {
	case "target":
		name = "to"
	case "hangup_after":
		name = "for"
	case "headers":
		name = "header"
	case "content_type":
		name = "content-type"
	case "body", "body_base64":
		if name = "body"; f.sdp != "" {
			name = "sdp"
		}
	}
	if nested {
		name += " " + rest
	}
	return "--" + name
}

// headerObject makes {"Name":["value"]} of header lines. Lines of one name stay
// in their order.
func headerObject(lines []string) (json.RawMessage, error) {
	var fields []member
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !found || name == "" {
			return nil, errors.New("a --header is not of the form 'Name: value'")
		}
		i := slices.IndexFunc(fields, func(m member) bool { return m.name == name })
		if i < 0 {
			fields = append(fields, member{name, []string{value}})
			continue
		}
		fields[i].value = append(fields[i].value.([]string), value)
	}
	return object(fields)
}

// object is a JSON object with its members in order.
func object(fields []member) (json.RawMessage, error) {
	var out bytes.Buffer
	for i, m := range fields {
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		separator := ","
		if i == 0 {
			separator = "{"
		}
		out.WriteString(separator)
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	if len(fields) == 0 {
		out.WriteByte('{')
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// maxContent is above every body that fits a SIP message.
const maxContent = 1 << 20

// readContent reads a file or the standard input as it is.
func readContent(c *cobra.Command, path string) ([]byte, error) {
	in := c.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	content, err := io.ReadAll(io.LimitReader(in, maxContent))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(content) == 0 {
		return nil, errors.New("read the body: it is empty")
	}
	return content, nil
}
