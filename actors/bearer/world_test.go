package bearer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// canary stands in every secret of these tests, and nowhere else.
const canary = "canary7f3a9"

// authServer is an OAuth 2.0 authorization server with TLS: metadata, client
// credentials, and refresh tokens that are replaced at each use.
type authServer struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	requests []url.Values // of the token endpoint
	paths    []string     // of everything else
	serial   int
	refresh  map[string]string // profile by its valid refresh token
	life     any               // expires_in
	// answer takes over the token endpoint, unless it returns false.
	answer func(w http.ResponseWriter, r *http.Request) bool
	// wellKnown takes over the rest.
	wellKnown http.HandlerFunc
	arrived   chan struct{} // gets one value per token request, when it has room
}

func newAuthServer(t *testing.T) *authServer {
	t.Helper()
	s := &authServer{t: t, life: 3600, refresh: make(map[string]string), arrived: make(chan struct{}, 1000)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("/", s.metadata)
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *authServer) metadata(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.paths = append(s.paths, r.URL.Path)
	handler := s.wellKnown
	s.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	if r.URL.Path != "/.well-known/oauth-authorization-server" {
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "token_endpoint": s.URL + "/token"})
}

func (s *authServer) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	s.requests = append(s.requests, maps.Clone(r.PostForm))
	answer := s.answer
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	if answer != nil && answer(w, r) {
		return
	}
	id, secret, _ := r.BasicAuth()
	if id == "" {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if id != "muster" || secret != canary+"/secret%" && secret != url.QueryEscape(canary+"/secret%") {
		refuse(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	out := map[string]any{"access_token": fmt.Sprintf("%s.access%d", canary, s.serial), "token_type": "Bearer", "expires_in": s.life}
	if r.PostForm.Get("grant_type") == "refresh_token" {
		old := r.PostForm.Get("refresh_token")
		profile, ok := s.refresh[old]
		if !ok {
			refuse(w, http.StatusBadRequest, "invalid_grant")
			return
		}
		delete(s.refresh, old)
		next := fmt.Sprintf("%s.refresh.%s.%d", canary, profile, s.serial)
		s.refresh[next] = profile
		out["refresh_token"] = next
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// refuse is an error as RFC 6749 §5.2 has it, with a description as careless
// as they come.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": code, "error_description": "you sent " + canary})
}

func (s *authServer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func (s *authServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *authServer) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// clock is a time that stands still until it is told.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// memory is a vault for a test. A set fails makes Put fail.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	fails  error
}

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key], m.fails
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	if m.values == nil {
		m.values = make(map[string][]byte)
	}
	m.values[key] = bytes.Clone(value)
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = err
}

// world is a provider, its authorization server and what was seen of both.
type world struct {
	*Provider
	t     *testing.T
	as    *authServer
	clock *clock
	vault *memory
	log   *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func options(as *authServer) Options {
	return Options{
		TrustedServers: []string{as.URL}, Grant: ClientCredentials,
		ClientID: "muster", ClientSecret: messages.NewSecret(canary + "/secret%"),
		RootCAs: as.roots(), AllowCleartext: true,
	}
}

func newWorld(t *testing.T, change func(o *Options)) *world {
	t.Helper()
	w := &world{t: t, as: newAuthServer(t), clock: &clock{at: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}, vault: &memory{}, log: &lockedBuffer{}}
	w.start(change)
	return w
}

// start makes a provider, as after a restart.
func (w *world) start(change func(o *Options)) {
	w.t.Helper()
	o := options(w.as)
	o.Now = w.clock.now
	o.Logger = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.Keep(w.vault); err != nil {
		w.t.Fatal(err)
	}
	w.Provider = p
	w.t.Cleanup(func() { _ = p.Close() })
	w.t.Cleanup(func() { // I7, in every test
		if strings.Contains(w.log.String(), canary) {
			w.t.Errorf("a secret is in the log:\n%s", w.log)
		}
	})
}

// withRefreshTokens gives alice a refresh token that the server knows.
func withRefreshTokens(o *Options) {
	o.Grant = RefreshToken
	o.RefreshTokens = map[string]messages.Secret{"alice": messages.NewSecret(canary + ".first")}
}

// challenge is a Bearer challenge of a registrar.
func (w *world) challenge(params ...string) *messages.Challenge {
	c := &messages.Challenge{Space: messages.Space_ORIGIN, Scheme: "Bearer", Realm: "a", Params: map[string]string{"realm": "a"}}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		c.Params[name] = value
	}
	return c
}

func question(profile string, challenges ...*messages.Challenge) *messages.AuthChallenge {
	q := &messages.AuthChallenge{Ref: "r1", ProfileId: profile, Method: "REGISTER", RequestUri: "sip:a", StatusCode: 401, Round: 1, Challenges: challenges}
	for i, c := range challenges {
		c.Index = uint32(i)
	}
	return q
}

func rejectedQuestion(profile string, challenges ...*messages.Challenge) *messages.AuthChallenge {
	q := question(profile, challenges...)
	q.Rejected, q.Round = true, 2
	return q
}

func earlyQuestion(profile string, challenges ...*messages.Challenge) *messages.AuthChallenge {
	q := question(profile, challenges...)
	q.StatusCode = 0
	return q
}

// ask returns the token of the answer without what all tokens begin with.
func (w *world) ask(q *messages.AuthChallenge) string {
	w.t.Helper()
	a, err := w.Answer(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(a.GetMutations()) == 0 || a.GetRef() != q.GetRef() || !a.GetPreemptive() {
		w.t.Fatalf("answer with ref %q, preemptive %t, %d mutations", a.GetRef(), a.GetPreemptive(), len(a.GetMutations()))
	}
	return strings.TrimPrefix(a.GetMutations()[0].GetValue(), "Bearer "+canary+".")
}

// refused returns the refusal, and fails when there is none.
func (w *world) refused(q *messages.AuthChallenge) xsp.Refusal {
	w.t.Helper()
	_, err := w.Answer(w.t.Context(), q)
	var refusal *xsp.Refusal
	if !errors.As(err, &refusal) {
		w.t.Fatalf("got %v, want a refusal", err)
	}
	w.clean(err)
	return *refusal
}

// failed returns the text of an error that is no refusal.
func (w *world) failed(q *messages.AuthChallenge) string {
	w.t.Helper()
	_, err := w.Answer(w.t.Context(), q)
	var refusal *xsp.Refusal
	if err == nil || errors.As(err, &refusal) {
		w.t.Fatalf("got %v, want an error", err)
	}
	w.clean(err)
	return err.Error()
}

// clean: I7.
func (w *world) clean(err error) {
	w.t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, canary) {
			w.t.Errorf("a secret is in the error: %s", text)
		}
	}
}

// pending waits until no token request is out.
func (w *world) pending() {
	w.t.Helper()
	for {
		w.mu.Lock()
		var out *request
		for _, e := range w.entries {
			if e.pending != nil {
				out = e.pending
			}
		}
		w.mu.Unlock()
		if out == nil {
			return
		}
		<-out.done
	}
}
