package profile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

func TestCHA06CHA09ProxyCredentialsStayWithTheirCallID(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", proxy("p", "p1"), "offer", plain("a", "n1"), "offer", ok(60), "wake", "offer")
	got := w.do("response 481")
	if !strings.Contains(got, "CallIDChosen") || strings.Contains(got, "proxy/p") || !strings.Contains(got, "origin/a#2") && !strings.Contains(got, "origin/a#3") {
		t.Errorf("a new Call-ID takes the proxy's credentials along, or loses the registrar's:\n%s", got)
	}
}

func TestCHA10CHA15AWrongPasswordIsAnsweredOnce(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	n := w.answered(func() {
		w.do("declare", "slot", plain("a", "n1"), "offer", plain("a", "n2"))
	})
	w.status("rejected")
	if n != 1 {
		t.Errorf("%d answers, want 1", n)
	}
	w.within(30*time.Minute, time.Hour)
}

func TestCHA12ANonceNeverAcceptedEarnsNoExtraTry(t *testing.T) {
	// The answer was lost, or the node crashed, before anybody said that the
	// password is right: the nonce is not one to begin with.
	for _, end := range []string{"response 503", "lost timeout", "crash"} {
		w := newWorld(t, profile.Policy{})
		w.do("declare", "slot", plain("a", "n1"), "offer", end, "wake")
		n := w.answered(func() {
			for i := 2; !w.State.Halted && i < 9; i++ {
				w.do(plain("a", fmt.Sprint("n", i)))
				if w.Asked() != 0 {
					w.do("offer")
				}
			}
		})
		if n != 1 {
			t.Errorf("after %s a wrong password is answered %d times more, want 1", end, n)
		}
	}
}

func TestCHA12AOneTimeNonceBehindAProxyIsNoWrongPassword(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", proxy("p", "p1"), "offer", plain("a", "n1"), "offer")
	w.expect(proxy("p", "p2"), "AskCredentials", "proxy/p MD5 p2 #1")
	w.do("offer", ok(3600))
	w.status("registered")
}

func TestCHA12AOneTimeNonceBefore423IsNoWrongPassword(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", plain("a", "n1"), "offer", "response 423\n Min-Expires: 7200", "offer")
	w.expect(plain("a", "n2"), "AskCredentials", "origin/a MD5 n2 #1")
	w.do("offer")
	w.expect(plain("a", "n3"), "credentials.refused")
}

func TestCHA11OnlyARefusalIsToldAsOne(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("wake", "offer")
	if got := w.do(stale("a", "n2")); strings.Contains(got, "rejected") {
		t.Errorf("a stale nonce is told as a wrong password:\n%s", got)
	}
	w.do("offer", ok(3600), "wake", "offer")
	w.expect(plain("a", "n3"), "AskCredentials", "401 rejected")
}

func TestCHA13RoundsOfOneChainAreBounded(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot")
	n := w.answered(func() {
		for i := 0; w.State.Attempt.Open && i < 20; i++ {
			w.do(plain(fmt.Sprint("realm", i), "n"))
			if w.Asked() != 0 {
				w.do("offer")
			}
		}
	})
	if n != 5 || w.State.Reason != messages.ReasonAllowance {
		t.Errorf("%d answers, then %q; want 5 and the allowance", n, w.State.Reason)
	}
}

func TestCHA15AChangedPasswordIsNotGuessedInACrashLoop(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T) *world{
		"never proven": func(t *testing.T) *world {
			t.Helper()
			w := newWorld(t, profile.Policy{})
			w.do("declare")
			return w
		},
		"proven, binding alive": func(t *testing.T) *world {
			t.Helper()
			return registered(t, profile.Policy{})
		},
		"proven, binding gone": func(t *testing.T) *world {
			t.Helper()
			w := registered(t, profile.Policy{})
			w.do("advance 2h", "timer")
			return w
		},
		"halted": func(t *testing.T) *world {
			t.Helper()
			w := newWorld(t, profile.Policy{})
			w.do("declare", "slot", plain("a", "n1"), "offer", plain("a", "n2"))
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t)
			w.Light = true
			// The back-off of RFC 5626 ends at 15 to 30 minutes; a halt at 24 h.
			most := 24*60/15 + 10
			if name == "halted" {
				most = 24 + 4
			}
			answers := 0
			for start := w.Now; w.Now.Sub(start) < 24*time.Hour && answers <= most; {
				answers += w.answered(func() {
					w.do("wake")
					if w.State.Attempt.Open && w.Asked() == 0 {
						w.do(plain("a", fmt.Sprint("n", len(w.Events))))
					}
					if w.Asked() != 0 {
						w.do("offer", "crash")
					}
				})
			}
			if answers > most {
				t.Errorf("more than %d guesses in a day", most)
			}
		})
	}
}

func TestCHA15WhatNeverLeftIsNoGuess(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", plain("a", "n1"), "withhold authenticator.unavailable 1s")
	if w.State.Unproven != 0 {
		t.Errorf("unproven %d, yet nothing was sent", w.State.Unproven)
	}
}

func TestCHA18ANonceThatComesBackGoesOnCounting(t *testing.T) {
	for name, lines := range map[string][]string{
		"after a refusal":         {plain("a", "n1"), "wake"},
		"after a new secret":      {"lost timeout", "declare secret", "wake"},
		"after a new user name":   {"lost timeout", "declare username=al row=r2", "wake"},
		"after too many rounds":   {stale("a", "n1"), "offer", stale("a", "n1"), "offer", stale("a", "n1"), "wake"},
		"after a lost answer":     {"lost timeout", "wake"},
		"in the dark of a crash":  {"crash", "wake"},
		"after another Call-ID":   {"response 481", "offer", "lost timeout", "wake"},
		"announced by nextnonce":  {ok(60) + "\n Authentication-Info: nextnonce=\"n1\"", "wake", "offer"},
		"asked for when fetching": {ok(60), "fetch", "offer", "response 200", "wake", "offer"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, profile.Policy{})
			w.do("declare", "slot", plain("a", "n1"), "offer")
			w.do(lines...) // the machine watches the counts (I4)
			w.do(stale("a", "n1"))
			if len(w.State.Attempt.Answers) != 1 || w.State.Attempt.Answers[0].GetCount() < 2 {
				t.Errorf("answers %v, want a count above 1", w.State.Attempt.Answers)
			}
		})
	}
}

func TestCHA12ReplacedCredentialsAreTriedAtOnce(t *testing.T) {
	for name, change := range map[string]string{
		"secret": "declare secret", "user name": "declare username=al row=r2",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, profile.Policy{})
			w.do("declare", "slot", plain("a", "n1"), "offer", change)
			// The refusal is about what was sent before the change.
			w.expect(plain("a", "n1"), "AskCredentials")
			w.do("offer")
			w.expect(plain("a", "n1"), "credentials.refused")
		})
	}
}

func TestS31RealmsThatWereNeverAcceptedAreForgotten(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare")
	w.Light = true
	for chain := range 30 {
		w.do("wake")
		for i := 0; w.State.Attempt.Open; i++ {
			lines := "response 401"
			for k := range 50 {
				lines += fmt.Sprintf("\n WWW-Authenticate: Digest realm=\"r-%d-%d-%d\", nonce=\"n\"", chain, i, k)
			}
			w.do(lines)
			if w.Asked() != 0 {
				w.do("offer")
			}
		}
		if n := len(w.State.Challenge.Realms); n > 64 {
			t.Fatalf("%d realms are known after %d chains", n, chain+1)
		}
	}
}

func TestS02OnlyThePinnedRealmIsAnswered(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("wake", "offer")
	for _, realm := range []string{"A", "a ", "b", ""} {
		c := w.Clone()
		text, err := c.Do(plain(realm, "n9"))
		if err != nil || !strings.Contains(text, "ignored realm.unexpected") || !strings.Contains(text, "ProfileHalted") {
			t.Errorf("realm %q: %v\n%s", realm, err, text)
		}
	}
	w.expect(stale("a", "n9"), "AskCredentials")
}

func TestBEA04ATokenThatRanOutIsAskedForOnceMore(t *testing.T) {
	bearer := "response 401\n WWW-Authenticate: Bearer realm=\"a\", authz_server=\"https://as.example.test\""
	w := newWorld(t, profile.Policy{})
	w.do("declare handler=tokens", "slot", bearer, "offer tokens preemptive", ok(60), "wake", "offer tokens preemptive")
	w.expect(bearer+", error=\"invalid_token\"", "AskCredentials{4 tokens 401 rejected")
	w.do("offer tokens")
	w.expect(bearer+", error=\"invalid_token\"", "credentials.refused")
}

func TestCHA25WeakerThanBeforeIsRefused(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	strong := plain("a", "n1") + ", algorithm=SHA-256"
	w.do("declare", "slot", strong, "offer", ok(3600), "wake", "offer")
	w.expect(plain("a", "n2")+", stale=true", "ignored algorithm.downgrade", "ProfileHalted{3 401 algorithm.downgrade") // MD5
	w = newWorld(t, profile.Policy{Challenge: challenge.Policy{AllowDowngrade: true}})
	w.do("declare", "slot", strong, "offer", ok(3600), "wake", "offer")
	w.expect(stale("a", "n2"), "AskCredentials")
}

func TestREG13ASilentRegistrarIsNotCalledRegistered(t *testing.T) {
	w := registered(t, profile.Policy{})
	end := w.State.Binding.Until
	for w.Now.Before(end.Add(3 * time.Hour)) {
		w.do("wake")
		if w.Asked() != 0 {
			w.do("offer")
		}
		if w.State.Attempt.Open {
			w.do("advance 32s", "lost timeout")
		}
		if w.State.Status() == "registered" && w.Now.After(end.Add(time.Minute)) {
			t.Fatalf("%s after the binding's end: %s", w.Now.Sub(end), w.State.Status())
		}
	}
	if !w.State.MayBeBound() {
		t.Error("a request that was lost may have been heard: a removal must withdraw the binding")
	}
}
