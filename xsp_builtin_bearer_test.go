package muster_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/bearer"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// oauthSecret is the client's secret, with characters that HTTP Basic needs
// encoded (RFC 6749 §2.3.1).
const oauthSecret = "canary-of-the-client/4b1e%"

// oauthServer is an authorization server and the registrar that believes its
// tokens. A refresh token is good once and is replaced (RFC 6749 §6).
type oauthServer struct {
	*httptest.Server

	mu sync.Mutex
	// access has the owner of each valid access token, "" for all profiles.
	access map[string]string
	// refresh has the owner of each valid refresh token.
	refresh map[string]string
	// seen are all tokens that there ever were.
	seen map[string]string
	// asked counts the token requests by owner.
	asked map[string]int
	down  bool
	// log is what the registrar made of the requests of each user.
	log map[string][]string
	// elsewhere is named as the authorization server to the user "lured".
	elsewhere string
}

func newOAuthServer(t *testing.T, owners ...string) *oauthServer {
	t.Helper()
	s := &oauthServer{
		access: map[string]string{}, refresh: map[string]string{}, seen: map[string]string{},
		asked: map[string]int{}, log: map[string][]string{},
	}
	for _, owner := range owners {
		s.issue(s.refresh, "refresh", owner)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "token_endpoint": s.URL + "/token"})
	})
	mux.HandleFunc("POST /token", s.token)
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are cut
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// issue makes a token.
func (s *oauthServer) issue(valid map[string]string, kind, owner string) string {
	token := fmt.Sprintf("canary-%s-%s-%d-e07c", kind, owner, len(s.seen))
	valid[token] = owner
	s.seen[fmt.Sprintf("%s token %d", kind, len(s.seen))] = token
	return token
}

// token is the token endpoint.
func (s *oauthServer) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	refuse := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code})
	}
	id, secret, _ := r.BasicAuth()
	if secret, err := url.QueryUnescape(secret); err != nil || id != "muster" || secret != oauthSecret {
		refuse(http.StatusUnauthorized, "invalid_client")
		return
	}
	out := map[string]any{"token_type": "Bearer", "expires_in": 3600}
	owner := ""
	if r.PostFormValue("grant_type") == bearer.RefreshToken {
		old := r.PostFormValue("refresh_token")
		var valid bool
		if owner, valid = s.refresh[old]; !valid {
			s.asked["refused"]++
			refuse(http.StatusBadRequest, "invalid_grant")
			return
		}
		delete(s.refresh, old)
		out["refresh_token"] = s.issue(s.refresh, "refresh", owner)
	}
	s.asked[owner]++
	if r.PostFormValue("scope") == "sip.register" {
		out["access_token"] = s.issue(s.access, "access", owner)
	} else {
		out["access_token"] = s.issue(map[string]string{}, "access", owner) // good for nothing here
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// behave is the registrar's script (RFC 8898 §2.1.1).
func (s *oauthServer) behave(req *siptest.Request) *siptest.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	user := userOf(req.AOR)
	server := s.URL
	if user == "lured" {
		server = s.elsewhere
	}
	challenge := fmt.Sprintf(`Bearer realm="example.test", scope="sip.register", authz_server=%q`, server)
	token, carried := strings.CutPrefix(authorization(req), "Bearer ")
	owner, valid := s.access[token]
	switch {
	case !carried:
		s.log[user] = append(s.log[user], "challenged")
		return unauthorized(challenge)
	case !valid || owner != "" && owner != user:
		s.log[user] = append(s.log[user], "invalid")
		return unauthorized(challenge + `, error="invalid_token"`)
	}
	s.log[user] = append(s.log[user], "ok")
	return nil
}

// revoke makes the access tokens of an owner worthless.
func (s *oauthServer) revoke(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.access, func(_, of string) bool { return of == owner })
}

func (s *oauthServer) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// want compares what the registrar saw of a user, and how many tokens their
// owner got.
func (s *oauthServer) want(t *testing.T, user, owner, log string, tokens int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.log[user], " "); got != log {
		t.Errorf("%s: the registrar saw %q, want %q", user, got, log)
	}
	if s.asked[owner] != tokens {
		t.Errorf("%s: %d tokens were requested, want %d", user, s.asked[owner], tokens)
	}
}

// oauthOptions configure a node with both grants: "machine" finds the token
// endpoint by the server's metadata, "people" is told.
func oauthOptions(t *testing.T, s *oauthServer, r *siptest.Registrar, first map[string]messages.Secret, data string, log *logbook) muster.Options {
	t.Helper()
	o := bearer.Options{
		TrustedServers: []string{s.URL}, Grant: bearer.ClientCredentials, ClientID: "muster", ClientSecret: messages.NewSecret(oauthSecret),
		RootCAs: x509.NewCertPool(), AllowCleartext: true, Logger: log.logger(),
	}
	o.RootCAs.AddCert(s.Certificate())
	machine, err := bearer.New(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Grant, o.TokenURL, o.RefreshTokens = bearer.RefreshToken, s.URL+"/token", first
	people, err := bearer.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return muster.Options{DataDir: data, Logger: log.logger(), Desired: muster.Desired{
		XSPs:       []actors.XSP{{Name: "machine", Authenticator: machine}, {Name: "people", Authenticator: people}},
		Registrars: []actors.Registrar{target(r)},
		Profiles:   append(handledBy("machine", "m0", "m1", "lured"), handledBy("people", "alice", "bob", "carol")...),
	}}
}

// TestXSPBearerAgainstAnOAuthServer lives through what can happen to a token:
// it serves many registrations, runs out, is refused and cannot be had for a
// while. An authorization server that is not configured is left alone (BEA-01),
// a token that ran out is replaced once (BEA-04), and replaced refresh tokens
// outlive a restart.
func TestXSPBearerAgainstAnOAuthServer(t *testing.T) {
	t.Parallel()
	s := newOAuthServer(t, "alice", "bob")
	first := map[string]messages.Secret{"carol": messages.NewSecret("canary-that-nobody-issued")}
	for token, owner := range s.refresh {
		first[owner] = messages.NewSecret(token)
	}
	stranger := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("BEA-01: an authorization server that is not trusted was contacted")
	}))
	t.Cleanup(stranger.Close)
	s.elsewhere = stranger.URL
	registrar := newRegistrar(t, siptest.Options{Behaviour: s.behave})
	var log logbook
	data := t.TempDir() + "/data"
	options := oauthOptions(t, s, registrar, first, data, &log)
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, "m0", "m1", "alice", "bob")
	waitState(t, node, actors.StateRejected, "carol", "lured")
	s.want(t, "carol", "refused", "challenged", 1)
	if text := story(t, node, "carol"); !strings.Contains(text, "refresh token refused") {
		t.Errorf("the history of carol does not tell why:\n%s", text)
	}
	s.want(t, "lured", "lured", "challenged", 0)

	// A refresh carries the token at once.
	for _, id := range []string{"m0", "m1", "alice", "bob"} {
		reregister(t, node, id)
	}
	s.want(t, "m0", "", "challenged ok ok", 1) // one token for both
	s.want(t, "m1", "", "challenged ok ok", 1)
	s.want(t, "alice", "alice", "challenged ok ok", 1)

	// A token that is no longer valid is replaced, once, whether it was sent
	// with the first request or as the answer to a challenge.
	s.revoke("alice")
	reregister(t, node, "alice")
	s.want(t, "alice", "alice", "challenged ok ok invalid ok", 2)
	s.revoke("")
	if _, err := node.AddProfile(t.Context(), handledBy("machine", "m2")[0]); err != nil {
		t.Fatal(err)
	}
	waitState(t, node, actors.StateRegistered, "m2")
	s.want(t, "m2", "", "challenged invalid ok", 2)

	// Without an authorization server nothing is lost but time.
	s.revoke("bob")
	s.setDown(true)
	if _, err := node.RefreshProfile(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bob gets no token", func() bool { return strings.Contains(story(t, node, "bob"), "failed: the handler did not answer") })
	s.want(t, "bob", "bob", "challenged ok ok invalid", 1)
	// The journal knows a moment before the view does.
	eventually(t, "bob waits for the next attempt", func() bool { return view(t, node, "bob").NextAttemptAt != nil })
	v := view(t, node, "bob")
	if len(registrar.Bindings(aorOf("bob"))) != 1 || v.State != actors.StateRegistered || v.ExpiresAt == nil || v.NextAttemptAt == nil {
		t.Errorf("bob has %d bindings and is shown as %+v; want the binding to stay and a next attempt", len(registrar.Bindings(aorOf("bob"))), v)
	}
	s.setDown(false)
	reregister(t, node, "bob")
	s.want(t, "bob", "bob", "challenged ok ok invalid challenged ok", 2)

	// The refresh tokens of the file have been used up; the node knows better.
	listen, shown := node.SIPAddrs(), map[string][]byte{"metrics": []byte(metricsOf(node))}
	for _, id := range []string{"m0", "alice", "bob", "carol", "lured"} {
		shown["history"] = append(shown["history"], story(t, node, id)...)
	}
	stopNode(t, node)
	options = oauthOptions(t, s, registrar, first, data, &log)
	options.SIP.Listen = listen
	node = startNode(t, options)
	s.revoke("alice")
	reregister(t, node, "alice")
	s.want(t, "alice", "alice", "challenged ok ok invalid ok ok", 3)
	stopNode(t, node)

	shown["log"] = log.bytes()
	s.seen["secret"], s.seen["bad refresh token"] = oauthSecret, first["carol"].Reveal()
	wantNowhere(t, data, shown, s.seen)
	wantInvariants(t, registrar)
}
