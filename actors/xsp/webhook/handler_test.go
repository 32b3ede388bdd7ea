package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
)

// answerer answers every question at once.
func answerer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	return &messages.AuthAnswer{
		Answered:   []uint32{0},
		Mutations:  []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "Digest " + q.GetRef()}},
		Preemptive: true,
	}, nil
}

// TestBothSides: what Answer returns on one side is what Answer returns on the
// other.
func TestBothSides(t *testing.T) {
	var log bytes.Buffer
	var deadline time.Time
	s := httptest.NewTLSServer(webhook.Handler(secret, xsp.Func(func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		deadline, _ = ctx.Deadline()
		switch q.GetRef() {
		case "refused":
			return nil, xsp.Refuse("unknown subscriber", 1500*time.Millisecond)
		case "failed":
			return nil, errors.New("the HSM is away")
		case "silent":
			return nil, nil
		case "not UTF-8":
			return &messages.AuthAnswer{Mutations: []*messages.HeaderMutation{{Value: canary + "\xff"}}}, nil
		}
		return answerer(ctx, q)
	}), webhook.HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	defer s.Close()
	c := dial(t, s, webhook.Options{})

	q := question("r1")
	a, err := c.Answer(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := answerer(t.Context(), q)
	want.Ref = "r1"
	if diff := cmp.Diff(want, a, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !deadline.Equal(q.GetDeadline().AsTime()) {
		t.Errorf("the context ends at %v, want %v", deadline, q.GetDeadline().AsTime())
	}

	_, err = c.Answer(t.Context(), question("refused"))
	var refusal *xsp.Refusal
	if !errors.As(err, &refusal) || *refusal != (xsp.Refusal{Reason: "unknown subscriber", RetryAfter: 2 * time.Second}) {
		t.Errorf("got %v", err)
	}
	for _, ref := range []string{"failed", "silent", "not UTF-8"} {
		if _, err := c.Answer(t.Context(), question(ref)); err == nil || err.Error() != "status 503" {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := c.Answer(t.Context(), q); err == nil || err.Error() != "status 409" {
		t.Errorf("S-41 the same ref again: %v", err)
	}
	if !strings.Contains(log.String(), "the HSM is away") || strings.Contains(log.String(), canary) {
		t.Errorf("logged:\n%s", log.String())
	}
}

// post sends a body with a signature made at a time.
func post(h http.Handler, body []byte, signature string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/answer", bytes.NewReader(body))
	r.Header.Set("Muster-Signature", signature)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func marshal(t testing.TB, q *messages.AuthChallenge) []byte {
	t.Helper()
	body, err := protojson.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestHandlerTurnsAway(t *testing.T) {
	good := marshal(t, question("r"))
	withoutDeadline := question("r")
	withoutDeadline.Deadline = nil
	var log bytes.Buffer
	h := webhook.Handler(secret, xsp.Func(func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		t.Error("the question was passed on")
		return nil, nil
	}), webhook.HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, tt := range []struct {
		name   string
		body   []byte
		sign   func(body []byte) string
		status int
	}{
		{"S-66 no signature", good, func([]byte) string { return "" }, http.StatusUnauthorized},
		{"S-66 other secret", good, func(b []byte) string { return webhook.Sign(messages.NewSecret("k"), time.Now(), b) }, http.StatusUnauthorized},
		{"S-66 other body", good, func(b []byte) string { return webhook.Sign(secret, time.Now(), b[1:]) }, http.StatusUnauthorized},
		{"too old", good, func(b []byte) string { return webhook.Sign(secret, time.Now().Add(-6*time.Minute), b) }, http.StatusUnauthorized},
		{"too early", good, func(b []byte) string { return webhook.Sign(secret, time.Now().Add(6*time.Minute), b) }, http.StatusUnauthorized},
		{"unsigned garbage", []byte(canary), func([]byte) string { return canary }, http.StatusUnauthorized},
		{"signed garbage", []byte(canary), nil, http.StatusBadRequest},
		{"no ref", marshal(t, question("")), nil, http.StatusBadRequest},
		{"no deadline", marshal(t, withoutDeadline), nil, http.StatusBadRequest},
		{"too long", bytes.Repeat([]byte(" "), 64<<10+1), nil, http.StatusRequestEntityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.sign == nil {
				tt.sign = func(b []byte) string { return webhook.Sign(secret, time.Now(), b) }
			}
			w := post(h, tt.body, tt.sign(tt.body))
			if w.Code != tt.status || strings.Contains(w.Body.String(), canary) {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/answer", nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
			t.Errorf("status %d, Allow %s", w.Code, w.Header().Get("Allow"))
		}
	})
	t.Run("two signatures", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodPost, "/answer", bytes.NewReader(good))
		r.Header["Muster-Signature"] = []string{webhook.Sign(secret, time.Now(), good), webhook.Sign(secret, time.Now(), good)}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("status %d", w.Code)
		}
	})
	t.Run("no secret", func(t *testing.T) {
		h := webhook.Handler(messages.Secret{}, xsp.Func(answerer), webhook.HandlerOptions{})
		if w := post(h, good, webhook.Sign(messages.Secret{}, time.Now(), good)); w.Code != http.StatusUnauthorized {
			t.Errorf("status %d", w.Code)
		}
	})
	if strings.Contains(log.String(), canary) {
		t.Errorf("logged:\n%s", log.String())
	}
}

// TestS41_EachRefIsAnsweredOnce: for as long as its signature holds, and with
// any signature.
func TestS41_EachRefIsAnsweredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const skew = time.Minute
		h := webhook.Handler(secret, xsp.Func(answerer), webhook.HandlerOptions{Skew: skew})
		send := func(q *messages.AuthChallenge, at time.Time) int {
			body := marshal(t, q)
			return post(h, body, webhook.Sign(secret, at, body)).Code
		}
		q := question("r")
		q.Deadline.Seconds += 3600
		early := time.Now().Add(skew)
		if got := send(q, early); got != http.StatusOK {
			t.Fatalf("first: %d", got)
		}
		for range 2 * skew / time.Second {
			if got := send(q, early); got != http.StatusConflict {
				t.Fatalf("again: %d", got)
			}
			if got := send(q, time.Now()); got != http.StatusConflict {
				t.Fatalf("signed again: %d", got)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		if got := send(q, early); got != http.StatusUnauthorized {
			t.Errorf("when the signature is too old: %d", got)
		}
	})
}

// TestHandlerEndsAtTheDeadline: the context of Answer ends then, and when the
// node hangs up.
func TestHandlerEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := webhook.Handler(secret, xsp.Func(func(ctx context.Context, _ *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), webhook.HandlerOptions{})
		began := time.Now()
		q := question("r")
		body := marshal(t, q)
		if got := post(h, body, webhook.Sign(secret, began, body)).Code; got != http.StatusServiceUnavailable {
			t.Errorf("status %d", got)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %v", took)
		}
	})
	ended := make(chan error, 1)
	asked := make(chan struct{})
	s := httptest.NewServer(webhook.Handler(secret, xsp.Func(func(ctx context.Context, _ *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		close(asked)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}), webhook.HandlerOptions{}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := dial(t, s, webhook.Options{}).Answer(ctx, question("r")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestS44_ConnectionsAreBounded asks 1,000 questions at once: 50 are out, and
// never more than 50 connections are open.
func TestS44_ConnectionsAreBounded(t *testing.T) {
	const questions, bound = 1000, 50
	gone := leaves(t)
	var (
		mu                   sync.Mutex
		open, most, asked    int
		full                 = make(chan struct{})
		out, mostOut, failed int
	)
	s := httptest.NewUnstartedServer(webhook.Handler(secret, xsp.Func(func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		mu.Lock()
		out++
		mostOut = max(mostOut, out)
		if asked++; asked == bound {
			close(full)
		}
		mu.Unlock()
		<-full // the first 50 wait for each other
		mu.Lock()
		out--
		mu.Unlock()
		return answerer(ctx, q)
	}), webhook.HandlerOptions{}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open++
			most = max(most, open)
		case http.StateClosed, http.StateHijacked:
			open--
		case http.StateActive, http.StateIdle:
		}
	}
	s.Start()
	c := dial(t, s, webhook.Options{Concurrency: bound})
	var wg sync.WaitGroup
	for i := range questions {
		wg.Go(func() {
			ref := strings.Repeat("r", i+1)
			a, err := c.Answer(t.Context(), question(ref))
			if err != nil || a.GetMutations()[0].GetValue() != "Digest "+ref {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	mu.Lock()
	if failed != 0 || asked != questions || most != bound || mostOut != bound || open != bound {
		t.Errorf("%d failed, %d asked, at most %d connections and %d questions at a time, %d open at the end",
			failed, asked, most, mostOut, open)
	}
	mu.Unlock()
	_ = c.Close()
	s.Close()
	gone()
}
