package muster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// tokens is an xSP that knows the passwords of newRegistrar.
type tokens struct {
	// preemptive lets it be asked before the first request.
	preemptive bool
	asked      atomic.Int64
	mu         sync.Mutex
	questions  []*messages.AuthChallenge
}

// Answer implements xsp.Authenticator.
func (x *tokens) Answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	n := x.asked.Add(1)
	x.mu.Lock()
	x.questions = append(x.questions, q)
	x.mu.Unlock()
	a := solve(q, fmt.Sprintf("cnonce-of-tokens-%d", n))
	a.Preemptive = x.preemptive
	return a, nil
}

// askedFor counts the questions about a profile.
func (x *tokens) askedFor(id string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, q := range x.questions {
		if q.GetProfileId() == id {
			n++
		}
	}
	return n
}

// solve computes the answer that newRegistrar expects.
func solve(q *messages.AuthChallenge, cnonce string) *messages.AuthAnswer {
	user := userOf(q.GetAor())
	credential := digest.Credential{Username: user, Password: messages.NewSecret("pw-" + user)}
	a, refusal := digest.Answer(q, credential, func(int, bool, string, string) string { return cnonce })
	if refusal != nil {
		panic(refusal.GetReason())
	}
	return a
}

// answeredBy are the profiles of the registrar "r" and the xSP "tokens", which
// answers for all of them.
func answeredBy(r *siptest.Registrar, x xsp.Authenticator, ids ...string) muster.Desired {
	config := target(r)
	config.RegistrationHandler = "tokens"
	return muster.Desired{
		Registrars: []actors.Registrar{config}, Profiles: rows(ids...),
		XSPs: []actors.XSP{{Name: "tokens", Authenticator: x}},
	}
}

// refreshOnce asks for an attempt and waits until it has succeeded.
func refreshOnce(t *testing.T, node *muster.Node, id string) {
	t.Helper()
	granted := func() int { return strings.Count(story(t, node, id), "registered (200)") }
	before := granted()
	if _, err := node.RefreshProfile(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, id+" is refreshed", func() bool { return granted() > before })
}

// TestWhoAnswersForAProfile: a profile's own handler goes before that of its
// registrar, and the API shows who would be asked.
func TestWhoAnswersForAProfile(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	first, second := &tokens{}, &tokens{}
	d := answeredBy(registrar, first, "plain", "digested", "other", "chained")
	d.XSPs = append(d.XSPs, actors.XSP{Name: "second", Authenticator: second}, actors.XSP{
		Name: "never", Authenticator: xsp.Func(func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			return nil, xsp.Refuse("not mine", 0)
		}),
	})
	for i, handler := range []string{"", "digest", "second", "never>digest"} {
		d.Profiles[i].RegistrationHandler = handler
	}
	node := startNode(t, muster.Options{Desired: d})
	waitState(t, node, actors.StateRegistered, "plain", "digested", "other", "chained")
	for id, want := range map[string]struct {
		handler       string
		first, second int
	}{
		"plain": {"tokens", 1, 0}, "digested": {"digest", 0, 0}, "other": {"second", 0, 1}, "chained": {"never>digest", 0, 0},
	} {
		if v := view(t, node, id); v.RegistrationHandler != want.handler || v.SessionHandler != "digest" {
			t.Errorf("%s: answered by %q and %q, want %q and digest", id, v.RegistrationHandler, v.SessionHandler, want.handler)
		}
		if a, b := first.askedFor(id), second.askedFor(id); a != want.first || b != want.second {
			t.Errorf("%s: tokens asked %d times and second %d times, want %d and %d", id, a, b, want.first, want.second)
		}
	}
	if text := story(t, node, "chained"); !strings.Contains(text, `"not mine"); "digest" is asked`) {
		t.Errorf("the history does not tell that the first handler declined:\n%s", text)
	}
	wantInvariants(t, registrar)
}

// TestSetSecurity: the handlers of a profile are changed while it runs, from
// the next attempt on and beyond a restart; a name that is not configured is
// refused.
func TestSetSecurity(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	x := &tokens{}
	d := answeredBy(registrar, x, "p0")
	d.Registrars[0].RegistrationHandler = ""
	options := muster.Options{DataDir: t.TempDir() + "/data", Desired: d}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, "p0")

	for handler, says := range map[string]string{
		"nobody": `"nobody" is not available`, "tokens>nobody": `"nobody" is not available`, "digest>": `"" is not available`,
		"tokens>tokens": "twice", "a>b>c>d>e": "chain of 5",
	} {
		for _, session := range []bool{false, true} {
			registrationHandler, sessionHandler, field := &handler, (*string)(nil), "registration_handler"
			if session {
				registrationHandler, sessionHandler, field = nil, &handler, "session_handler"
			}
			_, err := node.SetSecurity(t.Context(), "p0", registrationHandler, sessionHandler)
			if !errors.Is(err, actors.ErrInvalid) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), field) {
				t.Errorf("handler %q: %v, want %v that says %q about %s", handler, err, actors.ErrInvalid, says, field)
			}
		}
	}
	if _, err := node.SetSecurity(t.Context(), "stranger", new("tokens"), nil); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("an unknown profile: %v, want %v", err, actors.ErrNotFound)
	}
	if v := view(t, node, "p0"); v.RegistrationHandler != "digest" || v.SessionHandler != "digest" {
		t.Errorf("after what was refused: %q and %q answer, want digest", v.RegistrationHandler, v.SessionHandler)
	}

	v, err := node.SetSecurity(t.Context(), "p0", new("tokens"), nil)
	if err != nil || v.RegistrationHandler != "tokens" || v.SessionHandler != "digest" {
		t.Fatalf("%v: %q and %q answer, want tokens and digest", err, v.RegistrationHandler, v.SessionHandler)
	}
	if n := x.asked.Load(); n != 0 {
		t.Errorf("the xSP was asked %d times before the next attempt", n)
	}
	refreshOnce(t, node, "p0")
	if n := x.asked.Load(); n != 1 {
		t.Errorf("the xSP was asked %d times for one attempt", n)
	}
	stopNode(t, node)
	node = startNode(t, options)
	if v := view(t, node, "p0"); v.RegistrationHandler != "tokens" {
		t.Errorf("after a restart %q answers, want tokens", v.RegistrationHandler)
	}
	if v, err := node.SetSecurity(t.Context(), "p0", new(""), nil); err != nil || v.RegistrationHandler != "digest" {
		t.Errorf("%v: %q answers, want the registrar's digest", err, v.RegistrationHandler)
	}
	wantInvariants(t, registrar)
}

// TestReloadChangesXSPs: a reload adds, replaces and removes xSPs. What a
// profile of the API needs is not removed, and profiles of files change along.
func TestReloadChangesXSPs(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	old, next, added := &tokens{}, &tokens{}, &tokens{}
	with := func(handler string, xs ...actors.XSP) muster.Desired {
		d := answeredBy(registrar, old, "p0")
		d.Registrars[0].RegistrationHandler, d.XSPs = "", xs
		d.Profiles[0].RegistrationHandler = handler
		return d
	}
	desired := with("tokens", actors.XSP{Name: "tokens", Authenticator: old})
	var reloaded atomic.Pointer[muster.Desired]
	node := startNode(t, muster.Options{
		Desired: desired, Load: func(context.Context) (muster.Desired, error) { return *reloaded.Load(), nil },
	})
	reload := func(d muster.Desired) error {
		reloaded.Store(&d)
		return node.Reload(t.Context())
	}
	own := rows("own")[0]
	own.RegistrationHandler = "added"
	if _, err := node.AddProfile(t.Context(), own); !errors.Is(err, actors.ErrInvalid) || !strings.Contains(err.Error(), `"added" is not available`) {
		t.Errorf("a profile of an xSP that is not there: %v", err)
	}
	waitState(t, node, actors.StateRegistered, "p0")

	// Replaced, and another one added: no profile notices.
	requests := len(registrar.Requests())
	replaced := []actors.XSP{{Name: "tokens", Authenticator: next}, {Name: "added", Authenticator: added}}
	if err := reload(with("tokens", replaced...)); err != nil {
		t.Fatal(err)
	}
	if _, err := node.AddProfile(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	waitState(t, node, actors.StateRegistered, "own")
	if n := len(seenOf(registrar, "p0")); n != requests {
		t.Errorf("%d requests for p0 because of a reload of its xSP", n-requests)
	}
	refreshOnce(t, node, "p0")
	if a, b, c := old.asked.Load(), next.asked.Load(), added.asked.Load(); a != 1 || b != 1 || c != 1 {
		t.Errorf("asked %d, %d and %d times, want the old one, its successor and the added one once each", a, b, c)
	}

	// "own" needs "added", so it stays, and so does everything else.
	if err := reload(with("digest")); err == nil || !strings.Contains(err.Error(), "xsp.added: still used by 1 profiles") {
		t.Errorf("removed under a profile of the API: %v", err)
	}
	if v := view(t, node, "p0"); v.RegistrationHandler != "tokens" {
		t.Errorf("a refused reload gave p0 the handler %q", v.RegistrationHandler)
	}
	// A row that names what is not there is a mistake in the file.
	if err := reload(with("tokens", replaced[1])); err == nil || !strings.Contains(err.Error(), `"tokens" is not available`) {
		t.Errorf("a row without its xSP: %v", err)
	}
	if err := reload(with("digest", replaced[1])); err != nil {
		t.Fatal(err)
	}
	refreshOnce(t, node, "p0")
	refreshOnce(t, node, "own")
	if n := next.asked.Load(); n != 1 {
		t.Errorf("an xSP that was removed was asked %d times more", n-1)
	}
	if _, err := node.SetSecurity(t.Context(), "own", new("digest"), nil); err != nil {
		t.Fatal(err)
	}
	if err := reload(with("digest")); err != nil {
		t.Errorf("removed when nobody needs it: %v", err)
	}
	if views, err := node.XSPs(t.Context()); err != nil || len(views) != 0 {
		t.Errorf("left: %v %+v", err, views)
	}
	wantInvariants(t, registrar)
}

// keeper is an xSP that must remember how often it has answered.
type keeper struct {
	tokens
	vault xsp.Vault
	// found is what the vault held at the start.
	found []byte
}

const keptValue = "a value that the xSP keeps"

// Keep implements xsp.Keeper.
func (k *keeper) Keep(v xsp.Vault) (err error) {
	k.vault = v
	k.found, err = v.Get(context.Background(), "count")
	return err
}

// Answer implements xsp.Authenticator.
func (k *keeper) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	if err := k.vault.Put(ctx, "count", fmt.Appendf(nil, "%s: %s", keptValue, q.GetProfileId())); err != nil {
		return nil, err
	}
	return k.tokens.Answer(ctx, q)
}

// TestVaultSurvivesARestart: what an xSP keeps is its own, sealed, and there
// again after a restart.
func TestVaultSurvivesARestart(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	first, stranger := &keeper{}, &keeper{}
	d := answeredBy(registrar, first, "p0")
	d.XSPs = append(d.XSPs, actors.XSP{Name: "stranger", Authenticator: stranger})
	options := muster.Options{DataDir: t.TempDir() + "/data", Desired: d}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, "p0")
	if first.found != nil {
		t.Errorf("a new vault holds %q", first.found)
	}
	if other, err := stranger.vault.Get(t.Context(), "count"); err != nil || other != nil {
		t.Errorf("another xSP finds %q, %v", other, err)
	}
	stopNode(t, node)
	file, err := os.ReadFile(options.DataDir + "/journal.db")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(file, []byte("example.test")) || bytes.Contains(file, []byte(keptValue)) {
		t.Error("what an xSP keeps is not sealed")
	}
	again := &keeper{}
	options.XSPs = []actors.XSP{{Name: "tokens", Authenticator: again}, {Name: "stranger", Authenticator: &keeper{}}}
	node = startNode(t, options)
	if string(again.found) != keptValue+": p0" {
		t.Errorf("after a restart the vault holds %q", again.found)
	}
	refreshOnce(t, node, "p0")
	wantInvariants(t, registrar)
}

// TestTwoNodesWithXSPsOfOneName: the xSPs of two nodes in one process have
// nothing in common but their name.
func TestTwoNodesWithXSPsOfOneName(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	one, two := &keeper{}, &keeper{}
	left := startNode(t, muster.Options{Desired: answeredBy(registrar, one, "left")})
	right := startNode(t, muster.Options{Desired: answeredBy(registrar, two, "right")})
	waitState(t, left, actors.StateRegistered, "left")
	waitState(t, right, actors.StateRegistered, "right")
	for _, k := range []struct {
		node *muster.Node
		x    *keeper
		id   string
	}{{left, one, "left"}, {right, two, "right"}} {
		kept, err := k.x.vault.Get(t.Context(), "count")
		if err != nil || string(kept) != keptValue+": "+k.id || k.x.asked.Load() != 1 {
			t.Errorf("%s: asked %d times, keeps %q, %v", k.id, k.x.asked.Load(), kept, err)
		}
		views, err := k.node.XSPs(t.Context())
		if err != nil || len(views) != 1 || views[0].Answered != 1 {
			t.Errorf("%s: %v %+v", k.id, err, views)
		}
	}
	stopNode(t, left)
	refreshOnce(t, right, "right")
	wantInvariants(t, registrar)
}

// TestStopWithQuestionsOut: an xSP that never answers, and does not hear that
// nobody waits for it, does not hold a node that stops.
func TestStopWithQuestionsOut(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	released := make(chan struct{})
	defer close(released)
	var asked atomic.Int64
	d := answeredBy(registrar, xsp.Func(func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		asked.Add(1)
		<-released
		return nil, errors.New("nobody waits any more")
	}), numbered(20)...)
	d.XSPs[0].Timeout, d.XSPs[0].Concurrency = time.Minute, 5
	options := muster.Options{DataDir: t.TempDir() + "/data", StopLimit: limit, Desired: d}
	node := startNode(t, options)
	waitState(t, node, actors.StateChallenged, numbered(20)...)
	eventually(t, "as many questions as may be out are out", func() bool { return asked.Load() == 5 })
	views, err := node.XSPs(t.Context())
	if err != nil || views[0].InFlight != 5 || views[0].Waiting != 15 {
		t.Errorf("%v %+v, want 5 questions out and 15 waiting", err, views)
	}
	began := time.Now()
	if err := node.Stop(t.Context()); err != nil {
		t.Errorf("stop with questions out: %v", err)
	}
	if took := time.Since(began); took > limit+10*time.Second {
		t.Errorf("stop took %v, the limit is %v", took, limit)
	}
	// The next node begins again where the journal ends.
	x := &tokens{}
	options.XSPs = []actors.XSP{{Name: "tokens", Authenticator: x}}
	node = startNode(t, options)
	waitState(t, node, actors.StateRegistered, numbered(20)...)
	wantInvariants(t, registrar)
}

// TestS45_OnlyListedHeadersChange: what the configuration of an xSP lists
// arrives at the registrar; of an answer with anything else nothing does.
func TestS45_OnlyListedHeadersChange(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	arrived := map[string][]string{}
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, Behaviour: func(req *siptest.Request) *siptest.Reply {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range []string{"X-Token", "X-Other"} {
			for _, h := range req.Message.GetHeaders(name) {
				arrived[userOf(req.AOR)] = append(arrived[userOf(req.AOR)], name+": "+h.Value())
			}
		}
		return nil
	}})
	extra := map[string]string{"listed": "X-Token", "unlisted": "X-Other", "protected": "Contact"}
	d := answeredBy(registrar, xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		a := solve(q, "0123456789abcdef")
		a.Mutations = append(a.Mutations, &messages.HeaderMutation{
			Op: messages.Op_SET, Name: extra[q.GetProfileId()], Value: "for-" + q.GetProfileId(),
		})
		return a, nil
	}), "listed", "unlisted", "protected")
	d.XSPs[0].Headers = []string{"X-Token"}
	node := startNode(t, muster.Options{Desired: d})
	waitState(t, node, actors.StateRegistered, "listed")
	waitState(t, node, actors.StateBackoff, "unlisted", "protected")
	for id, says := range map[string]string{"listed": "with Authorization, X-Token", "unlisted": "X-Other", "protected": "Contact"} {
		if text := story(t, node, id); !strings.Contains(text, says) || strings.Contains(text, "for-"+id) {
			t.Errorf("%s: the history should say %q, and no value:\n%s", id, says, text)
		}
	}
	for _, id := range []string{"unlisted", "protected"} {
		if v := view(t, node, id); v.Reason != string(messages.ReasonMutation) {
			t.Errorf("%s: %s, want %s", id, v.Reason, messages.ReasonMutation)
		}
		if n := len(seenOf(registrar, id)); n != 1 {
			t.Errorf("%s: %d requests, want the one that was challenged", id, n)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(arrived) != 1 || !slices.Equal(arrived["listed"], []string{"X-Token: for-listed"}) {
		t.Errorf("arrived: %v", arrived)
	}
	wantInvariants(t, registrar)
}

// TestXSPIsNotAskedForAnotherRealm: a challenge of a realm that is not
// configured, or not the one that was seen first, reaches no xSP (S-01, S-02).
func TestXSPIsNotAskedForAnotherRealm(t *testing.T) {
	t.Parallel()
	var evil atomic.Bool
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, Behaviour: func(req *siptest.Request) *siptest.Reply {
		if userOf(req.AOR) != "lured" && !evil.Load() {
			return nil
		}
		return &siptest.Reply{Status: 401, Headers: []string{`WWW-Authenticate: Digest realm="evil.test", nonce="n", qop="auth"`}}
	}})
	x := &tokens{}
	d := answeredBy(registrar, x, "lured", "right", "pinned")
	strict := d.Registrars[0]
	strict.Name, strict.Realms = "strict", []string{"example.test"}
	d.Registrars = append(d.Registrars, strict)
	d.Profiles[0].Registrar, d.Profiles[1].Registrar = "strict", "strict"
	node := startNode(t, muster.Options{Desired: d})
	waitState(t, node, actors.StateRejected, "lured")
	waitState(t, node, actors.StateRegistered, "right", "pinned")
	evil.Store(true)
	if _, err := node.RefreshProfile(t.Context(), "pinned"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pinned is lured", func() bool { return view(t, node, "pinned").Reason != "" })
	for id, want := range map[string]int{"lured": 0, "right": 1, "pinned": 1} {
		if n := x.askedFor(id); n != want {
			t.Errorf("%s: asked %d times, want %d", id, n, want)
		}
	}
	for _, id := range []string{"lured", "pinned"} {
		if v := view(t, node, id); v.Reason != string(messages.ReasonRealm) {
			t.Errorf("%s: %s, want %s", id, v.Reason, messages.ReasonRealm)
		}
	}
}

// TestPreemptiveAnswers: an xSP that can be asked before the first request
// saves a round trip; one that did not say so is never asked early.
func TestPreemptiveAnswers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		preemptive bool
		requests   int
	}{"preemptive": {true, 1}, "not preemptive": {false, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registrar := newRegistrar(t, siptest.Options{Authenticate: true, CheckNC: true})
			x := &tokens{preemptive: want.preemptive}
			node := startNode(t, muster.Options{Desired: answeredBy(registrar, x, "p0")})
			waitState(t, node, actors.StateRegistered, "p0")
			for i := range 5 {
				before := len(seenOf(registrar, "p0"))
				refreshOnce(t, node, "p0")
				if n := len(seenOf(registrar, "p0")) - before; n != want.requests {
					t.Errorf("refresh %d: %d requests, want %d", i, n, want.requests)
				}
			}
			early := 0
			x.mu.Lock()
			defer x.mu.Unlock()
			for _, q := range x.questions {
				if q.GetStatusCode() == 0 {
					early++
				}
			}
			if len(x.questions) != 6 || early != 0 && !want.preemptive || early != 5 && want.preemptive {
				t.Errorf("%d of %d questions before the request", early, len(x.questions))
			}
			wantInvariants(t, registrar)
		})
	}
}

// TestAnswersInSteps: a procedure of several steps is challenged again, which
// means that credentials were refused only to those who do not say otherwise.
func TestAnswersInSteps(t *testing.T) {
	t.Parallel()
	var self atomic.Pointer[siptest.Registrar]
	var steps sync.Map // of each user
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, Behaviour: func(req *siptest.Request) *siptest.Reply {
		if !req.HadCredentials {
			return nil
		}
		n, _ := steps.LoadOrStore(userOf(req.AOR), new(atomic.Int64))
		if n.(*atomic.Int64).Add(1) > 2 {
			return nil
		}
		return &siptest.Reply{Status: 401, Headers: []string{"WWW-Authenticate: " + self.Load().Challenge("MD5", false)}}
	}})
	self.Store(registrar)
	var rounds sync.Map
	d := answeredBy(registrar, xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		a := solve(q, "0123456789abcdef")
		a.Continues = q.GetProfileId() == "steps" && q.GetRound() < 3
		if q.GetRejected() {
			rounds.Store("rejected "+q.GetProfileId(), true)
		}
		return a, nil
	}), "steps", "atonce")
	node := startNode(t, muster.Options{Desired: d})
	waitState(t, node, actors.StateRegistered, "steps")
	waitState(t, node, actors.StateRejected, "atonce")
	if n := len(seenOf(registrar, "steps")); n != 4 {
		t.Errorf("%d requests for three steps, want 4", n)
	}
	if text := story(t, node, "steps"); strings.Count(text, "another challenge is expected") != 2 {
		t.Errorf("the history does not tell of two steps more:\n%s", text)
	}
	if _, found := rounds.Load("rejected steps"); found {
		t.Error("a step was taken for a refusal")
	}
	if v := view(t, node, "atonce"); v.Reason != string(messages.ReasonRejectedCredentials) {
		t.Errorf("without steps: %s, want %s", v.Reason, messages.ReasonRejectedCredentials)
	}
	wantInvariants(t, registrar)
}
