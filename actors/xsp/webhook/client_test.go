package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
)

// canary stands in everything that an error must not show: the URL's token, the
// question, and what servers send.
const canary = "c4nary"

func question(ref string) *messages.AuthChallenge {
	return &messages.AuthChallenge{
		Ref: ref, Purpose: messages.Purpose_REGISTRATION, ProfileId: "alice", Aor: "sip:alice@example.test",
		Method: "REGISTER", RequestUri: "sip:example.test", StatusCode: 401, Round: 1,
		Deadline: timestamppb.New(time.Now().Add(time.Minute).Truncate(time.Second)),
		Challenges: []*messages.Challenge{{
			Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: canary, NonceCount: 1,
			Params: map[string]string{"nonce": canary}, Raw: `Digest realm="` + canary + `"`,
		}},
	}
}

func reply(ref string) string {
	return `{"ref":"` + ref + `","answered":[0],"mutations":[{"op":"SET","name":"Authorization","value":"Digest ` + canary + `"}]}`
}

func quiet(s *httptest.Server) *httptest.Server {
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

// dial makes a client for a test server.
func dial(t testing.TB, s *httptest.Server, o webhook.Options) *webhook.Client {
	t.Helper()
	if s.TLS != nil {
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AddCert(s.Certificate())
	}
	o.URL = s.URL + "/answer?token=" + canary
	o.Secret = secret
	c, err := webhook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// leaves checks that every goroutine started after the call is gone when the
// function it returns is called.
func leaves(t testing.TB) func() {
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; {
			if time.Now().After(end) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
			time.Sleep(time.Millisecond) // polling
		}
	}
}

// TestAnswer sends a question through TLS and looks at everything that arrives.
func TestAnswer(t *testing.T) {
	gone := leaves(t)
	q := question("r1")
	var requests []*http.Request
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if err := webhook.Verify(secret, r.Header.Get("Muster-Signature"), body, noon, 0); err != nil {
			t.Error(err)
		}
		got := new(messages.AuthChallenge)
		if err := protojson.Unmarshal(body, got); err != nil || !proto.Equal(q, got) {
			t.Errorf("%s: %v", body, err)
		}
		requests = append(requests, r)
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		_, _ = io.WriteString(w, reply("r1"))
	}))
	c := dial(t, s, webhook.Options{UserAgent: "Muster/1.2.0", Now: func() time.Time { return noon }})
	want := &messages.AuthAnswer{
		Ref: "r1", Answered: []uint32{0},
		Mutations: []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "Digest " + canary}},
	}
	for range 2 {
		a, err := c.Answer(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, a, protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for _, r := range requests {
		if r.Method != "POST" || r.RequestURI != "/answer?token="+canary || r.RemoteAddr != requests[0].RemoteAddr {
			t.Errorf("%s %s from %s, first from %s", r.Method, r.RequestURI, r.RemoteAddr, requests[0].RemoteAddr)
		}
		headers := http.Header{
			"Content-Type": {"application/json"}, "User-Agent": {"Muster/1.2.0"},
			"Content-Length": {fmt.Sprint(r.ContentLength)}, "Muster-Signature": r.Header["Muster-Signature"],
		}
		if diff := cmp.Diff(headers, r.Header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	}
	_ = c.Close()
	if _, err := c.Answer(t.Context(), q); err == nil {
		t.Error("a closed client asks")
	}
	s.Close()
	gone()
}

// TestS44_BadServers: whatever a server does, the question ends by its
// deadline with an error that shows nothing of it (S-65).
func TestS44_BadServers(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the question was redirected")
	}))
	defer elsewhere.Close()
	for _, tt := range []struct {
		name      string
		serve     func(w http.ResponseWriter, r *http.Request)
		deadline  bool // a short one, which is what ends the question
		malformed bool
		text      string
	}{
		{name: "hangs", deadline: true, serve: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{name: "hangs after the header", deadline: true, serve: func(w http.ResponseWriter, r *http.Request) {
			flush(w)
			<-r.Context().Done()
		}},
		{name: "drips", deadline: true, serve: drip},
		{name: "drips with an error", deadline: true, serve: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			drip(w, r)
		}, text: "status 500"},
		{name: "resets", serve: func(w http.ResponseWriter, _ *http.Request) { reset(w, "") }, text: "no reply"},
		{name: "resets in the middle of the body", serve: func(w http.ResponseWriter, _ *http.Request) {
			reset(w, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"+reply("r")[:40])
		}},
		{name: "closes", serve: func(w http.ResponseWriter, _ *http.Request) { hangUp(w, "") }, text: "closed"},
		{name: "is cut in the middle of the header", serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\nX-A: "+canary)
		}, text: "closed"},
		{name: "is cut in the middle of the body", serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"+reply("r")[:40])
		}, text: "closed"},
		{name: "is cut in the middle of a chunk", serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1ff\r\n"+reply("r"))
		}, text: "closed"},
		{name: "speaks no HTTP", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, canary+" garbage\r\n\r\n")
		}, text: "not HTTP"},
		{name: "sends a bad status line", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 "+canary+"\r\n\r\n")
		}},
		{name: "sends a bad length", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\nContent-Length: "+canary+"\r\n\r\n")
		}},
		{name: "sends a bad header", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\n"+canary+" "+canary+"\r\n\r\n")
		}},
		{name: "sends a bad chunk", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+canary+"\r\n")
		}},
		{name: "sends headers without end", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			hangUp(w, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: "+canary+"\r\n", 10_000))
		}},
		{name: "sends garbage", malformed: true, serve: answers(canary + "}")},
		{name: "sends half of an answer", malformed: true, serve: answers(reply("r")[:40])},
		{name: "sends nothing", malformed: true, serve: answers("")},
		{name: "sends an empty object", malformed: true, serve: answers("{}"), text: "not for this question"},
		{name: "sends wrong types", malformed: true, serve: answers(`{"ref":"r","answered":"` + canary + `"}`)},
		{name: "sends an unknown enum", malformed: true, serve: answers(`{"ref":"` + canary + `","mutations":[{"op":"` + canary + `"}]}`)},
		{name: "answers another question", malformed: true, serve: answers(reply(canary)), text: "not for this question"},
		{name: "sends 16 MB", malformed: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"ref":"r","later":"`+strings.Repeat(canary, 16<<20/len(canary))+`"}`)
		}, text: "more than 16 KiB"},
		{name: "sends one byte too many", malformed: true, serve: answers(padded(16<<10 + 1)), text: "more than 16 KiB"},
		{name: "sends a gzip bomb", malformed: true, serve: bomb},
		{name: "redirects", serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/"+canary, http.StatusTemporaryRedirect)
		}, text: "status 307"},
		{name: "has no content", serve: status(http.StatusNoContent), text: "status 204"},
		{name: "refuses the signature", serve: status(http.StatusUnauthorized), text: "status 401"},
		{name: "does not know the path", serve: status(http.StatusNotFound), text: "status 404"},
		{name: "fails", serve: status(http.StatusInternalServerError), text: "status 500"},
		{name: "is overloaded", serve: status(http.StatusServiceUnavailable), text: "status 503"},
		{name: "panics", serve: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, text: "closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gone := leaves(t)
			s := quiet(httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				// A server notices that its client is gone once it has read
				// the request.
				_, _ = io.Copy(io.Discard, r.Body)
				tt.serve(w, r)
			})))
			s.StartTLS()
			c := dial(t, s, webhook.Options{})
			// A connection that is in use already behaves like one that is not.
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if tt.deadline {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
				}
				a, err := c.Answer(ctx, question("r"))
				cancel()
				var refusal *xsp.Refusal
				switch {
				case a != nil || err == nil || errors.As(err, &refusal):
					t.Fatalf("got %v, %v", a, err)
				case strings.Contains(err.Error(), canary):
					t.Errorf("S-65 the error shows what it must not: %v", err)
				case tt.malformed != errors.Is(err, xsp.ErrMalformed):
					t.Errorf("malformed is %v: %v", !tt.malformed, err)
				case tt.deadline && tt.text == "" && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("not ended by the deadline: %v", err)
				case !strings.Contains(err.Error(), tt.text):
					t.Errorf("got %v, want %q", err, tt.text)
				}
			}
			_ = c.Close()
			s.Close()
			gone()
		})
	}
}

// TestS44_LongestReply: 16 KiB are allowed.
func TestS44_LongestReply(t *testing.T) {
	s := httptest.NewServer(answers(padded(16 << 10)))
	defer s.Close()
	if _, err := dial(t, s, webhook.Options{}).Answer(t.Context(), question("r")); err != nil {
		t.Error(err)
	}
}

// TestS44_NobodyThere: what fails below HTTP names the host at most.
func TestS44_NobodyThere(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		_, err := dial(t, s, webhook.Options{}).Answer(t.Context(), question("r"))
		if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("closed at once", func(t *testing.T) {
		gone := leaves(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		}()
		c, err := webhook.New(webhook.Options{URL: "http://" + l.Addr().String() + "/?token=" + canary, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			_, err := c.Answer(t.Context(), question("r"))
			if err == nil || strings.Contains(err.Error(), canary) || errors.Is(err, xsp.ErrMalformed) {
				t.Errorf("got %v", err)
			}
		}
		_ = c.Close()
		_ = l.Close()
		<-done
		gone()
	})
	for _, tt := range []struct {
		name, text string
		serve      func(s *httptest.Server)
		trusted    bool
	}{
		{"unknown authority", "the certificate is not trusted", (*httptest.Server).StartTLS, false},
		{"plain HTTP", "does not speak TLS", func(s *httptest.Server) {
			s.Start()
			s.URL = "https" + strings.TrimPrefix(s.URL, "http")
		}, false},
		{"old TLS", "tls: ", func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // what is to be refused
			s.StartTLS()
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gone := leaves(t)
			s := quiet(httptest.NewUnstartedServer(answers(reply("r"))))
			tt.serve(s)
			o := webhook.Options{URL: s.URL + "/?token=" + canary, Secret: secret, RootCAs: x509.NewCertPool()}
			if tt.trusted {
				o.RootCAs.AddCert(s.Certificate())
			}
			c, err := webhook.New(o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Answer(t.Context(), question("r"))
			if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %q", err, tt.text)
			}
			_ = c.Close()
			s.Close()
			gone()
		})
	}
}

func TestBusyServers(t *testing.T) {
	for _, tt := range []struct {
		status int
		after  string
		want   time.Duration
	}{
		{http.StatusServiceUnavailable, "30", 30 * time.Second},
		{http.StatusTooManyRequests, "0", time.Second},
		{http.StatusTooManyRequests, "1000000", time.Hour},
		{http.StatusInternalServerError, "30", 0},
		{http.StatusServiceUnavailable, canary, 0},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", tt.after)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, reply("r"))
		}))
		_, err := dial(t, s, webhook.Options{}).Answer(t.Context(), question("r"))
		s.Close()
		if refusal, ok := errors.AsType[*xsp.Refusal](err); ok {
			if refusal.RetryAfter != tt.want || refusal.Reason != "busy" {
				t.Errorf("%d with Retry-After %s: %v after %v", tt.status, tt.after, err, refusal.RetryAfter)
			}
		} else if tt.want != 0 || err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%d with Retry-After %s: %v", tt.status, tt.after, err)
		}
	}
}

// TestClosedIdleConnection: a server that closes a connection between two
// questions costs nobody an answer.
func TestClosedIdleConnection(t *testing.T) {
	s := httptest.NewServer(answers(reply("r")))
	defer s.Close()
	c := dial(t, s, webhook.Options{})
	for range 20 {
		if _, err := c.Answer(t.Context(), question("r")); err != nil {
			t.Fatal(err)
		}
		s.CloseClientConnections()
	}
}

// TestQuestionIsSentTwiceAtMost: a server that fails on a question is not
// asked again by every connection that is kept.
func TestQuestionIsSentTwiceAtMost(t *testing.T) {
	const bound = 8
	var bad, waiting atomic.Int32
	full := make(chan struct{})
	s := quiet(httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte(`"ref":"bad"`)) {
			bad.Add(1)
			hangUp(w, "")
			return
		}
		if waiting.Add(1) == bound {
			close(full)
		}
		<-full
		_, _ = io.WriteString(w, reply("r"))
	})))
	s.Start()
	defer s.Close()
	c := dial(t, s, webhook.Options{Concurrency: bound})
	var wg sync.WaitGroup
	for range bound {
		wg.Go(func() {
			if _, err := c.Answer(t.Context(), question("r")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := c.Answer(t.Context(), question("bad")); err == nil || bad.Load() != 2 {
		t.Errorf("sent %d times: %v", bad.Load(), err)
	}
	if _, err := c.Answer(t.Context(), question("bad")); err == nil || bad.Load() != 3 {
		t.Errorf("sent %d times in all, the last without a kept connection: %v", bad.Load(), err)
	}
}

// TestCloseWhileAsking: a question that is out ends by its own deadline, and
// leaves no connection.
func TestCloseWhileAsking(t *testing.T) {
	gone := leaves(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, reply("r"))
	}))
	c := dial(t, s, webhook.Options{})
	failed := make(chan error)
	go func() {
		_, err := c.Answer(t.Context(), question("r"))
		failed <- err
	}()
	<-arrived
	_ = c.Close()
	_ = c.Close()
	close(release)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	s.Close()
	gone()
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		url, text string
	}{
		{"", "host"},
		{"https://", "host"},
		{"https://h:" + canary + "/", "host"},
		{"https://h/%z" + canary, "host"},
		{"h/" + canary, "host"},
		{"ftp://h/" + canary, "https://"},
		{"http://192.0.2.1/" + canary, "in the clear"},
		{"http://localhost.example.test/" + canary, "in the clear"},
		{"http://127.0.0.1.example.test/" + canary, "in the clear"},
		{"https://user:" + canary + "@h/", "user name"},
		{"https://h/#" + canary, "fragment"},
	} {
		_, err := webhook.New(webhook.Options{URL: tt.url, Secret: secret})
		if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", tt.url, err)
		}
	}
	for _, u := range []string{"http://localhost:1/", "http://127.8.9.1/", "http://[::1]:9000/a", "https://h", "HTTPS://h/a?token=b"} {
		if _, err := webhook.New(webhook.Options{URL: u, Secret: secret}); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	for name, o := range map[string]webhook.Options{
		"no secret":            {URL: "https://h/"},
		"negative concurrency": {URL: "https://h/", Secret: secret, Concurrency: -1},
		"line break":           {URL: "https://h/", Secret: secret, UserAgent: "a\r\nb"},
	} {
		if _, err := webhook.New(o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
