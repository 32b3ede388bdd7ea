package bearer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// reply makes the token endpoint answer with a status, a header and a body.
func reply(w *world, status int, body string, header ...string) {
	w.as.set(func() {
		w.as.answer = func(out http.ResponseWriter, _ *http.Request) bool {
			out.Header().Set("Content-Type", "application/json")
			for i := 0; i < len(header); i += 2 {
				out.Header().Set(header[i], header[i+1])
			}
			out.WriteHeader(status)
			_, _ = io.WriteString(out, body)
			return true
		}
	})
}

// TestAnswersOfTheTokenEndpoint: every answer has a harmless meaning. world
// checks that neither the error nor the log repeats it.
func TestAnswersOfTheTokenEndpoint(t *testing.T) {
	granted := func(token, kind string) string {
		return fmt.Sprintf(`{"access_token":%q,"token_type":%q,"expires_in":60}`, token, kind)
	}
	problem := func(code string) string {
		return fmt.Sprintf(`{"error":%q,"error_description":%q}`, code, canary)
	}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		header []string
		refuse string // the reason of a refusal
		fail   string // or the text of an error
	}{
		{name: "refused", status: 400, body: problem("invalid_grant"), refuse: "token endpoint: grant refused"},
		{name: "refused with 200", status: 200, body: problem("invalid_grant"), refuse: "token endpoint: grant refused"},
		{name: "scope", status: 400, body: problem("invalid_scope"), refuse: "token endpoint: scope refused"},
		{name: "client", status: 401, body: problem("invalid_client"), fail: "token endpoint: invalid_client"},
		{name: "unknown code", status: 400, body: problem(canary), fail: "token endpoint: status 400"},
		{name: "an error that looks like a refusal", status: 500, body: problem("invalid_grant"), fail: "token endpoint: status 500"},
		{name: "not found", status: 404, body: "<html>" + canary, fail: "token endpoint: status 404"},
		{name: "unavailable", status: 503, body: canary, fail: "token endpoint: status 503"},
		{name: "no token", status: 200, body: `{"token_type":"Bearer"}`, fail: "token endpoint: its answer is not valid"},
		{name: "empty", status: 200, fail: "token endpoint: its answer is not valid"},
		{name: "garbage", status: 200, body: "\x00\xff" + canary, fail: "token endpoint: its answer is not valid"},
		{name: "a list", status: 200, body: `["` + canary + `"]`, fail: "token endpoint: its answer is not valid"},
		{name: "a life that is none", status: 200, body: `{"access_token":"x","expires_in":"` + canary + `"}`, fail: "token endpoint: its answer is not valid"},
		{name: "16 MiB of JSON", status: 200, body: granted(strings.Repeat("a", 16<<20), "Bearer"), fail: "token endpoint: its answer is not valid"},
		{name: "16 MiB of an error", status: 400, body: strings.Repeat(canary, 16<<20/len(canary)), fail: "token endpoint: its answer is not valid"},
		{name: "another type", status: 200, body: granted("x", "DPoP"), refuse: "the token is not a bearer token"},
		{name: "a line break", status: 200, body: granted(canary+"\r\nEvil: x", "Bearer"), refuse: "the access token has characters that a header cannot hold, or is too long"},
		{name: "a parameter", status: 200, body: granted(canary+" a", "Bearer"), refuse: "the access token has characters that a header cannot hold, or is too long"},
		{name: "a comma", status: 200, body: granted(canary+",Basic", "Bearer"), refuse: "the access token has characters that a header cannot hold, or is too long"},
		{name: "padding only", status: 200, body: granted("==", "Bearer"), refuse: "the access token has characters that a header cannot hold, or is too long"},
		{name: "padding inside", status: 200, body: granted("a=b", "Bearer"), refuse: "the access token has characters that a header cannot hold, or is too long"},
		{name: "too long for SIP", status: 200, body: granted(strings.Repeat("a", maxTokenBytes+1), "Bearer"), refuse: "the access token has characters that a header cannot hold, or is too long"},
		{name: "a redirect", status: 307, header: []string{"Location", "https://127.0.0.1:1/" + canary}, fail: "token endpoint: status 307"},
		{name: "a redirect to nowhere", status: 302, header: []string{"Location", "::" + canary}, fail: "token endpoint: its answer is not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			reply(w, tt.status, tt.body, tt.header...)
			q := question("alice", w.challenge())
			if tt.fail != "" {
				if got := w.failed(q); got != tt.fail {
					t.Errorf("got %q, want %q", got, tt.fail)
				}
			} else if r := w.refused(q); r.Reason != tt.refuse || r.RetryAfter != 0 {
				t.Errorf("got %q after %v, want %q", r.Reason, r.RetryAfter, tt.refuse)
			}
			if n := w.as.asked(); n != 1 {
				t.Errorf("%d requests", n)
			}
			// Nothing of it stays.
			w.as.set(func() { w.as.answer = nil })
			if got := w.ask(question("alice", w.challenge())); got != "access1" {
				t.Errorf("got %s afterwards", got)
			}
		})
	}
}

// TestRedirectIsNotFollowed: the secret goes to the configured endpoint only.
func TestRedirectIsNotFollowed(t *testing.T) {
	w := newWorld(t, nil)
	w.as.set(func() {
		w.as.answer = func(out http.ResponseWriter, r *http.Request) bool {
			http.Redirect(out, r, w.as.URL+"/elsewhere", http.StatusTemporaryRedirect)
			return true
		}
	})
	w.failed(question("alice", w.challenge()))
	for _, path := range w.as.paths {
		if path == "/elsewhere" {
			t.Error("the token request was redirected")
		}
	}
}

// TestBusyServerIsLeftAlone: Retry-After counts for all that is asked of the
// server.
func TestBusyServerIsLeftAlone(t *testing.T) {
	for _, status := range []int{429, 503} {
		w := newWorld(t, nil)
		reply(w, status, canary, "Retry-After", "30")
		if r := w.refused(question("alice", w.challenge())); r.RetryAfter != 30*time.Second {
			t.Errorf("%d: retry after %v", status, r.RetryAfter)
		}
		w.clock.pass(10 * time.Second)
		if r := w.refused(question("bob", w.challenge("scope=another"))); r.RetryAfter != 20*time.Second {
			t.Errorf("%d: retry after %v", status, r.RetryAfter)
		}
		if n := w.as.asked(); n != 1 {
			t.Errorf("%d: %d requests", status, n)
		}
		w.as.set(func() { w.as.answer = nil })
		w.clock.pass(20 * time.Second)
		w.ask(question("alice", w.challenge()))
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, "-1": 0, "x": 0, "1e9": 0, "99999999999999999999": 0,
		"Mon, 23 Nov 2026 08:01:00 GMT": time.Minute, "Mon, 23 Nov 2026 07:59:00 GMT": -time.Minute,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
	s := &server{}
	_ = s.busy(429, http.Header{"Retry-After": {"2000000000"}}, now)
	if got := s.busyFor(now); got != maxRetryAfter {
		t.Errorf("left alone for %v", got)
	}
}

func TestWrongCertificate(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RootCAs = nil }) // the roots of the system do not know it
	if got := w.failed(question("alice", w.challenge())); got != "metadata of the authorization server: its certificate is not accepted" {
		t.Errorf("got %s", got)
	}
	w.start(func(o *Options) { o.RootCAs, o.TokenURL = nil, w.as.URL+"/token" })
	if got := w.failed(question("alice", w.challenge())); got != "token endpoint: its certificate is not accepted" {
		t.Errorf("got %s", got)
	}
	if n := w.as.asked(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestNobodyListens(t *testing.T) {
	w := newWorld(t, nil)
	w.as.Close()
	if got := w.failed(question("alice", w.challenge())); !strings.HasPrefix(got, "metadata of the authorization server: dial: ") {
		t.Errorf("got %s", got)
	}
}

// TestNotHTTP: the errors of net/http quote what they cannot read.
func TestNotHTTP(t *testing.T) {
	w := newWorld(t, nil)
	w.as.set(func() {
		w.as.answer = func(out http.ResponseWriter, _ *http.Request) bool {
			conn, _, err := out.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, canary+" "+canary+" "+canary+"\r\n\r\n")
			return true
		}
	})
	if got := w.failed(question("alice", w.challenge())); got != "token endpoint: its answer is not valid" {
		t.Errorf("got %s", got)
	}
}

// TestDescribe shows what of an error is told.
func TestDescribe(t *testing.T) {
	for want, err := range map[string]error{
		"timed out":               &url.Error{Op: "Post", URL: canary, Err: &net.OpError{Op: "dial", Err: timeoutError{}}},
		"dial: no such host":      &url.Error{Err: &net.OpError{Op: "dial", Err: errors.New("no such host")}},
		"its answer is not valid": &url.Error{Op: "Get", URL: canary, Err: errors.New(canary)},
		"its answer is too long":  fmt.Errorf("%s: %w", canary, &http.MaxBytesError{}),
	} {
		if got := describe(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return canary }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// TestMetadata: where the token endpoint is found, and what is refused.
func TestMetadata(t *testing.T) {
	const oauthPath, openidPath = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	document := func(issuer, endpoint string, methods ...string) string {
		b, _ := json.Marshal(map[string]any{"issuer": issuer, "token_endpoint": endpoint, "token_endpoint_auth_methods_supported": methods, "x": canary})
		return string(b)
	}
	for _, tt := range []struct {
		name, tenant string
		documents    func(base string) map[string]string
		status       int // of what is not there
		fail         string
		post         bool
	}{
		{name: "RFC 8414", documents: func(b string) map[string]string { return map[string]string{oauthPath: document(b, b+"/token")} }},
		{name: "OpenID", documents: func(b string) map[string]string { return map[string]string{openidPath: document(b+"/", b+"/token")} }},
		{name: "RFC 8414 with a path", tenant: "/t/1", documents: func(b string) map[string]string {
			return map[string]string{oauthPath + "/t/1": document(b+"/t/1", b+"/token")}
		}},
		{name: "OpenID with a path", tenant: "/t/1/", documents: func(b string) map[string]string {
			return map[string]string{"/t/1" + openidPath: document(b+"/t/1/", b+"/token")}
		}},
		{name: "secret in the body", post: true, documents: func(b string) map[string]string {
			return map[string]string{oauthPath: document(b, b+"/token", "private_key_jwt", "client_secret_post")}
		}},
		{name: "both ways", documents: func(b string) map[string]string {
			return map[string]string{oauthPath: document(b, b+"/token", "client_secret_post", "client_secret_basic")}
		}},
		{name: "of another issuer", fail: "its issuer is another one", documents: func(b string) map[string]string {
			return map[string]string{oauthPath: document("https://other.example.test", b+"/token")}
		}},
		{name: "without issuer", fail: "its issuer is another one", documents: func(b string) map[string]string { return map[string]string{oauthPath: document("", b+"/token")} }},
		{name: "in clear", fail: "token_endpoint must be an https URL", documents: func(b string) map[string]string {
			return map[string]string{oauthPath: document(b, "http://127.0.0.1/"+canary)}
		}},
		{name: "without endpoint", fail: "token_endpoint must be an https URL", documents: func(b string) map[string]string { return map[string]string{oauthPath: document(b, "")} }},
		{name: "garbage", fail: "its answer is not valid", documents: func(string) map[string]string { return map[string]string{oauthPath: "<html>" + canary} }},
		{name: "too long", fail: "its answer is too long", documents: func(b string) map[string]string {
			return map[string]string{oauthPath: `{"x":"` + strings.Repeat(canary, 16<<20/len(canary)) + `"}`}
		}},
		{name: "nowhere", fail: "status 404", documents: func(string) map[string]string { return nil }},
		{name: "broken", status: 500, fail: "status 500", documents: func(string) map[string]string { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			documents := tt.documents(w.as.URL)
			w.as.wellKnown = func(out http.ResponseWriter, r *http.Request) {
				if d, ok := documents[r.URL.Path]; ok {
					_, _ = io.WriteString(out, d)
					return
				}
				http.Error(out, canary, max(tt.status, http.StatusNotFound))
			}
			w.start(func(o *Options) { o.TrustedServers = []string{w.as.URL + tt.tenant} })
			q := question("alice", w.challenge("authz_server="+w.as.URL+tt.tenant))
			if tt.fail != "" {
				if got, want := w.failed(q), "metadata of the authorization server: "+tt.fail; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				return
			}
			w.ask(q)
			w.ask(question("alice", w.challenge("scope=x")))
			if w.as.requests[0].Has("client_secret") != tt.post {
				t.Errorf("the request was %v", w.as.requests[0])
			}
			if n := len(w.as.paths); n > 2 {
				t.Errorf("metadata was asked %d times: %v", n, w.as.paths)
			}
		})
	}
}

func TestMetadataIsAskedAgainAfterAnHour(t *testing.T) {
	w := newWorld(t, nil)
	w.ask(question("alice", w.challenge()))
	w.clock.pass(metadataLife)
	w.ask(question("alice", w.challenge()))
	if n := len(w.as.paths); n != 2 {
		t.Errorf("metadata was asked %d times", n)
	}
}

func TestMetadataFollowsRedirectsWithinItsHost(t *testing.T) {
	w := newWorld(t, nil)
	other := newAuthServer(t)
	target := w.as.URL + "/moved"
	w.as.wellKnown = func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			_ = json.NewEncoder(out).Encode(map[string]string{"issuer": w.as.URL, "token_endpoint": w.as.URL + "/token"})
			return
		}
		http.Redirect(out, r, target, http.StatusFound)
	}
	w.ask(question("alice", w.challenge()))
	w.start(nil)
	target = other.URL + "/.well-known/oauth-authorization-server"
	if got := w.failed(question("alice", w.challenge())); got != "metadata of the authorization server: status 302" {
		t.Errorf("got %q", got)
	}
	if len(other.paths) != 0 {
		t.Error("the other host was asked")
	}
}

func TestMetadataOfABusyServer(t *testing.T) {
	w := newWorld(t, nil)
	w.as.wellKnown = func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Retry-After", "7")
		out.WriteHeader(http.StatusServiceUnavailable)
	}
	if r := w.refused(question("alice", w.challenge())); r.RetryAfter != 7*time.Second {
		t.Errorf("retry after %v", r.RetryAfter)
	}
}

func TestTokenURLNeedsNoMetadata(t *testing.T) {
	w := newWorld(t, nil)
	w.start(func(o *Options) { o.TokenURL = w.as.URL + "/token" })
	if got := w.ask(question("alice", w.challenge("authz_server="+w.as.URL))); got != "access1" || len(w.as.paths) != 0 {
		t.Errorf("got %s, asked for %v", got, w.as.paths)
	}
}

// TestTokens shows what a header may hold (RFC 6750 §2.1).
func TestTokens(t *testing.T) {
	for _, good := range []string{"a", "AZaz09-._~+/", "a=", "a==", "eyJ.eyJ.sig_-"} {
		if !validToken(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "=", "=a", "a=b", "a b", "a,b", "a\tb", "a\n", "\"a\"", "ä", "a\x00", "a;b"} {
		if validToken(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestTheLogIsWritten: what every test looks for secrets in is not empty.
func TestTheLogIsWritten(t *testing.T) {
	w := refreshWorld(t)
	w.ask(question("alice", w.challenge()))
	w.refused(question("bob", w.challenge()))
	for _, want := range []string{"level=DEBUG msg=\"access token\"", "level=WARN msg=\"no access token\"", "profile=bob", w.as.URL} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("%s is not in the log:\n%s", want, w.log)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", w.Provider, w.Provider, w.Provider.refresh); strings.Contains(text, canary) {
		t.Error("a secret is printed with the provider")
	}
}
