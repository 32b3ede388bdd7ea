package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sipmuster/muster/actors"
)

const (
	// keepAlive is the time between comments on a stream of events, so that
	// nobody on the way takes it for dead.
	keepAlive = 15 * time.Second
	// historyPageSize and maxReplay bound what Last-Event-ID can ask for.
	historyPageSize = 1000
	maxReplay       = 10 * historyPageSize
	// overflow is the type of an event that tells of a gap.
	overflow = "overflow"
)

type eventsInput struct {
	Kind        string `query:"kind" enum:"profile,session" doc:"only changes of this kind"`
	ID          string `query:"id" doc:"only of the profile or session with this id"`
	Profile     string `query:"profile" doc:"only of the profile with this id and its sessions"`
	LastEventID string `header:"Last-Event-ID" doc:"together with id: begins with what happened after this event"`
}

// events streams what is recorded from now on. The caller has subscribed when
// the header of the answer arrives.
//
// It ends with the caller, with the server, with the caller's token, and with
// the node's patience: an event "overflow" then says that some are missing.
func (s *Server) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	query := actors.ChangeQuery{Kind: in.Kind, ID: in.ID, Profile: in.Profile}
	changes, err := s.options.Node.Watch(ctx, query)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	missed, err := s.missed(ctx, query, in.LastEventID)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "text/event-stream")
		r, w := humago.Unwrap(hc)
		out := newEventWriter(w)
		if out.replay(missed) != nil {
			return
		}
		end := s.follow(ctx, r, out, changes, missed)
		if end == endedByNode && ctx.Err() == nil && s.tooSlow(ctx, query) {
			// Whoever reads no more does not read this either.
			_ = out.overflow(false)
		}
		s.log.Debug("stream of events ended", "caller", callerOf(ctx), "reason", string(end))
	}}, nil
}

// ending is why a stream of events ended, for the log.
type ending string

const (
	endedByCaller ending = "the caller left"
	endedByServer ending = "the server stops"
	endedByToken  ending = "the token is no longer valid"
	endedByNode   ending = "the node closed it"
)

// follow writes changes until something ends the stream.
func (s *Server) follow(ctx context.Context, r *http.Request, out *eventWriter, changes <-chan actors.Change, missed replay) ending {
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return endedByCaller
		case <-s.stopping.Done():
			return endedByServer
		case c, open := <-changes:
			if !open {
				return endedByNode
			}
			if missed.holds(c) {
				continue
			}
			if err = out.change(c); err == nil && len(changes) == 0 {
				err = out.flush()
			}
		case <-ticker.C:
			if caller, known := s.presented(r); !known || caller.Role < s.needs(eventsRoute) {
				return endedByToken
			}
			err = out.comment("keep-alive")
		}
		if err != nil {
			return endedByCaller
		}
	}
}

// tooSlow tells why the node closed a channel: one that stops takes no watcher
// any more.
func (s *Server) tooSlow(ctx context.Context, query actors.ChangeQuery) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := s.options.Node.Watch(ctx, query)
	return err == nil && s.stopping.Err() == nil
}

// replay is what one stream holds after an event that the caller has seen.
type replay struct {
	// stream is empty when nothing was asked for.
	stream  string
	changes []actors.Change
	// newest is the version up to which the history was read.
	newest uint64
	// gap: there is more than is repeated, or some of it is no longer kept.
	gap bool
}

// holds tells whether a change came with the replay already.
func (p replay) holds(c actors.Change) bool {
	return p.stream != "" && c.Version <= p.newest && streamOf(c.Kind, c.ID) == p.stream
}

// missed reads what happened after the event that a caller saw last. It is
// called after Watch, so that nothing falls in between. Events of other
// streams than the one that is asked for are not repeated.
func (s *Server) missed(ctx context.Context, query actors.ChangeQuery, last string) (replay, error) {
	kind, since, ok := seen(query, last)
	if !ok {
		return replay{}, nil
	}
	p := replay{stream: streamOf(kind, query.ID)}
	profile, history := query.ID, s.options.Node.History
	if kind == kindSession {
		v, err := s.options.Node.Session(ctx, query.ID)
		if err != nil && !errors.Is(err, actors.ErrNoSession) { // the journal remembers longer
			return replay{}, err
		}
		profile, history = v.Profile, s.options.Node.SessionHistory
	}
	for before := uint64(0); before != 1; {
		events, err := history(ctx, query.ID, before, historyPageSize)
		if err != nil {
			return replay{}, err
		}
		for _, e := range events {
			p.newest = max(p.newest, e.Version)
			if e.Version <= since {
				break
			}
			p.changes = append(p.changes, actors.Change{
				Kind: kind, ID: query.ID, Profile: profile, Version: e.Version, At: e.At, Type: e.Type, Text: e.Text,
			})
		}
		if len(events) == 0 || events[len(events)-1].Version <= since+1 || len(p.changes) >= maxReplay {
			break
		}
		before = events[len(events)-1].Version
	}
	slices.Reverse(p.changes)
	if len(p.changes) > 0 && p.changes[0].Version != since+1 {
		p.changes, p.gap = nil, true
	}
	return p, nil
}

const (
	kindProfile = "profile"
	kindSession = "session"
)

// streamOf names a stream as the journal does.
func streamOf(kind, id string) string {
	if kind == kindSession {
		return "s/" + id
	}
	return "p/" + id
}

// eventID is "stream/version".
func eventID(c actors.Change) string {
	return streamOf(c.Kind, c.ID) + "/" + strconv.FormatUint(c.Version, 10)
}

// seen takes an event's id apart, when it is of the stream that is asked for.
func seen(query actors.ChangeQuery, last string) (kind string, version uint64, ok bool) {
	slash := strings.LastIndexByte(last, '/')
	if slash < 0 || query.ID == "" {
		return "", 0, false
	}
	version, err := strconv.ParseUint(last[slash+1:], 10, 64)
	for _, kind := range []string{kindProfile, kindSession} {
		if err == nil && last[:slash] == streamOf(kind, query.ID) && (query.Kind == "" || query.Kind == kind) {
			return kind, version, true
		}
	}
	return "", 0, false
}

// eventWriter writes server-sent events (WHATWG HTML §9.2).
type eventWriter struct {
	w       *bufio.Writer
	control *http.ResponseController
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	out := newStream(w)
	return &eventWriter{w: bufio.NewWriter(out), control: out.control}
}

// replay begins the stream, so that the caller knows that it has subscribed.
func (e *eventWriter) replay(p replay) error {
	for _, c := range p.changes {
		if err := e.change(c); err != nil {
			return err
		}
	}
	if p.gap {
		if err := e.overflow(true); err != nil {
			return err
		}
	}
	return e.comment("subscribed")
}

func (e *eventWriter) change(c actors.Change) error {
	if id := eventID(c); !strings.ContainsAny(id, "\r\n\x00") {
		_, _ = e.w.WriteString("id: " + id + "\n")
	}
	return e.event(c.Type, c)
}

// overflow tells that events are missing. forget takes the last event's id away
// from the caller: asking again from there would bring this again.
func (e *eventWriter) overflow(forget bool) error {
	if forget {
		_, _ = e.w.WriteString("id\n")
	}
	err := e.event(overflow, map[string]string{"text": "Events are missing here: read the history."})
	if err != nil {
		return err
	}
	return e.flush()
}

// event writes all but the id. A bufio.Writer keeps its first error, so that
// the last one counts.
func (e *eventWriter) event(name string, content any) error {
	_, _ = e.w.WriteString("event: " + name + "\ndata: ")
	out := json.NewEncoder(e.w)
	out.SetEscapeHTML(false)
	if err := out.Encode(content); err != nil { // ends the line
		return err
	}
	return e.w.WriteByte('\n')
}

func (e *eventWriter) comment(text string) error {
	_, _ = e.w.WriteString(": " + text + "\n\n")
	return e.flush()
}

func (e *eventWriter) flush() error {
	if err := e.w.Flush(); err != nil {
		return err
	}
	return e.control.Flush()
}
