package admin

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// probes are the routes that answer without a token, and even when the server
// is busy.
var probes = map[string]bool{"GET /-/healthy": true, "GET /-/ready": true}

// Two GETs cost more than the others, so that a foreign page must not be able
// to trigger them with an <img>: one sends something, a REGISTER without
// Contact, and one stays open.
const (
	bindingsRoute = "GET " + apiPrefix + "/profiles/{id}/bindings"
	eventsRoute   = "GET " + apiPrefix + "/events"
)

// callerKey is the context key of the caller's name.
type callerKey struct{}

// callerOf names who sent the request, for log lines.
func callerOf(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// ServeHTTP takes every request through the same gates, in this order: the
// host, the origin, the caller and its role, the route, a free slot, the time.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &response{ResponseWriter: w}
	started := time.Now()
	caller := "anonymous"
	_, pattern := s.mux.Handler(r)
	defer func() {
		s.recovered(out, recover(), pattern)
		s.log.Debug("request", "method", r.Method, "route", pattern, "status", out.status,
			"caller", caller, "remote", r.RemoteAddr, "duration", time.Since(started))
	}()
	h := out.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	if !s.hostAllowed(r.Host) {
		writeProblem(out, http.StatusMisdirectedRequest, "the Host header names another machine; without tokens only localhost is served")
		return
	}
	if err := s.crossOrigin(r, pattern); err != nil {
		writeProblem(out, http.StatusForbidden, "a web page of another origin may not do this")
		return
	}
	if probes[pattern] {
		s.mux.ServeHTTP(out, r)
		return
	}
	name, ok := s.authorize(out, r, pattern)
	if !ok {
		return
	}
	caller = name
	if pattern == "" || r.RequestURI == "*" {
		s.noRoute(out, r)
		return
	}
	slots := s.slots
	if pattern == eventsRoute {
		slots = s.watchers
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		h.Set("Retry-After", "1")
		writeProblem(out, http.StatusServiceUnavailable, "the node is answering as many requests of this kind as it may; try again")
		return
	}
	ctx, cancel := begin(context.WithValue(r.Context(), callerKey{}, caller), w, timeLimit(pattern))
	defer cancel()
	s.mux.ServeHTTP(out, r.WithContext(ctx))
}

// begin gives an answer its time; without a limit its stream does that, piece by
// piece.
func begin(ctx context.Context, w http.ResponseWriter, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	// The error is that of a connection without deadlines, as in tests.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + writeGrace))
	return context.WithTimeout(ctx, limit)
}

// timeLimit is how long a request of a route may take; 0 is without end.
// Streams set their own write deadlines; their limit only ends the node's part.
func timeLimit(pattern string) time.Duration {
	switch pattern {
	case eventsRoute:
		return 0
	case bindingsRoute:
		return fetchTimeout
	case "POST " + apiPrefix + "/sessions/{id}/reinvite", "POST " + apiPrefix + "/sessions/{id}/requests":
		return inDialogTimeout
	case "POST " + apiPrefix + "/profiles/import", "POST /-/reload":
		return importTimeout
	case "GET " + apiPrefix + "/profiles/export", "GET /-/backup":
		return time.Hour
	}
	return requestTimeout
}

// hostAllowed stops DNS rebinding: a page whose name was pointed at 127.0.0.1
// sends its own name as Host. With tokens the page has none, so any Host will
// do. HTTP/1.0 probes send no Host; browsers always do.
func (s *Server) hostAllowed(host string) bool {
	if !s.loopback || len(*s.tokens.Load()) > 0 || host == "" {
		return true
	}
	return IsLoopback(host)
}

// crossOrigin refuses what a page of another origin sends.
func (s *Server) crossOrigin(r *http.Request, pattern string) error {
	if pattern == bindingsRoute || pattern == eventsRoute {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
		default:
			return errors.New("cross-origin")
		}
	}
	return s.origins.Check(r)
}

// authorize finds the caller and compares its role with the route's. It
// answers itself when it returns false.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, pattern string) (string, bool) {
	caller, known := s.presented(r)
	if !known {
		s.log.Warn("refused a caller without a valid token", "method", r.Method, "route", pattern, "remote", r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", `Bearer realm="muster"`)
		writeProblem(w, http.StatusUnauthorized, "a valid bearer token is needed")
		return "", false
	}
	if need := s.needs(pattern); caller.Role < need {
		s.log.Warn("refused a caller without the role", "method", r.Method, "route", pattern, "caller", caller.Name, "role", need.String())
		writeProblem(w, http.StatusForbidden, "this needs the role "+need.String()+", and "+caller.Name+" has the role "+caller.Role.String())
		return "", false
	}
	return caller.Name, true
}

// presented finds the caller whose token a request carries.
func (s *Server) presented(r *http.Request) (Token, bool) {
	tokens := *s.tokens.Load()
	if len(tokens) == 0 {
		return Token{Name: "local", Role: RoleAdmin}, true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	caller, known := tokens.find(strings.TrimSpace(token))
	return caller, known && strings.EqualFold(scheme, "Bearer")
}

// needs is the role for a route. A path that does not exist is told to
// everybody who may read.
func (s *Server) needs(pattern string) Role {
	if pattern == "" {
		return RoleRead
	}
	if role, given := s.roles[pattern]; given {
		return role
	}
	return RoleAdmin
}

// noRoute answers for a path or method that is not served.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI == "*" {
		writeProblem(w, http.StatusBadRequest, "a path is needed")
		return
	}
	probe := &response{ResponseWriter: &discard{header: http.Header{}}}
	handler, _ := s.mux.Handler(r)
	handler.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allowed := probe.Header().Get("Allow")
		w.Header().Set("Allow", allowed)
		writeProblem(w, http.StatusMethodNotAllowed, "this path answers "+allowed)
		return
	}
	writeProblem(w, http.StatusNotFound, "there is no such path; /openapi.json lists all of them")
}

// recovered turns a panic of a handler into a 500. One request failing is not
// a reason to stop registering.
func (s *Server) recovered(w *response, panicked any, pattern string) {
	if panicked == nil {
		return
	}
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(panicked)
	}
	s.log.Error("a request panicked", "route", pattern, "panic", panicked, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // cut off what was begun
	}
	writeProblem(w, http.StatusInternalServerError, "the node failed to answer; its log says why")
}

// response remembers the status.
type response struct {
	http.ResponseWriter
	status int
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discard is a response that goes nowhere.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// stream is the body of a long answer: every piece gets its own deadline.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, control: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	err := s.control.SetWriteDeadline(time.Now().Add(writeGrace))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return s.w.Write(b)
}
