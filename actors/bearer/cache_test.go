package bearer

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// hang lets token requests wait until release is called.
func hang(w *world) (release func()) {
	gate := make(chan struct{})
	w.as.set(func() {
		w.as.answer = func(_ http.ResponseWriter, _ *http.Request) bool {
			<-gate
			return false
		}
	})
	return sync.OnceFunc(func() { close(gate) })
}

// TestManyQuestionsOneRequest: one token request serves all who ask meanwhile.
func TestManyQuestionsOneRequest(t *testing.T) {
	w := newWorld(t, nil)
	release := hang(w)
	defer release()
	var asking, answered sync.WaitGroup
	for i := range 200 {
		asking.Add(1)
		answered.Go(func() {
			asking.Done()
			if got := w.ask(question(string(rune('a'+i%20)), w.challenge("scope=x"))); got != "access1" {
				t.Errorf("got %s", got)
			}
		})
	}
	asking.Wait()
	<-w.as.arrived
	release()
	answered.Wait()
	if n := w.as.asked(); n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// TestSlowEndpoint: the question ends at its deadline, the request goes on and
// serves the next question.
func TestSlowEndpoint(t *testing.T) {
	w := newWorld(t, nil)
	release := hang(w)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.as.arrived
		cancel()
	}()
	if _, err := w.Answer(ctx, question("alice", w.challenge())); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	release()
	if got := w.ask(question("alice", w.challenge())); got != "access1" || w.as.asked() != 1 {
		t.Errorf("got %s after %d requests", got, w.as.asked())
	}
}

// BEA-04:
// TestBEA04_RenewedBeforeItExpires: a tenth of the life before its end, but at
// most a minute, a new token is requested while the old one serves.
func TestBEA04_RenewedBeforeItExpires(t *testing.T) {
	for _, tt := range []struct {
		life   any
		leeway time.Duration
	}{{3600, time.Minute}, {100, 10 * time.Second}, {"100", 10 * time.Second}, {nil, 30 * time.Second}, {0, 30 * time.Second}} {
		w := newWorld(t, nil)
		w.as.set(func() { w.as.life = tt.life })
		w.ask(question("alice", w.challenge()))
		var expires time.Time
		for _, e := range w.entries {
			expires = e.token.expires
		}
		w.clock.pass(expires.Sub(w.clock.now()) - tt.leeway - time.Second)
		w.ask(question("alice", w.challenge()))
		if n := w.as.asked(); n != 1 {
			t.Fatalf("life %v: %d requests before the leeway", tt.life, n)
		}
		w.clock.pass(time.Second)
		release := hang(w)
		if got := w.ask(question("alice", w.challenge())); got != "access1" {
			t.Errorf("life %v: got %s while the next is requested", tt.life, got)
		}
		release()
		w.pending()
		if got := w.ask(question("alice", w.challenge())); got != "access2" || w.as.asked() != 2 {
			t.Errorf("life %v: got %s after %d requests", tt.life, got, w.as.asked())
		}
	}
}

// BEA-04.
func TestBEA04_ExpiredTokenIsNotUsed(t *testing.T) {
	w := newWorld(t, nil)
	w.ask(question("alice", w.challenge()))
	w.clock.pass(time.Hour)
	if got := w.ask(earlyQuestion("alice", w.challenge())); got != "access2" {
		t.Errorf("got %s", got)
	}
}

// TestRenewalThatFailsCostsNothing: the old token serves to its end.
func TestRenewalThatFailsCostsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.ask(question("alice", w.challenge()))
	w.as.set(func() {
		w.as.answer = func(out http.ResponseWriter, _ *http.Request) bool {
			http.Error(out, canary, http.StatusBadGateway)
			return true
		}
	})
	w.clock.pass(time.Hour - time.Second)
	for range 2 {
		if got := w.ask(question("alice", w.challenge())); got != "access1" {
			t.Errorf("got %s", got)
		}
		w.pending()
	}
	w.clock.pass(time.Second)
	if got := w.failed(question("alice", w.challenge())); got != "token endpoint: status 502" {
		t.Errorf("got %s", got)
	}
}

// BEA-04:
// TestBEA04_OneNewToken: a refused token is replaced once; when the new one is
// refused as well, that is the answer, without a request.
func TestBEA04_OneNewToken(t *testing.T) {
	w := newWorld(t, nil)
	w.ask(question("alice", w.challenge()))
	if got := w.ask(rejectedQuestion("alice", w.challenge("error=invalid_token"))); got != "access2" {
		t.Fatalf("got %s", got)
	}
	for range 3 {
		if r := w.refused(rejectedQuestion("alice", w.challenge("error=invalid_token"))); r.Reason != "a new access token was refused as well" || r.RetryAfter != 0 {
			t.Errorf("got %v", r)
		}
	}
	if n := w.as.asked(); n != 2 {
		t.Errorf("%d requests", n)
	}
	// Another life, another try.
	w.clock.pass(time.Hour)
	if got := w.ask(rejectedQuestion("alice", w.challenge())); got != "access3" {
		t.Errorf("got %s", got)
	}
}

// BEA-04:
// TestBEA04_AcceptedTokenMayBeRevoked: what was accepted in between does not
// count as the second refusal.
func TestBEA04_AcceptedTokenMayBeRevoked(t *testing.T) {
	w := newWorld(t, nil)
	w.ask(question("alice", w.challenge()))
	w.ask(rejectedQuestion("alice", w.challenge()))
	w.clock.pass(10 * time.Minute)
	if got := w.ask(earlyQuestion("alice", w.challenge("error=invalid_token"))); got != "access2" {
		t.Errorf("got %s: an early question repeats an old challenge", got)
	}
	if got := w.ask(rejectedQuestion("alice", w.challenge())); got != "access3" {
		t.Errorf("got %s", got)
	}
	w.refused(rejectedQuestion("alice", w.challenge()))
}

// BEA-04:
// TestBEA04_SharedTokenIsReplacedOnce: many profiles are refused with the same
// token, and one request gets the next one for all.
func TestBEA04_SharedTokenIsReplacedOnce(t *testing.T) {
	w := newWorld(t, nil)
	profiles := []string{"alice", "bob", "carol", "dave"}
	for _, id := range profiles {
		w.ask(question(id, w.challenge()))
	}
	w.clock.pass(time.Minute)
	for _, id := range profiles {
		w.clock.pass(10 * time.Second)
		if got := w.ask(rejectedQuestion(id, w.challenge())); got != "access2" {
			t.Errorf("%s got %s", id, got)
		}
	}
	for _, id := range profiles {
		w.refused(rejectedQuestion(id, w.challenge()))
	}
	// A request that was under way when the first token went is over by now:
	// whoever is refused is refused with the second.
	w.clock.pass(inFlight)
	if got := w.ask(rejectedQuestion("erin", w.challenge())); got != "access3" {
		t.Errorf("got %s", got)
	}
}

// BEA-04:
// TestBEA04_OnlyTheChallengeAtHandCounts: a question repeats the challenge that
// an earlier round has answered, as it stood.
func TestBEA04_OnlyTheChallengeAtHandCounts(t *testing.T) {
	w := newWorld(t, nil)
	w.ask(question("alice", w.challenge()))
	if got := w.ask(question("alice", w.challenge("error=invalid_token"))); got != "access2" {
		t.Errorf("got %s", got)
	}
	if got := w.ask(question("alice", w.challenge("error=invalid_token"))); got != "access2" {
		t.Errorf("got %s: nothing was refused since", got)
	}
	q := rejectedQuestion("alice", w.challenge("error=invalid_token"))
	q.StatusCode = 407
	if got := w.ask(q); got != "access2" {
		t.Errorf("got %s: a proxy has refused something, not the registrar", got)
	}
	// One token for both: the doubt of one challenge is enough.
	w.clock.pass(inFlight + time.Second)
	proxy := w.challenge()
	proxy.Space = messages.Space_PROXY
	if got := w.ask(rejectedQuestion("bob", w.challenge(), proxy)); got != "access3" {
		t.Errorf("got %s", got)
	}
}
