package bearer

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// refreshWorld has a server that knows alice's first refresh token.
func refreshWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, withRefreshTokens)
	w.as.refresh[canary+".first"] = "alice"
	return w
}

func (w *world) sent(i int) string {
	w.t.Helper()
	w.as.mu.Lock()
	defer w.as.mu.Unlock()
	return strings.TrimPrefix(w.as.requests[i].Get("refresh_token"), canary+".")
}

// TestRefreshTokenIsReplacedAndKept: what the server has replaced survives a
// restart, and a new token in the file starts anew.
func TestRefreshTokenIsReplacedAndKept(t *testing.T) {
	w := refreshWorld(t)
	w.ask(question("alice", w.challenge("scope=x")))
	if len(w.vault.values) != 1 {
		t.Fatalf("%d values are in the vault after the answer", len(w.vault.values))
	}
	if got := w.as.requests[0].Get("scope"); got != "x" {
		t.Errorf("asked for the scope %q", got)
	}
	w.clock.pass(time.Hour)
	w.ask(question("alice", w.challenge("scope=x")))
	w.start(withRefreshTokens)
	w.ask(question("alice", w.challenge("scope=x")))
	for i, want := range []string{"first", "refresh.alice.1", "refresh.alice.2"} {
		if got := w.sent(i); got != want {
			t.Errorf("request %d used %s, want %s", i, got, want)
		}
	}
	w.as.refresh[canary+".second"] = "alice"
	w.start(func(o *Options) {
		withRefreshTokens(o)
		o.RefreshTokens["alice"] = messages.NewSecret(canary + ".second")
	})
	w.ask(question("alice", w.challenge("scope=x")))
	if got := w.sent(3); got != "second" {
		t.Errorf("used %s after the file changed", got)
	}
	for key, value := range w.vault.values {
		if strings.Contains(key, canary) || strings.Contains(string(value), canary+".second") {
			t.Errorf("the file's token stands in the vault: %s", key)
		}
	}
}

func TestRefreshTokenRefused(t *testing.T) {
	w := newWorld(t, withRefreshTokens) // the server knows nobody
	r := w.refused(question("alice", w.challenge()))
	if r.Reason != "token endpoint: refresh token refused" || r.RetryAfter != 0 {
		t.Errorf("got %v", r)
	}
	if r := w.refused(question("bob", w.challenge())); r.Reason != "the profile has no refresh token" {
		t.Errorf("got %v", r)
	}
}

// TestVaultThatFails: without the new refresh token on disk there is no answer,
// and nothing else is asked before it is there.
func TestVaultThatFails(t *testing.T) {
	w := refreshWorld(t)
	w.vault.fail(errors.New("disk full"))
	if got := w.failed(question("alice", w.challenge())); got != "read the refresh token from the vault: disk full" {
		t.Errorf("got %s", got)
	}
	w.vault.fail(nil)
	w.as.set(func() { w.as.life = 10 })
	w.ask(question("alice", w.challenge()))
	w.clock.pass(time.Minute)
	w.vault.fail(errors.New("disk full"))
	for range 3 {
		if got := w.failed(question("alice", w.challenge())); got != "save the refresh token in the vault: disk full" {
			t.Errorf("got %s", got)
		}
	}
	if n := w.as.asked(); n != 2 {
		t.Errorf("%d requests", n)
	}
	w.vault.fail(nil)
	w.ask(question("alice", w.challenge()))
	if got := w.sent(2); got != "refresh.alice.2" {
		t.Errorf("used %s: the token that could not be saved is lost", got)
	}
	w.start(withRefreshTokens)
	w.ask(question("alice", w.challenge()))
	if got := w.sent(3); got != "refresh.alice.3" {
		t.Errorf("used %s after a restart", got)
	}
}

func TestVaultThatIsDamaged(t *testing.T) {
	w := refreshWorld(t)
	_ = w.vault.Put(t.Context(), vaultPrefix+"alice", []byte(canary))
	if got := w.failed(question("alice", w.challenge())); got != "the refresh token in the vault cannot be read" {
		t.Errorf("got %s", got)
	}
}

func TestRefreshTokensNeedAVault(t *testing.T) {
	w := refreshWorld(t)
	o := options(w.as)
	withRefreshTokens(&o)
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	w.Provider = p
	if got := w.failed(question("alice", w.challenge())); got != "refresh tokens need a vault, and none was given" {
		t.Errorf("got %s", got)
	}
	if n := w.as.asked(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestOneUseAtATime: several scopes use one refresh token, one after the other,
// so that a server that replaces it sees no token twice.
func TestOneUseAtATime(t *testing.T) {
	w := refreshWorld(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			w.ask(question("alice", w.challenge("scope="+strings.Repeat("x", i+1))))
		})
	}
	all.Wait()
	seen := make(map[string]bool)
	for i := range w.as.asked() {
		if seen[w.sent(i)] {
			t.Errorf("%s was used twice", w.sent(i))
		}
		seen[w.sent(i)] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d requests", len(seen))
	}
}

// TestProfilesDoNotShare: a profile gets the token of its own refresh token.
func TestProfilesDoNotShare(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		withRefreshTokens(o)
		o.RefreshTokens["bob"] = messages.NewSecret(canary + ".bob")
	})
	w.as.refresh[canary+".first"], w.as.refresh[canary+".bob"] = "alice", "bob"
	if a, b := w.ask(question("alice", w.challenge())), w.ask(question("bob", w.challenge())); a == b {
		t.Errorf("both got %s", a)
	}
}

// TestPublicClient: without a secret the client names itself in the request.
func TestPublicClient(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		withRefreshTokens(o)
		o.ClientSecret = messages.Secret{}
	})
	reply(w, 200, `{"access_token":"`+canary+`.x","token_type":"bearer"}`)
	w.ask(question("alice", w.challenge()))
	form := w.as.requests[0]
	if form.Get("client_id") != "muster" || form.Has("client_secret") || form.Get("grant_type") != "refresh_token" {
		t.Errorf("the request was %v", form)
	}
	if len(w.vault.values) != 0 {
		t.Error("a token that was not replaced is in the vault")
	}
}

// TestReplacedTokenIsKeptThoughTheAccessTokenIsBad: the old one may be gone.
func TestReplacedTokenIsKeptThoughTheAccessTokenIsBad(t *testing.T) {
	w := refreshWorld(t)
	reply(w, 200, `{"access_token":"a b","token_type":"bearer","refresh_token":"`+canary+`.next"}`)
	w.refused(question("alice", w.challenge()))
	reply(w, 200, `{"access_token":"`+canary+`.x","token_type":"bearer"}`)
	w.ask(question("alice", w.challenge()))
	if got := w.sent(1); got != "next" {
		t.Errorf("used %s", got)
	}
}

// TestCloseWaitsForTheReplacedToken: what the server has replaced while the
// node stops is not lost.
func TestCloseWaitsForTheReplacedToken(t *testing.T) {
	w := refreshWorld(t)
	release := hang(w)
	defer release()
	go func() { _, _ = w.Answer(t.Context(), question("alice", w.challenge())) }()
	<-w.as.arrived
	closed := make(chan struct{})
	go func() {
		_ = w.Close()
		close(closed)
	}()
	release()
	<-closed
	w.as.set(func() { w.as.answer = nil })
	w.start(withRefreshTokens)
	w.ask(question("alice", w.challenge()))
	if got := w.sent(1); got != "refresh.alice.1" {
		t.Errorf("used %s after the restart", got)
	}
}
