package admin

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// maxSessionBody is for the largest session description, in which every byte is
// written as six, such as \u0000, and the rest.
const maxSessionBody = 512 << 10

// sessionStart documents the body of POST /sessions. Package declare reads it,
// and the next two.
type sessionStart struct {
	Profile     string                  `json:"profile" doc:"id of the profile that calls" example:"alice"`
	Target      string                  `json:"target" doc:"SIP URI to call" example:"sip:bob@example.test"`
	Headers     map[string]headerValues `json:"headers,omitempty" doc:"added to the INVITE: a value, or a list of values, for each name"`
	Body        string                  `json:"body,omitempty" doc:"session description, passed on byte for byte"`
	BodyBase64  string                  `json:"body_base64,omitempty" contentEncoding:"base64" doc:"a body that is not text; give it or body, not both"`
	ContentType string                  `json:"content_type,omitempty" doc:"of the body" default:"application/sdp"`
	HangupAfter any                     `json:"hangup_after,omitempty" doc:"ends the call so long after it is established: seconds, or a duration such as \"10s\""`
}

// headerValues documents the value of a header.
type headerValues struct{}

// Schema implements huma.SchemaProvider.
func (headerValues) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, Items: text}}}
}

// sessionReinvite documents the body of POST /sessions/{id}/reinvite.
type sessionReinvite struct {
	Headers     map[string]headerValues `json:"headers,omitempty"`
	Body        string                  `json:"body,omitempty" doc:"the new session description; it or body_base64 is needed"`
	BodyBase64  string                  `json:"body_base64,omitempty" contentEncoding:"base64"`
	ContentType string                  `json:"content_type,omitempty" default:"application/sdp"`
}

// sessionSend documents the body of POST /sessions/{id}/requests.
type sessionSend struct {
	Method      string                  `json:"method" enum:"INFO,REFER,UPDATE,MESSAGE,NOTIFY,OPTIONS"`
	Headers     map[string]headerValues `json:"headers,omitempty"`
	Body        string                  `json:"body,omitempty"`
	BodyBase64  string                  `json:"body_base64,omitempty" contentEncoding:"base64"`
	ContentType string                  `json:"content_type,omitempty" doc:"needed with a body, except in UPDATE, where it defaults to application/sdp"`
}

// sessionAnswer is what became of a request inside a session.
type sessionAnswer struct {
	Status      int    `json:"status" doc:"SIP status of the final response, 0 when none came"`
	Phrase      string `json:"phrase,omitempty"`
	Reason      string `json:"reason,omitempty" doc:"why it failed, absent when it did not"`
	ContentType string `json:"content_type,omitempty"`
	Body        string `json:"body,omitempty"`
	BodyBase64  string `json:"body_base64,omitempty" contentEncoding:"base64" doc:"instead of body when it is not text"`
}

type (
	sessionInput struct {
		ID string `path:"id" doc:"id of the session"`
	}
	startInput struct{ bodyInput }
	sendInput  struct {
		ID string `path:"id" doc:"id of the session"`
		bodyInput
	}
	sessionListInput struct {
		Profile   string `query:"profile" doc:"id of a profile"`
		Registrar string `query:"registrar"`
		State     string `query:"state" enum:"calling,challenged,early,established,ending"`
		Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
		After     string `query:"after" doc:"next of the page before"`
	}

	sessionOutput struct{ Body actors.SessionView }
	startOutput   struct {
		Location string `header:"Location"`
		Body     actors.SessionView
	}
	sessionPageOutput struct {
		Body struct {
			Sessions []actors.SessionView `json:"sessions" doc:"sessions that are not over, in the order of their ids"`
			Next     string               `json:"next,omitempty" doc:"after of the next page, absent on the last"`
		}
	}
	sendOutput struct{ Body sessionAnswer }
)

func (s *Server) sessionRoutes(api huma.API) {
	node := s.options.Node
	conflict := []int{http.StatusConflict}
	register(s, api, route{method: "GET", path: "/sessions", role: RoleRead, summary: "List the sessions that are not over"}, s.listSessions)
	register(s, api, route{
		method: "POST", path: "/sessions", role: RoleOperate, summary: "Place a call in the name of a profile",
		status: http.StatusCreated, body: sessionStart{}, errors: []int{http.StatusUnprocessableEntity, http.StatusTooManyRequests},
	}, s.startSession)
	register(s, api, route{method: "GET", path: "/sessions/{id}", role: RoleRead, summary: "Show a session"}, s.showSession(node.Session, ""))
	register(s, api, route{method: "DELETE", path: "/sessions/{id}", role: RoleOperate, summary: "Hang up; again changes nothing"}, s.showSession(node.EndSession, "end"))
	register(s, api, route{method: "GET", path: "/sessions/{id}/history", role: RoleRead, summary: "Events of a session, newest first"}, s.sessionHistory)
	register(s, api, route{
		method: "POST", path: "/sessions/{id}/reinvite", role: RoleOperate, body: sessionReinvite{}, errors: conflict,
		summary: "Change a session with another INVITE, and wait for its answer",
	}, s.send(declare.ReinviteJSON))
	register(s, api, route{
		method: "POST", path: "/sessions/{id}/requests", role: RoleOperate, body: sessionSend{}, errors: conflict,
		summary: "Make another request inside a session, and wait for its answer",
	}, s.send(declare.InDialogJSON))
	register(s, api, route{
		method: "GET", path: "/events", role: RoleRead, summary: "What happens to profiles and sessions, as server-sent events",
		streams: "text/event-stream", item: actors.Change{}, errors: []int{http.StatusNotFound},
	}, s.events)
}

func (s *Server) listSessions(ctx context.Context, in *sessionListInput) (*sessionPageOutput, error) {
	page, err := s.options.Node.Sessions(ctx, actors.SessionQuery{
		Profile: in.Profile, Registrar: in.Registrar, State: in.State, After: in.After, Limit: in.Limit,
	})
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	out := &sessionPageOutput{}
	out.Body.Sessions, out.Body.Next = page.Sessions, page.Next
	if out.Body.Sessions == nil {
		out.Body.Sessions = []actors.SessionView{}
	}
	return out, nil
}

func (s *Server) startSession(ctx context.Context, in *startInput) (*startOutput, error) {
	body, err := in.read(maxSessionBody)
	if err != nil {
		return nil, err
	}
	r, faults := declare.SessionJSON(body)
	if len(faults) > 0 {
		return nil, faultProblem(faults)
	}
	v, err := s.options.Node.StartSession(ctx, r)
	if errors.Is(err, actors.ErrNotFound) {
		// The path exists; it is the body that names nobody.
		return nil, faultProblem(declare.Faults{{Field: "profile", What: err.Error()}})
	}
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	s.log.Info("session started", "session", v.ID, "profile", v.Profile, "caller", callerOf(ctx))
	return &startOutput{Location: apiPrefix + "/sessions/" + url.PathEscape(v.ID), Body: v}, nil
}

// showSession serves what answers with one session. command is what the log
// calls a change.
func (s *Server) showSession(ask func(context.Context, string) (actors.SessionView, error), command string) func(context.Context, *sessionInput) (*sessionOutput, error) {
	return func(ctx context.Context, in *sessionInput) (*sessionOutput, error) {
		v, err := ask(ctx, in.ID)
		if err != nil {
			return nil, s.nodeProblem(err)
		}
		if command != "" {
			s.log.Info("session commanded", "command", command, "session", v.ID, "profile", v.Profile, "caller", callerOf(ctx))
		}
		return &sessionOutput{Body: v}, nil
	}
}

func (s *Server) sessionHistory(ctx context.Context, in *historyInput) (*historyOutput, error) {
	events, err := s.options.Node.SessionHistory(ctx, in.ID, in.Before, in.Limit)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	return historyPage(events, in.Limit), nil
}

// send serves the requests inside a session: a SIP response is an answer,
// whatever its status.
func (s *Server) send(read func([]byte) (actors.InDialog, declare.Faults)) func(context.Context, *sendInput) (*sendOutput, error) {
	return func(ctx context.Context, in *sendInput) (*sendOutput, error) {
		body, err := in.read(maxSessionBody)
		if err != nil {
			return nil, err
		}
		r, faults := read(body)
		if len(faults) > 0 {
			return nil, faultProblem(faults)
		}
		result, err := s.options.Node.SendInSession(ctx, in.ID, r)
		if err != nil {
			return nil, s.nodeProblem(err)
		}
		s.log.Info("request made in session", "session", in.ID, "method", r.Method, "status", result.Status, "reason", result.Reason, "caller", callerOf(ctx))
		out := &sendOutput{Body: sessionAnswer{
			Status: result.Status, Phrase: result.Phrase, Reason: result.Reason, ContentType: result.ContentType,
		}}
		if utf8.Valid(result.Body) {
			out.Body.Body = string(result.Body)
		} else {
			out.Body.BodyBase64 = base64.StdEncoding.EncodeToString(result.Body)
		}
		return out, nil
	}
}
