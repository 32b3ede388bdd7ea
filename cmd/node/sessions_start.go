package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
)

const (
	// commandTimeout is for requests that Ctrl-C must not cut off.
	commandTimeout = 45 * time.Second
	// endTimeout is above the longest that a session takes to end: a CANCEL or
	// BYE, challenged, without an answer (RFC 3261 §17.1.2.2, Timer F).
	endTimeout = 2 * time.Minute
)

func newSessionsStart(to *connection) *cobra.Command {
	var s startFlags
	var form string
	var detach bool
	c := &cobra.Command{
		Use:   "start --profile ID --to URI",
		Short: "Place a call and show it as it goes",
		Long: `Start places a call in the name of a profile and shows each step as it happens,
with the time since the start: the INVITE, challenges and who answered them, the
repeated INVITE, ringing, the answer, BYE, the end. Ctrl-C hangs up and waits for
the end; a second Ctrl-C leaves at once.

The session description (SDP) is yours and passes byte for byte. Without one the far
end may make the offer, which only a Go program can answer: such a call ends after
10 s. --for hangs up so long after the call was established; else it lasts until
either side hangs up.

Exit code 0: the call was established and ended as asked, by --for, by Ctrl-C or
another command, or, without --for, by the far end. With --detach: it was started.

With -o json each step is a line of JSON, and the last line is the session.`,
		Example: `  muster sessions start --profile alice --to sip:bob@example.test --sdp offer.sdp --for 10s
  muster sessions start --profile alice --to sip:bob@example.test --sdp - --header 'Subject: test' < offer.sdp
  muster sessions start --profile alice --to sip:bob@example.test --sdp offer.sdp --detach`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			body, err := s.document(c)
			if err != nil {
				return err
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			if detach {
				return startDetached(c, node, form, body)
			}
			p := &placing{c: c, node: node, json: form == formJSON, limited: s.limit > 0}
			return p.run(s.profile, body)
		},
	}
	s.flags(c)
	c.Flags().BoolVar(&detach, "detach", false, "leave as soon as the call is started; see muster sessions show")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

// startFlags say what to call.
type startFlags struct {
	profile, target string
	limit           time.Duration
	content         contentFlags
}

func (s *startFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.profile, "profile", "", "`ID` of the profile that calls")
	c.Flags().StringVar(&s.target, "to", "", "SIP `URI` to call")
	c.Flags().DurationVar(&s.limit, "for", 0, "hang up so long after the call was established")
	s.content.flags(c)
}

func (s *startFlags) document(c *cobra.Command) ([]byte, error) {
	fields := []member{{"profile", s.profile}, {"target", s.target}}
	if c.Flags().Changed("for") {
		if s.limit <= 0 {
			return nil, wrongUse(c, "--for must be above 0")
		}
		fields = append(fields, member{"hangup_after", s.limit.String()})
	}
	return s.content.document(c, fields, func(b []byte) error { _, faults := declare.SessionJSON(b); return asError(faults) })
}

func startDetached(c *cobra.Command, node *client, form string, body []byte) error {
	var raw json.RawMessage
	if err := node.call(c.Context(), "POST", apiPath+"/sessions", body, &raw); err != nil {
		return err
	}
	if form == formJSON {
		return printJSON(c.OutOrStdout(), raw)
	}
	return printSession(c.OutOrStdout(), raw)
}

// placing is one call from its start to its end.
type placing struct {
	c    *cobra.Command
	node *client
	json bool
	// limited: the call shall end after a time.
	limited bool

	id    string
	begun time.Time
	ended bool
}

// run subscribes first and then starts, so that no step is lost.
func (p *placing) run(profile string, body []byte) error {
	// Ctrl-C hangs up; what that needs must go on until the end.
	ctx := context.WithoutCancel(p.c.Context())
	watching, stop := context.WithCancel(ctx)
	defer stop()
	f := &follower{node: p.node, query: url.Values{"kind": {"session"}, "profile": {profile}}}
	stay := context.AfterFunc(p.c.Context(), stop)
	if err := f.open(watching); err != nil {
		return err
	}
	defer f.close()
	if !stay() {
		return errors.New("interrupted")
	}
	var raw json.RawMessage
	if err := p.command(ctx, "POST", apiPath+"/sessions", body, &raw); err != nil {
		return err
	}
	var v actors.SessionView
	if err := json.Unmarshal(raw, &v); err != nil || v.ID == "" {
		return fmt.Errorf("%s does not answer like a Muster node", p.node.base)
	}
	p.id = v.ID
	if !p.json {
		fmt.Fprintf(p.c.OutOrStdout(), "session %s\n", printable(v.ID))
	}
	// A broken stream goes on with this session, from its first event.
	f.query, f.last = url.Values{"kind": {"session"}, "id": {p.id}}, "s/"+p.id+"/0"
	steps := make(chan step)
	go p.read(watching, f, steps)
	err := p.follow(ctx, steps)
	stop()
	for range steps { // until the reader is gone
	}
	if err != nil {
		return fmt.Errorf("%w (the call may go on: muster sessions show %s)", err, printable(p.id))
	}
	return p.verdict(ctx)
}

// command makes a request that is not cut off by Ctrl-C.
func (p *placing) command(ctx context.Context, method, path string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return p.node.call(ctx, method, path, body, out)
}

// step is one change, or why there are no more.
type step struct {
	change actors.Change
	raw    []byte
	err    error
}

// follow shows the steps until the session is over.
func (p *placing) follow(ctx context.Context, steps <-chan step) error {
	interrupted := p.c.Context().Done()
	var patience <-chan time.Time
	for !p.ended {
		select {
		case s := <-steps:
			if s.err != nil {
				return s.err
			}
			p.show(s)
		case <-interrupted:
			interrupted = nil
			fmt.Fprintln(p.c.ErrOrStderr(), "Hanging up; once more to leave at once.")
			if err := p.command(ctx, "DELETE", sessionPath(p.id), nil, nil); err != nil {
				return err
			}
			patience = time.After(endTimeout)
		case <-patience:
			return errors.New("the session does not end")
		}
	}
	return nil
}

// read hands over the changes of this session, each once, until an error.
func (p *placing) read(ctx context.Context, f *follower, steps chan<- step) {
	defer close(steps)
	var seen uint64
	for {
		change, raw, err := f.next(ctx)
		if err == nil && (change.ID != p.id || change.Version <= seen) {
			continue
		}
		seen = change.Version
		steps <- step{change, slices.Clone(raw), err}
		if err != nil {
			return
		}
	}
}

func (p *placing) show(s step) {
	c := s.change
	if p.begun.IsZero() {
		p.begun = c.At
	}
	p.ended = c.Type == "SessionEnded"
	if p.json {
		fmt.Fprintf(p.c.OutOrStdout(), "%s\n", s.raw)
		return
	}
	fmt.Fprintf(p.c.OutOrStdout(), "%9.3fs  %-11s  %s\n", c.At.Sub(p.begun).Seconds(), printable(cmp.Or(c.State, "-")), printable(c.Text))
}

// verdict tells whether the call went as it was asked for.
func (p *placing) verdict(ctx context.Context) error {
	var raw json.RawMessage
	var v actors.SessionView
	if err := p.command(ctx, "GET", sessionPath(p.id), nil, &raw); err != nil {
		return fmt.Errorf("read how the session ended: %w", err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read how the session ended: %w", err)
	}
	w := io.Discard
	if !p.json {
		w = p.c.OutOrStdout()
	} else if _, err := fmt.Fprintf(p.c.OutOrStdout(), "%s\n", bytes.TrimSpace(raw)); err != nil {
		return err
	}
	reason := messages.Reason(v.Reason)
	switch {
	case v.EstablishedAt == nil:
		return fmt.Errorf("the call was not established: %s", printable(answerText(v.LastStatus, "", v.Reason)))
	case reason == messages.ReasonHangup, reason == messages.ReasonHangupAfter, reason == messages.ReasonRemoteHangup && !p.limited:
		fmt.Fprintf(w, "the call was up for %s\n", upFor(v))
		return nil
	case reason == messages.ReasonRemoteHangup:
		return fmt.Errorf("the far end hung up after %s", upFor(v))
	}
	return fmt.Errorf("the call ended after %s: %s", upFor(v), printable(v.Reason))
}

// upFor is how long a call was established.
func upFor(v actors.SessionView) time.Duration {
	if v.EstablishedAt == nil || v.EndedAt == nil {
		return 0
	}
	return v.EndedAt.Sub(*v.EstablishedAt).Round(time.Millisecond)
}
