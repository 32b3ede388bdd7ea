package profile_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// world is a machine that speaks the language of the scripts.
type world struct {
	*machinetest.Machine
	t *testing.T
}

func newWorld(t *testing.T, p profile.Policy) *world {
	t.Helper()
	return &world{machinetest.New(p), t}
}

// do carries out script commands and returns what the last one gave.
func (w *world) do(lines ...string) string {
	w.t.Helper()
	var out string
	for _, line := range lines {
		text, err := w.Do(line)
		if err != nil {
			w.t.Fatalf("%s\n%v", line, err)
		}
		out = text
	}
	return out
}

// expect carries out one command and looks for words in what it gives.
func (w *world) expect(line string, words ...string) {
	w.t.Helper()
	got := w.do(line)
	for _, word := range words {
		if !strings.Contains(got, word) {
			w.t.Errorf("%s\ngave %swithout %q", line, got, word)
		}
	}
}

// status asserts what the API would show.
func (w *world) status(want string) {
	w.t.Helper()
	if got := w.State.Status(); got != want {
		w.t.Errorf("status %q, want %q (%s)", got, want, machinetest.Summary(w.State, w.Now))
	}
}

// within asserts when the next attempt is due.
func (w *world) within(least, most time.Duration) {
	w.t.Helper()
	_, at, ok := w.State.Due()
	if wait := max(0, at.Sub(w.Now)); !ok || wait < least || wait > most {
		w.t.Errorf("next attempt in %s (%t), want %s to %s", wait, ok, least, most)
	}
}

// registered declares a profile and takes it through one challenge.
func registered(t *testing.T, p profile.Policy) *world {
	t.Helper()
	w := newWorld(t, p)
	w.do("declare", "slot", plain("a", "n1"), "offer", ok(3600))
	w.status("registered")
	return w
}

func plain(realm, nonce string) string {
	return fmt.Sprintf("response 401\n WWW-Authenticate: Digest realm=%q, nonce=%q, qop=\"auth\"", realm, nonce)
}

func stale(realm, nonce string) string { return plain(realm, nonce) + ", stale=true" }

func proxy(realm, nonce string) string {
	return fmt.Sprintf("response 407\n Proxy-Authenticate: Digest realm=%q, nonce=%q, qop=\"auth\"", realm, nonce)
}

func ok(seconds int) string {
	return fmt.Sprintf("response 200\n Contact: ours;expires=%d", seconds)
}

// answered counts the requests with credentials that leave while f runs.
func (w *world) answered(f func()) int {
	n := len(w.Events)
	f()
	count := 0
	for _, e := range w.Events[n:] {
		if len(e.GetAttemptStarted().GetAnswers()) > 0 {
			count++
		}
	}
	return count
}

func TestI7NoCommandHasRoomForASecret(t *testing.T) {
	for _, cmd := range []profile.Command{
		profile.Declare{},
		profile.Enable{},
		profile.Disable{},
		profile.Remove{},
		profile.Clear{},
		profile.Refresh{},
		profile.Withdraw{},
		profile.Fetch{},
		profile.SlotGranted{},
		profile.TimerFired{},
		profile.ResponseReceived{},
		profile.RequestFailed{},
		profile.CredentialsOffered{},
		profile.CredentialsWithheld{},
		profile.Recovered{},
	} {
		assertNoSecret(t, reflect.TypeOf(cmd), reflect.TypeOf(cmd).String(), 0)
	}
}

func assertNoSecret(t *testing.T, typ reflect.Type, path string, depth int) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ == reflect.TypeFor[messages.Secret]() || typ == reflect.TypeFor[messages.HeaderMutation]() {
		t.Errorf("%s could carry a secret", path)
	}
	if typ.Kind() != reflect.Struct || depth > 4 || !strings.HasPrefix(typ.PkgPath(), "github.com/sipmuster/") {
		return
	}
	for i := range typ.NumField() {
		if f := typ.Field(i); f.IsExported() {
			assertNoSecret(t, f.Type, path+"."+f.Name, depth+1)
		}
	}
}

func TestAnUnknownCommandPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	w := newWorld(t, profile.Policy{})
	w.do("declare")
	_, _ = w.Step(nil)
}

func TestAnUndeclaredProfileDropsEverything(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	for _, line := range []string{
		"enable", "disable", "remove", "clear", "refresh", "withdraw", "fetch", "slot", "timer",
		"response 200", "lost timeout", "offer", "withhold authenticator.refused",
	} {
		w.expect(line, "dropped   unexpected")
	}
	if got := w.do("crash"); got != "" || len(w.Events) > 0 {
		t.Errorf("recovering nothing gives %q", got)
	}
}

func TestREG03NoRecordRouteIsKept(t *testing.T) {
	// A response as the core sees it has no Record-Route at all, so none can
	// become a route set.
	if _, found := reflect.TypeFor[messages.SIPResponse]().FieldByName("RecordRoute"); found {
		t.Error("SIPResponse has a Record-Route: it must not reach a registration")
	}
}

func TestREG05AnswersNobodyAskedForChangeNothing(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot") // a request without credentials is out
	w.expect("offer", "dropped   unexpected")
	w.expect("withhold authenticator.refused", "dropped   unexpected")
	w.expect(plain("a", "n1"), "cseq=2")
}

func TestREG05FiveChallengedRefreshesCountTen(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare")
	want := uint32(0)
	for i := range 5 {
		w.do("wake")
		if i > 0 {
			w.do("offer") // from the nonce of the last time
		}
		w.do(stale("a", fmt.Sprint("n", i)), "offer", ok(60))
		want += 2
		if w.State.CSeq != want || w.State.CallID != "00000000000000000002" {
			t.Errorf("after refresh %d: CSeq %d of %s, want %d", i, w.State.CSeq, w.State.CallID, want)
		}
	}
}

func TestREG06NothingOvertakesARequest(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot")
	w.expect("refresh", "RefreshRequested")
	w.expect("slot", "dropped   busy")
	w.expect("fetch", "dropped   busy")
	w.expect("withdraw", "dropped   busy")
	w.do(ok(3600))
	w.within(0, 0) // the wish is still there
	w.expect("slot", "AttemptStarted{2 REGISTER cseq=2")
}

func TestREG06AFetchDoesNotSwallowARefresh(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("refresh", "fetch", "offer", "response 200")
	w.within(0, 0)
	w.expect("slot", "REGISTER")
}

func TestREG06AChangeDuringAnAttemptIsTriedAfterIt(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", "declare row=r2 expires=120s", ok(3600))
	w.within(0, 0)
	w.expect("slot", "REGISTER cseq=2 expires=120")
	// A request of the same chain that comes after the change knows of it.
	w.do("declare row=r2b expires=180s", plain("a", "n1"))
	w.expect("offer", "SendRequest")
	w.do(ok(120))
	w.within(time.Minute, 2*time.Minute)
	w.do("refresh")
	// Who answers challenges is no reason for another request.
	w.do("slot", "offer", "declare row=r3 expires=180s handler=tokens", ok(120), "timer")
	w.within(time.Minute, 2*time.Minute)
}

func TestREG10AFetchThatFailsSaysNothingAboutTheRegistration(t *testing.T) {
	for _, status := range []int{403, 404, 405, 423, 420, 480, 500, 503, 600} {
		w := registered(t, profile.Policy{})
		_, due, _ := w.State.Due()
		w.do("fetch", "offer", fmt.Sprint("response ", status))
		w.status("registered")
		if _, at, _ := w.State.Due(); !at.Equal(due) {
			t.Errorf("after %d to a fetch the refresh is at %s, want %s", status, at, due)
		}
	}
}

func TestREG10AFetchWithAWrongPasswordHalts(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("fetch", "offer", plain("a", "n2"), "offer")
	w.expect(plain("a", "n3"), "ProfileHalted", "credentials.refused")
}

func TestREG13NotListedMeansNotRegistered(t *testing.T) {
	for _, response := range []string{"response 200", "response 200\n Contact: sip:other;expires=3600", ok(0)} {
		w := registered(t, profile.Policy{})
		w.do("wake", "offer")
		w.expect(response, "binding.missing")
		w.status("backoff")
		if w.State.MayBeBound() {
			t.Error("the registrar has said that there is no binding")
		}
	}
}

func TestREG20RemovalTriesThreeTimes(t *testing.T) {
	for name, before := range map[string][]string{
		"from rest":                  nil,
		"while a request is out":     {"wake", "offer"},
		"after the refresh was lost": {"wake", "offer", "lost timeout"},
		"when halted":                {"wake", "offer", "response 403"},
		"a withdrawal was forbidden": {"disable", "slot", "offer", "response 403"},
	} {
		t.Run(name, func(t *testing.T) {
			w := registered(t, profile.Policy{})
			w.do(before...)
			w.do("remove by operator")
			if w.State.Attempt.Open {
				w.do("lost timeout")
			}
			tries := 0
			for ; !w.State.Gone && tries < 10; tries++ {
				w.do("wake")
				if w.Asked() != 0 {
					w.do("offer")
				}
				w.do("response 503")
			}
			if tries != 3 || !w.State.Gone {
				t.Errorf("forgotten (%t) after %d tries, want 3", w.State.Gone, tries)
			}
		})
	}
}

func TestREG20AnInterruptedWithdrawalGoesOn(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("wake", "offer", "response 403", "remove by operator", "slot", "crash")
	if w.State.Gone {
		t.Error("a restart is no reason to leave the binding behind")
	}
}

func TestREG20AnotherRegistrarInheritsNothing(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", "response 420\n Unsupported: path", "response 423\n Min-Expires: 7200")
	w.do(plain("a", "n1"), "offer", "response 403")
	w.expect("declare row=r2 registrar=other", "ProfileChanged") // nothing is bound
	s := w.State
	if s.CallID != "" || s.CSeq != 0 || s.MinSeconds != 0 || s.Unproven != 0 || len(s.Dropped)+len(s.Challenge.Realms) != 0 || s.Halted {
		t.Errorf("%+v", s)
	}
	w.expect("slot", "CallIDChosen", "cseq=1 expires=3600}")
}

func TestREG20ARemovalEndsTheFailuresBeforeIt(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("withdraw", "offer", "response 503", "withdraw", "offer", "response 200")
	w.do("slot", "lost target.unresolved")
	w.within(30*time.Second, time.Minute)
}

func TestREG20AHaltedProfileSurvivesItsWithdrawal(t *testing.T) {
	w := registered(t, profile.Policy{})
	w.do("wake", "offer", "response 403", "withdraw", "response 200")
	w.within(30*time.Minute, time.Hour)
	w.do("next", ok(3600))
	w.status("registered")
}

func TestREG23WhatWasCalledOffIsNotTriedAgain(t *testing.T) {
	for _, response := range []string{
		"response 423\n Min-Expires: 7200", "response 420\n Unsupported: path", "response 481",
		"response 302\n Contact: sip:one.example.test", plain("a", "n1"), proxy("p", "n1"),
	} {
		w := newWorld(t, profile.Policy{Targets: []string{"one.example.test"}})
		w.do("declare", "slot", "disable")
		w.do(response)
		if w.State.Attempt.Open {
			t.Errorf("%s: the registration goes on, though it was disabled", response)
		}
	}
}

func TestERR03OptionTagsThatWereRefusedStayAway(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", "response 420\n Unsupported: path", ok(60), "wake")
	w.expect("response 420\n Unsupported: outbound,path", "without path,outbound")
	w.do(ok(60))
	if got := strings.Join(w.State.Dropped, " "); got != "path outbound" {
		t.Errorf("dropped %q, want both", got)
	}
}

func TestERR05RetryAfterZeroIsAtOnceButOnce(t *testing.T) {
	w := newWorld(t, profile.Policy{})
	w.do("declare", "slot", "response 503\n Retry-After: 0")
	w.within(0, 0)
	w.do("slot", "response 503\n Retry-After: 0")
	w.within(30*time.Second, 120*time.Second)
}

func TestERR07RetryAfterLengthensAHalt(t *testing.T) {
	for _, status := range []int{403, 404, 413, 600, 603} {
		w := newWorld(t, profile.Policy{HaltBase: time.Minute})
		w.do("declare", "slot", fmt.Sprintf("response %d\n Retry-After: 1800", status))
		w.status("rejected")
		w.within(30*time.Minute, 33*time.Minute)
	}
}
