package admin

import (
	"context"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// declaration documents the body of POST /profiles. Package declare reads it; a
// test compares the names.
type declaration struct {
	ID                  string `json:"id,omitempty" doc:"defaults to the AOR" example:"alice"`
	AOR                 string `json:"aor" example:"sip:alice@example.test"`
	Registrar           string `json:"registrar" doc:"a name of the configuration" example:"acme"`
	Username            string `json:"username,omitempty" doc:"for the digest, defaults to the user part of the AOR"`
	Password            string `json:"password,omitempty" writeOnly:"true" format:"password" doc:"give it or ha1, not both"`
	HA1                 string `json:"ha1,omitempty" writeOnly:"true" format:"password" pattern:"^([0-9A-Fa-f]{32}|[0-9A-Fa-f]{64})$" doc:"hex of H(user:realm:password)"`
	ContactUser         string `json:"contact_user,omitempty" doc:"defaults to the user part of the AOR"`
	Expires             any    `json:"expires,omitempty" doc:"seconds, or a duration such as \"1h\"; defaults to the registrar's"`
	RegistrationHandler string `json:"registration_handler,omitempty" doc:"who answers challenges to REGISTER: digest, an xSP, or a chain of them; defaults to the registrar's" example:"token-service>digest"`
	SessionHandler      string `json:"session_handler,omitempty" doc:"who answers challenges in sessions; defaults to the registrar's"`
	Register            bool   `json:"register,omitempty" doc:"false for a profile that only places and takes sessions" default:"true"`
	Enabled             bool   `json:"enabled,omitempty" default:"true"`
}

// declarationPatch documents the body of PATCH /profiles/{id}.
type declarationPatch struct {
	AOR                 string `json:"aor,omitempty"`
	Registrar           string `json:"registrar,omitempty"`
	Username            string `json:"username,omitempty"`
	Password            string `json:"password,omitempty" writeOnly:"true" format:"password" doc:"removes the HA1"`
	HA1                 string `json:"ha1,omitempty" writeOnly:"true" format:"password" doc:"removes the password"`
	ContactUser         string `json:"contact_user,omitempty"`
	Expires             any    `json:"expires,omitempty" doc:"seconds or a duration; 0 for the registrar's"`
	RegistrationHandler string `json:"registration_handler,omitempty" doc:"empty for the registrar's"`
	SessionHandler      string `json:"session_handler,omitempty" doc:"empty for the registrar's"`
	Register            bool   `json:"register,omitempty"`
	Enabled             bool   `json:"enabled,omitempty"`
}

// security is who answers the challenges to a profile.
type security struct {
	RegistrationHandler string `json:"registration_handler" doc:"for REGISTER"`
	SessionHandler      string `json:"session_handler" doc:"for requests of sessions"`
}

// securityChange documents the body of PUT /profiles/{id}/security.
type securityChange struct {
	RegistrationHandler string `json:"registration_handler,omitempty" doc:"for REGISTER: digest, an xSP, or a chain of them; empty for the registrar's" example:"token-service>digest"`
	SessionHandler      string `json:"session_handler,omitempty" doc:"for requests of sessions; empty for the registrar's"`
}

// binding is one contact that the registrar holds.
type binding struct {
	URI     string `json:"uri"`
	Expires uint32 `json:"expires" doc:"seconds left"`
}

// Inputs and outputs of the handlers. Huma reads parameters by these tags, but
// not those of embedded structs, so some are repeated.
type (
	idInput struct {
		ID string `path:"id" doc:"id of the profile, escaped"`
	}
	addInput   struct{ bodyInput }
	patchInput struct {
		ID string `path:"id"`
		bodyInput
	}
	listInput struct {
		State     string `query:"state" enum:"registered,registering,challenged,backoff,rejected,disabled,unregistered"`
		Registrar string `query:"registrar"`
		Q         string `query:"q" doc:"part of the id or the AOR"`
		Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
		After     string `query:"after" doc:"next of the page before"`
	}
	historyInput struct {
		ID     string `path:"id"`
		Before uint64 `query:"before" doc:"only events older than this version; next of the page before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}

	profileOutput struct{ Body actors.ProfileView }
	addOutput     struct {
		Location string `header:"Location"`
		Body     actors.ProfileView
	}
	pageOutput struct {
		Body struct {
			Profiles []actors.ProfileView `json:"profiles"`
			Next     string               `json:"next,omitempty" doc:"after of the next page, absent on the last"`
		}
	}
	historyOutput struct {
		Body struct {
			Events []actors.HistoryEntry `json:"events" doc:"newest first"`
			Next   uint64                `json:"next,omitempty" doc:"before of the next page, absent when there may be none"`
		}
	}
	bindingsOutput struct {
		Body struct {
			Bindings []binding `json:"bindings"`
		}
	}
	securityOutput struct{ Body security }
	noOutput       struct{}
)

func (s *Server) profileRoutes(api huma.API) {
	node := s.options.Node
	register(s, api, route{method: "GET", path: "/profiles", role: RoleRead, summary: "List profiles"}, s.listProfiles)
	register(s, api, route{method: "POST", path: "/profiles", role: RoleAdmin, summary: "Add a profile", status: http.StatusCreated, body: declaration{}}, s.addProfile)
	register(s, api, route{method: "GET", path: "/profiles/{id}", role: RoleRead, summary: "Show a profile"}, s.view(node.Profile, ""))
	register(s, api, route{method: "PATCH", path: "/profiles/{id}", role: RoleAdmin, summary: "Change some fields of a profile", body: declarationPatch{}}, s.changeProfile)
	register(s, api, route{method: "DELETE", path: "/profiles/{id}", role: RoleAdmin, summary: "Remove a profile and its binding", status: http.StatusNoContent}, s.removeProfile)
	register(s, api, route{method: "POST", path: "/profiles/{id}/enable", role: RoleOperate, summary: "Register a profile again"}, s.view(node.EnableProfile, "enable"))
	register(s, api, route{method: "POST", path: "/profiles/{id}/disable", role: RoleOperate, summary: "Remove a profile's binding and leave it alone"}, s.view(node.DisableProfile, "disable"))
	register(s, api, route{method: "POST", path: "/profiles/{id}/refresh", role: RoleOperate, summary: "Send a REGISTER soon, whatever the timers say"}, s.view(node.RefreshProfile, "refresh"))
	register(s, api, route{method: "GET", path: "/profiles/{id}/history", role: RoleRead, summary: "Events of a profile, newest first"}, s.history)
	register(s, api, route{method: "GET", path: "/profiles/{id}/bindings", role: RoleOperate, summary: "Ask the registrar which contacts it holds"}, s.bindings)
	register(s, api, route{method: "GET", path: "/profiles/{id}/security", role: RoleRead, summary: "Who answers the challenges"}, s.showSecurity)
	register(s, api, route{method: "PUT", path: "/profiles/{id}/security", role: RoleAdmin, summary: "Choose who answers the challenges, from the next attempt on", body: securityChange{}}, s.changeSecurity)
}

// view serves everything that answers with one profile. command is what
// the log calls a change.
func (s *Server) view(ask func(context.Context, string) (actors.ProfileView, error), command string) func(context.Context, *idInput) (*profileOutput, error) {
	return func(ctx context.Context, in *idInput) (*profileOutput, error) {
		v, err := ask(ctx, in.ID)
		if err != nil {
			return nil, s.nodeProblem(err)
		}
		if command != "" {
			s.log.Info("profile commanded", "command", command, "profile", v.ID, "caller", callerOf(ctx))
		}
		return &profileOutput{Body: v}, nil
	}
}

func (s *Server) listProfiles(ctx context.Context, in *listInput) (*pageOutput, error) {
	q := actors.Query{State: in.State, Registrar: in.Registrar, Text: in.Q, After: in.After, Limit: in.Limit}
	page, err := s.options.Node.Profiles(ctx, q)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	out := &pageOutput{}
	out.Body.Profiles, out.Body.Next = page.Profiles, page.Next
	if out.Body.Profiles == nil {
		out.Body.Profiles = []actors.ProfileView{}
	}
	return out, nil
}

func (s *Server) addProfile(ctx context.Context, in *addInput) (*addOutput, error) {
	body, err := in.read(maxBody)
	if err != nil {
		return nil, err
	}
	d, faults := declare.JSON(body)
	if len(faults) > 0 {
		return nil, faultProblem(faults)
	}
	v, err := s.options.Node.AddProfile(ctx, d)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	s.log.Info("profile added", "profile", v.ID, "caller", callerOf(ctx))
	return &addOutput{Location: apiPrefix + "/profiles/" + url.PathEscape(v.ID), Body: v}, nil
}

func (s *Server) changeProfile(ctx context.Context, in *patchInput) (*profileOutput, error) {
	body, err := in.read(maxBody)
	if err != nil {
		return nil, err
	}
	p, faults := declare.PatchJSON(body)
	if len(faults) > 0 {
		return nil, faultProblem(faults)
	}
	v, err := s.options.Node.ChangeProfile(ctx, in.ID, p)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	s.log.Info("profile changed", "profile", v.ID, "caller", callerOf(ctx))
	return &profileOutput{Body: v}, nil
}

func (s *Server) removeProfile(ctx context.Context, in *idInput) (*noOutput, error) {
	if err := s.options.Node.RemoveProfile(ctx, in.ID); err != nil {
		return nil, s.nodeProblem(err)
	}
	s.log.Info("profile removed", "profile", in.ID, "caller", callerOf(ctx))
	return &noOutput{}, nil
}

func (s *Server) history(ctx context.Context, in *historyInput) (*historyOutput, error) {
	events, err := s.options.Node.History(ctx, in.ID, in.Before, in.Limit)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	return historyPage(events, in.Limit), nil
}

func historyPage(events []actors.HistoryEntry, limit int) *historyOutput {
	out := &historyOutput{}
	out.Body.Events = events
	if events == nil {
		out.Body.Events = []actors.HistoryEntry{}
	}
	if len(events) >= limit {
		if oldest := events[len(events)-1].Version; oldest > 1 {
			out.Body.Next = oldest
		}
	}
	return out
}

func (s *Server) bindings(ctx context.Context, in *idInput) (*bindingsOutput, error) {
	found, err := s.options.Node.FetchBindings(ctx, in.ID)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	out := &bindingsOutput{}
	out.Body.Bindings = make([]binding, len(found))
	for i, b := range found {
		out.Body.Bindings[i] = binding(b)
	}
	return out, nil
}

func toSecurity(v actors.ProfileView) *securityOutput {
	return &securityOutput{Body: security{RegistrationHandler: v.RegistrationHandler, SessionHandler: v.SessionHandler}}
}

func (s *Server) showSecurity(ctx context.Context, in *idInput) (*securityOutput, error) {
	v, err := s.options.Node.Profile(ctx, in.ID)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	return toSecurity(v), nil
}

// changeSecurity sets one handler or both.
func (s *Server) changeSecurity(ctx context.Context, in *patchInput) (*securityOutput, error) {
	body, err := in.read(maxBody)
	if err != nil {
		return nil, err
	}
	registration, session, faults := declare.SecurityJSON(body)
	if len(faults) > 0 {
		return nil, faultProblem(faults)
	}
	v, err := s.options.Node.SetSecurity(ctx, in.ID, registration, session)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	s.log.Info("profile's handlers changed", "profile", v.ID, "caller", callerOf(ctx),
		"registration_handler", v.RegistrationHandler, "session_handler", v.SessionHandler)
	return toSecurity(v), nil
}
