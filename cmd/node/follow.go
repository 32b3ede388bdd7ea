package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
)

const (
	// silence is how long a stream of events may say nothing: the node sends a
	// comment every 15 s.
	silence = 45 * time.Second
	// A stream that breaks is opened again this often, with a pause before
	// each.
	reconnects     = 30
	reconnectPause = time.Second
	// maxEventLine bounds one line of a stream.
	maxEventLine = 1 << 20
)

// errMissed: the node could not tell everything.
var errMissed = errors.New("some events are missing")

// eventStream reads server-sent events from a node.
type eventStream struct {
	body   io.Closer
	lines  *bufio.Scanner
	alarm  *time.Timer
	cancel context.CancelFunc
}

// event is one of them. An id that is given and empty takes back the one
// before.
type event struct {
	id, kind string
	hasID    bool
	data     []byte
}

// events subscribes; when it returns, the node tells everything from now on,
// and what came after the event with the id last, if that is given.
func (cl *client) events(ctx context.Context, query url.Values, last string) (*eventStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, err := cl.request(ctx, http.MethodGet, apiPath+"/events?"+query.Encode(), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	body, err := cl.do(r)
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEventLine)
	return &eventStream{body, lines, time.AfterFunc(silence, cancel), cancel}, nil
}

func (s *eventStream) close() {
	s.alarm.Stop()
	s.cancel()
	s.body.Close()
}

// next returns the next event; its data is valid until the next call.
func (s *eventStream) next() (event, error) {
	var e event
	for s.lines.Scan() {
		s.alarm.Reset(silence)
		name, value, _ := strings.Cut(s.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			e.id, e.hasID = value, true
		case "event":
			e.kind = value
		case "data":
			e.data = []byte(value)
		case "":
			if s.lines.Text() == "" && e.data != nil {
				return e, nil
			}
		}
	}
	if err := s.lines.Err(); err != nil {
		return e, err
	}
	return e, io.ErrUnexpectedEOF
}

// follower reads changes over all streams that it takes.
type follower struct {
	node  *client
	query url.Values
	// last is the id of the event seen last, where the query names one profile
	// or session; it is where a broken stream goes on.
	last   string
	stream *eventStream
}

// open subscribes for the first time: an error is the user's to know.
func (f *follower) open(ctx context.Context) (err error) {
	f.stream, err = f.node.events(ctx, f.query, f.last)
	return err
}

func (f *follower) close() {
	if f.stream != nil {
		f.stream.close()
	}
	f.stream = nil
}

// next returns the next change, and how the node wrote it. After errMissed it
// can be called again.
func (f *follower) next(ctx context.Context) (actors.Change, []byte, error) {
	for {
		if f.stream == nil {
			if err := f.reopen(ctx); err != nil {
				return actors.Change{}, nil, err
			}
			if f.last == "" {
				return actors.Change{}, nil, errMissed
			}
		}
		e, err := f.stream.next()
		if err != nil {
			if ctx.Err() != nil {
				return actors.Change{}, nil, ctx.Err()
			}
			f.close()
			continue
		}
		if e.kind == "overflow" {
			if e.hasID { // there is nothing to go on from
				f.last = ""
			}
			if f.last != "" {
				f.close() // what is missing can be had
				continue
			}
			return actors.Change{}, nil, errMissed
		}
		var c actors.Change
		if err := json.Unmarshal(e.data, &c); err != nil {
			return c, nil, fmt.Errorf("%s does not answer like a Muster node", f.node.base)
		}
		if c.ID == f.query.Get("id") {
			f.last = e.id
		}
		return c, e.data, nil
	}
}

// reopen subscribes again, with patience: the node may be restarting.
func (f *follower) reopen(ctx context.Context) error {
	var err error
	for range reconnects {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(reconnectPause):
		}
		if err = f.open(ctx); err == nil {
			return nil
		}
		refused, ok := errors.AsType[*refusedError](err)
		if ok && refused.status != http.StatusServiceUnavailable {
			return err
		}
	}
	return err
}

// newWatch makes the watch of profiles and of sessions.
func newWatch(to *connection, kind string) *cobra.Command {
	var form, profile string
	c := &cobra.Command{
		Use:   "watch [ID]",
		Short: fmt.Sprintf("Show what happens to %ss, as it happens", kind),
		Long: fmt.Sprintf(`Watch shows every event of the node's %[1]ss, or of one, from now on, until Ctrl-C:
time, %[1]s, state, type and the event as a sentence. Times are local. With -o json
there is one JSON object in each line.

A connection that breaks is made again. What was missed of one %[1]s is shown then;
of many it is not, and a line says so: see muster %[1]ss history.`, kind),
		Example: fmt.Sprintf("  muster %[1]ss watch\n  muster %[1]ss watch -o json | jq -r .text", kind),
		Args:    arguments(0, 1, "the id of one "+kind+" at most"),
		RunE: func(c *cobra.Command, args []string) error {
			node, err := to.open(c)
			if err != nil {
				return err
			}
			f := &follower{node: node, query: given(map[string]string{"kind": kind, "profile": profile})}
			if len(args) == 1 {
				f.query.Set("id", args[0])
			}
			return watchChanges(c, f, form)
		},
	}
	if kind == "session" {
		c.Long = strings.Replace(c.Long, "see muster sessions history", "see muster sessions show", 1)
		c.Flags().StringVar(&profile, "profile", "", "only sessions of the profile with this `ID`")
	}
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func watchChanges(c *cobra.Command, f *follower, form string) error {
	ctx := c.Context()
	if err := f.open(ctx); err != nil {
		return err
	}
	defer f.close()
	for {
		change, raw, err := f.next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how this ends
		case errors.Is(err, errMissed):
			fmt.Fprintln(c.ErrOrStderr(), "muster: some events are missing here")
			continue
		case err != nil:
			return err
		}
		if form == formJSON {
			fmt.Fprintf(c.OutOrStdout(), "%s\n", raw)
			continue
		}
		fmt.Fprintf(c.OutOrStdout(), "%s  %s  %-12s  %s  %s\n", change.At.Local().Format(localTime),
			printable(change.ID), printable(cmp.Or(change.State, "-")), printable(change.Type), printable(change.Text))
	}
}
