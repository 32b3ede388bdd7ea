package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
)

// sessionStates lists the states of sessions that are not over.
var sessionStates = []string{"calling", "challenged", "early", "established", "ending"}

func newSessions() *cobra.Command {
	var to connection
	c := group(&cobra.Command{
		Use:   "sessions",
		Short: "Place calls in the name of profiles, and look at them",
		Long: `A session is one call in the name of a profile, placed or taken by a running node;
name the node with --server or MUSTER_SERVER. Muster carries no media: the session
description (SDP) is yours and passes byte for byte.

States: calling (the INVITE is out); challenged (it was sent again with an answer to
a challenge); early (it rings); established; ending (BYE or CANCEL is out); ended.`,
		Example: `  muster sessions start --profile alice --to sip:bob@example.test --sdp offer.sdp --for 10s
  muster sessions list --state established
  muster sessions end --all --profile alice`,
	})
	to.flags(c)
	c.AddCommand(
		newSessionsStart(&to), newSessionsList(&to), newSessionsShow(&to), newSessionsEnd(&to),
		newSessionsReinvite(&to), newSessionsRequest(&to), newWatch(&to, "session"),
	)
	return c
}

// sessionFilter holds the flags that choose sessions.
type sessionFilter struct{ profile, registrar, state string }

func (f *sessionFilter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.profile, "profile", "", "only sessions of the profile with this `ID`")
	c.Flags().StringVar(&f.registrar, "registrar", "", "only sessions at this registrar (`NAME`)")
	c.Flags().Var(choice{&f.state, sessionStates}, "state", "only sessions in this `STATE`: one of "+strings.Join(sessionStates, ", "))
}

func (f *sessionFilter) listing(node *client, limit int, all bool) listing {
	q := given(map[string]string{"profile": f.profile, "registrar": f.registrar, "state": f.state})
	return listing{node: node, name: "sessions", query: q, limit: limit, all: all}
}

func newSessionsList(to *connection) *cobra.Command {
	var f sessionFilter
	var form string
	var limit int
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the sessions that are not over",
		Long: `List shows one page of the sessions that are not over, and says how to go on when
there are more.

AGE is the time since the start, UP since the call was established, REASON why it
is ending.`,
		Example: `  muster sessions list
  muster sessions list --profile alice --state established
  muster sessions list --all -o json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return wrongUse(c, "--limit must be at least 1")
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			l := f.listing(node, limit, all)
			if form == formJSON {
				return l.json(c)
			}
			t := newTable(c.OutOrStdout(), "ID", "STATE", "DIRECTION", "PROFILE", "PEER", "AGE", "UP", "REASON")
			return l.table(c, t, "--profile, --registrar and --state", func(raw json.RawMessage) error {
				var v actors.SessionView
				if err := json.Unmarshal(raw, &v); err != nil {
					return err
				}
				t.row(v.ID, v.State, v.Direction, v.Profile, v.Peer, since(v.StartedAt), since(v.EstablishedAt), v.Reason)
				return nil
			})
		},
	}
	f.flags(c)
	c.Flags().IntVar(&limit, "limit", 100, "at most this many sessions")
	c.Flags().BoolVar(&all, "all", false, "all sessions, whatever --limit says")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func newSessionsShow(to *connection) *cobra.Command {
	var form string
	var count int
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one session and what happened to it",
		Long: `Show tells the state of a session, its dialog and times, and its latest events,
oldest first. Of a session that was over long ago only the events are left. Times
are local.

With -o json, "session" is the session, null when only its events are left, and
"events" are its events.`,
		Example: "  muster sessions show 8f0c1d…\n  muster sessions show 8f0c1d… -n 0 -o json",
		Args:    arguments(1, 1, "the id of a session"),
		RunE: func(c *cobra.Command, args []string) error {
			if count < 0 {
				return wrongUse(c, "-n must not be negative")
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			return showSession(c, node, args[0], form, count)
		},
	}
	c.Flags().IntVarP(&count, "number", "n", 50, "at most this many events")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// showSession asks for the session and its events: the journal remembers
// longer than the node.
func showSession(c *cobra.Command, node *client, id, form string, count int) error {
	var raw json.RawMessage
	gone := node.call(c.Context(), "GET", sessionPath(id), nil, &raw)
	refused, ok := errors.AsType[*refusedError](gone)
	if gone != nil && (!ok || refused.status != http.StatusNotFound) {
		return gone
	}
	events, err := readHistory(c, node, sessionPath(id), count)
	if err != nil {
		return err
	}
	if gone != nil && len(events) == 0 {
		return gone
	}
	if form == formJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"session": raw, "events": events})
	}
	if gone != nil {
		fmt.Fprintln(c.ErrOrStderr(), "The session is over, and only its history is left.")
		return printHistory(c.OutOrStdout(), events)
	}
	if err := printSession(c.OutOrStdout(), raw); err != nil || len(events) == 0 {
		return err
	}
	fmt.Fprintln(c.OutOrStdout())
	return printHistory(c.OutOrStdout(), events)
}

// printSession shows one session, a line for each field.
func printSession(w io.Writer, raw json.RawMessage) error {
	var v actors.SessionView
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Local().Format(localTime)
	}
	body := ""
	if v.Body != "" {
		body = fmt.Sprintf("%s, %s (-o json shows it)", v.ContentType, counted(len(v.Body), "byte"))
	}
	t := newTable(w)
	for _, line := range [][2]string{
		{"id", v.ID},
		{"profile", v.Profile},
		{"registrar", v.Registrar},
		{"direction", v.Direction},
		{"aor", v.AOR},
		{"peer", v.Peer},
		{"state", v.State},
		{"reason", v.Reason},
		{"last status", number(uint64(v.LastStatus))},
		{"started", at(v.StartedAt)},
		{"established", at(v.EstablishedAt)},
		{"ended", at(v.EndedAt)},
		{"hangup in", until(v.HangupAt)},
		{"session timer", timerText(v.Timer)},
		{"trunk", v.Trunk},
		{"bridged with", v.Bridge},
		{"session handler", v.Handler},
		{"requests", number(v.Attempts)},
		{"call id", v.Dialog.CallID},
		{"local tag", v.Dialog.LocalTag},
		{"remote tag", v.Dialog.RemoteTag},
		{"local cseq", number(uint64(v.Dialog.LocalCSeq))},
		{"remote cseq", number(uint64(v.Dialog.RemoteCSeq))},
		{"remote target", v.Dialog.RemoteTarget},
		{"route set", strings.Join(v.Dialog.RouteSet, ", ")},
		{"peer's body", body},
	} {
		t.row(line[0], line[1])
	}
	return t.flush()
}

// timerText words a session timer: "30m0s, refreshed by us in 14m".
func timerText(v *actors.TimerView) string {
	if v == nil {
		return ""
	}
	text := fmt.Sprintf("%v, refreshed by %s", time.Duration(v.IntervalSeconds)*time.Second, v.Refresher)
	if v.RefreshAt != nil {
		text += " in " + until(v.RefreshAt)
	}
	return text
}
