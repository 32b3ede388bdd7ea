package usim_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/aka/akatest"
	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/usim"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

const (
	realm  = "ims.mnc001.mcc001.3gppnetwork.org"
	impi   = "001010000000001@" + realm
	keyK   = "465b5ce8b199b49faa5f0a2ee238a6bc"
	keyOP  = "cdc202d5123e20f62b6d676ac72cb318"
	keyOPc = "cd63cb71954a9f4e48a5994e37a02baf"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func keys(t testing.TB) aka.Keys {
	t.Helper()
	k, err := aka.KeysFromOPc(unhex(keyK), unhex(keyOPc))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newHSS(t testing.TB) *akatest.HSS {
	t.Helper()
	h, err := akatest.New(unhex(keyK), unhex(keyOPc))
	if err != nil {
		t.Fatal(err)
	}
	h.IMPI = impi
	return h
}

// memory is a vault. before is called at each write and may refuse it; after
// may report a failure of a write that took place.
type memory struct {
	mu            sync.Mutex
	values        map[string][]byte
	before, after func() error
	getErr        error
}

func newMemory() *memory { return &memory{values: map[string][]byte{}} }

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key], m.getErr
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	if m.before != nil {
		if err := m.before(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.values[key] = append([]byte(nil), value...)
	m.mu.Unlock()
	if m.after != nil {
		return m.after()
	}
	return nil
}

func provider(t testing.TB, v xsp.Vault, subscribers ...usim.Subscriber) *usim.Provider {
	t.Helper()
	if subscribers == nil {
		subscribers = []usim.Subscriber{{Profile: "alice", IMPI: impi, Keys: keys(t)}}
	}
	p, err := usim.New(usim.Options{Subscribers: subscribers})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Keep(v); err != nil {
		t.Fatal(err)
	}
	return p
}

// question asks for a REGISTER that was challenged with 401.
func question(t testing.TB, profile string, round uint32, raws ...string) *messages.AuthChallenge {
	t.Helper()
	q := &messages.AuthChallenge{
		Ref: "ref", ProfileId: profile, Aor: "sip:" + impi, Purpose: messages.Purpose_REGISTRATION, Method: "REGISTER",
		RequestUri: "sip:" + realm, StatusCode: 401, Round: round,
	}
	for i, raw := range raws {
		p, err := challenge.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		q.Challenges = append(q.Challenges, &messages.Challenge{
			Index: uint32(i), Space: messages.Space_ORIGIN, Scheme: p.Scheme, Realm: p.Realm(), NonceCount: 1, Params: p.Map(), Raw: raw,
		})
	}
	return q
}

// verdict asks, and lets the network judge: "ok", "resync", or what is wrong.
func verdict(t testing.TB, p *usim.Provider, h *akatest.HSS, q *messages.AuthChallenge) string {
	t.Helper()
	a, err := p.Answer(context.Background(), q)
	if err != nil {
		return err.Error()
	}
	value := a.GetMutations()[0].GetValue()
	ok, resynced, err := h.Verify(value, q.GetMethod())
	switch {
	case err != nil:
		return err.Error()
	case resynced:
		return "resync"
	case !ok:
		t.Fatal("neither right nor wrong")
	}
	info := challengeInfo(h.Info(value))
	if got := digest.VerifyInfo(info, a.GetProofs()); got != "verified" {
		t.Errorf("AKA-07: the network's proof is %q", got)
	}
	return "ok"
}

// challengeInfo reads an Authentication-Info as the adapter does.
func challengeInfo(value string) messages.AuthInfo {
	info := messages.AuthInfo{Space: messages.Space_ORIGIN}
	for part := range strings.SplitSeq(value, ", ") {
		name, v, _ := strings.Cut(part, "=")
		v = strings.Trim(v, `"`)
		switch name {
		case "rspauth":
			info.Rspauth = v
		case "cnonce":
			info.Cnonce = v
		case "nc":
			info.NC = v
		case "qop":
			info.QOP = v
		}
	}
	return info
}

func TestRegistrations(t *testing.T) {
	for _, algorithm := range []string{"AKAv1-MD5", "AKAv2-MD5", "AKAv1-SHA-256", "AKAv2-SHA-256"} {
		for _, qop := range []string{"", "auth", "auth-int"} {
			h, p := newHSS(t), provider(t, newMemory())
			h.NoQOP, h.QOP = qop == "", qop
			for i := range 5 {
				if got := verdict(t, p, h, question(t, "alice", 1, h.Challenge(realm, algorithm))); got != "ok" {
					t.Errorf("%s %q: registration %d: %s", algorithm, qop, i, got)
				}
			}
		}
	}
}

func TestUnknownSubscriber(t *testing.T) {
	_, err := provider(t, newMemory()).Answer(context.Background(), question(t, "bob", 1))
	refusal, refused := errors.AsType[*xsp.Refusal](err)
	if !refused || refusal.Reason != "no subscriber keys" || refusal.RetryAfter != 0 {
		t.Errorf("%v", err)
	}
}

func TestRefusalsAreRefusals(t *testing.T) {
	p := provider(t, newMemory(), usim.Subscriber{Profile: "alice", IMPI: impi, Keys: keys(t), V2Only: true})
	h := newHSS(t)
	for _, raw := range []string{`Digest realm="r", nonce="n", algorithm=MD5`, h.Challenge(realm, "AKAv1-SHA-256")} {
		_, err := p.Answer(context.Background(), question(t, "alice", 1, raw))
		if _, refused := errors.AsType[*xsp.Refusal](err); !refused {
			t.Errorf("S-12: %v to %.20s", err, raw)
		}
	}
	if got := verdict(t, p, h, question(t, "alice", 1, h.Challenge(realm, "AKAv2-MD5"))); got != "ok" {
		t.Error(got)
	}
}

func TestIMPIFromTheAOR(t *testing.T) {
	p, h := provider(t, newMemory(), usim.Subscriber{Profile: "alice", Keys: keys(t)}), newHSS(t)
	h.IMPI = "001010000000001"
	if got := verdict(t, p, h, question(t, "alice", 1, h.Challenge(realm, "AKAv1-MD5"))); got != "ok" {
		t.Error(got)
	}
}

// AKA-08:
// TestAKA08DurableBeforeTheAnswer looks into the vault at the moment when the
// answer is there, and when the write fails.
func TestAKA08DurableBeforeTheAnswer(t *testing.T) {
	h, v := newHSS(t), newMemory()
	p := provider(t, v)
	broken := errors.New("disk full")
	ask := func() (*messages.AuthAnswer, error) {
		return p.Answer(context.Background(), question(t, "alice", 1, h.Challenge(realm, "AKAv1-MD5")))
	}
	v.before = func() error { return broken }
	if a, err := ask(); a != nil || !errors.Is(err, broken) {
		t.Fatalf("answered without a vault: %v, %v", a, err)
	}
	v.before, v.getErr = nil, broken
	if a, err := ask(); a != nil || !errors.Is(err, broken) {
		t.Fatalf("answered without a state: %v, %v", a, err)
	}
	v.getErr = nil
	writes := 0
	v.before = func() error { writes++; return nil }
	if _, err := ask(); err != nil || writes != 1 {
		t.Fatalf("%d writes, %v", writes, err)
	}
	var state aka.State
	if err := state.UnmarshalBinary(v.values["usim/"+keys(t).ID()]); err != nil {
		t.Fatal(err)
	}
	if seq, ind := h.SQN()>>5, h.SQN()%32; state.SEQ[ind] != seq {
		t.Errorf("the vault holds SEQ %d, the answer used up %d", state.SEQ[ind], seq)
	}
}

// AKA-08:
// TestAKA08CrashBetweenPutAndAnswer: the AUTN is used up, although nobody saw
// the answer; the network resynchronises and goes on.
func TestAKA08CrashBetweenPutAndAnswer(t *testing.T) {
	h, v := newHSS(t), newMemory()
	first := h.Challenge(realm, "AKAv2-MD5")
	v.after = func() error { return errors.New("the power went out") }
	if a, err := provider(t, v).Answer(context.Background(), question(t, "alice", 1, first)); err == nil {
		t.Fatalf("answered: %v", a)
	}
	v.after = nil
	restarted := provider(t, v)
	// Also in a later round: the memory of the chain is gone.
	if got := verdict(t, restarted, h, question(t, "alice", 2, first)); got != "resync" {
		t.Fatalf("the same AUTN after the crash: %s", got)
	}
	if got := verdict(t, restarted, h, question(t, "alice", 2, h.Challenge(realm, "AKAv2-MD5"))); got != "ok" {
		t.Errorf("after the resynchronisation: %s", got)
	}
}

// AKA-03:
// TestAKA03TheNetworkFellBehind: a network restored from an old backup, and
// one that ran ahead, learn the right sequence number from auts.
func TestAKA03TheNetworkFellBehind(t *testing.T) {
	h, p := newHSS(t), provider(t, newMemory())
	h.SetSQN(1000 << 5)
	var got []string
	ask := func(round uint32) {
		got = append(got, verdict(t, p, h, question(t, "alice", round, h.Challenge(realm, "AKAv1-MD5"))))
	}
	ask(1)
	h.SetSQN(7 << 5) // the same IND with a lower SEQ
	ask(1)
	ask(2)
	h.SetSQN(1 << 47) // far beyond what a USIM believes
	ask(1)
	ask(2)
	if diff := cmp.Diff([]string{"ok", "resync", "ok", "resync", "ok"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestChainThroughAProxy: the proxy's 407 is answered, then the registrar's 401,
// and the request that answers both satisfies both.
func TestChainThroughAProxy(t *testing.T) {
	h, p := newHSS(t), provider(t, newMemory())
	proxy := h.Challenge("proxy", "AKAv2-MD5")
	first := question(t, "alice", 1, proxy)
	first.StatusCode, first.Challenges[0].Space = 407, messages.Space_PROXY
	second := question(t, "alice", 2, proxy, h.Challenge(realm, "AKAv1-SHA-256"))
	second.Challenges[0].Space, second.Challenges[0].NonceCount = messages.Space_PROXY, 2
	for _, q := range []*messages.AuthChallenge{first, second} {
		a, err := p.Answer(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.GetMutations()) != len(q.GetChallenges()) {
			t.Fatalf("%d headers for %d challenges", len(a.GetMutations()), len(q.GetChallenges()))
		}
		for _, m := range a.GetMutations() {
			if ok, _, err := h.Verify(m.GetValue(), "REGISTER"); !ok {
				t.Errorf("round %d, %s: %v", q.GetRound(), m.GetName(), err)
			}
		}
	}
}

// AKA-04.
func TestAKA04ACrashLoopIsNotAnsweredForEver(t *testing.T) {
	h, v := newHSS(t), newMemory()
	h.WrongMAC = true
	var got []string
	for range 4 {
		got = append(got, verdict(t, provider(t, v), h, question(t, "alice", 1, h.Challenge(realm, "AKAv1-MD5"))))
	}
	h.WrongMAC = false
	got = append(got, verdict(t, provider(t, v), h, question(t, "alice", 1, h.Challenge(realm, "AKAv1-MD5"))))
	empty, refused := akatest.ErrMACFailure.Error(), "refused: "+aka.ReasonInvalid
	if diff := cmp.Diff([]string{empty, empty, refused, refused, "ok"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// AKA-08.
func TestAKA08ADamagedStateIsNotReplaced(t *testing.T) {
	h, v := newHSS(t), newMemory()
	p := provider(t, v)
	key := "usim/" + keys(t).ID()
	for name, stored := range map[string][]byte{"unknown version": {2, 0, 0, 0, 0, 0}, "empty": {}, "cut": {1, 0}} {
		v.values[key] = stored
		a, err := p.Answer(context.Background(), question(t, "alice", 1, h.Challenge(realm, "AKAv1-MD5")))
		if a != nil || !errors.Is(err, aka.ErrState) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
		if diff := cmp.Diff(stored, v.values[key]); diff != "" {
			t.Errorf("%s: the state was replaced", name)
		}
	}
}

// TestOneUSIMForTwoProfiles: public identities of one subscription share the
// sequence numbers, and one answers at a time.
func TestOneUSIMForTwoProfiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, v := newHSS(t), newMemory()
		p := provider(t, v,
			usim.Subscriber{Profile: "alice", IMPI: impi, Keys: keys(t)}, usim.Subscriber{Profile: "bob", IMPI: impi, Keys: keys(t)})
		replay := func() string { return h.ChallengeWith(realm, "AKAv1-MD5", aka.Rand{1}, 1<<5) }
		if got := verdict(t, p, h, question(t, "alice", 1, replay())); got != "ok" {
			t.Fatal(got)
		}
		entered, release := make(chan struct{}), make(chan struct{})
		v.before = func() error { entered <- struct{}{}; <-release; return nil }
		done := make(chan string, 1)
		h.SetSQN(1 << 5)
		next := question(t, "alice", 1, h.Challenge(realm, "AKAv1-MD5"))
		go func() { done <- verdict(t, p, h, next) }()
		<-entered
		ctx, cancel := context.WithCancel(context.Background())
		waiting := make(chan error, 1)
		go func() {
			_, err := p.Answer(ctx, question(t, "bob", 1, replay()))
			waiting <- err
		}()
		synctest.Wait()
		cancel() // its deadline
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("bob does not wait for alice's write: %v", err)
		}
		close(release)
		if got := <-done; got != "ok" {
			t.Error(got)
		}
		v.before = nil
		if got := verdict(t, p, h, question(t, "bob", 1, replay())); got != "resync" {
			t.Errorf("what alice used up: %s for bob", got)
		}
	})
}

// TestConcurrentQuestions is for the race detector: many profiles, each with a
// network of its own, and all of them with one USIM.
func TestConcurrentQuestions(t *testing.T) {
	var subscribers []usim.Subscriber
	for i := range 16 {
		subscribers = append(subscribers, usim.Subscriber{Profile: fmt.Sprint("p", i), IMPI: impi, Keys: keys(t)})
	}
	h, p := newHSS(t), provider(t, newMemory(), subscribers...)
	var wg sync.WaitGroup
	for i := range subscribers {
		wg.Go(func() {
			for range 20 {
				q := question(t, fmt.Sprint("p", i), 1, h.Challenge(realm, "AKAv1-MD5"))
				a, err := p.Answer(context.Background(), q)
				if err != nil {
					t.Error(err)
					return
				}
				// Vectors overtake each other; within 32 of them each is fresh.
				if ok, resynced, err := h.Verify(a.GetMutations()[0].GetValue(), "REGISTER"); !ok && !resynced {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNewNamesAllFaults(t *testing.T) {
	_, err := usim.New(usim.Options{Subscribers: []usim.Subscriber{
		{Keys: keys(t)}, {Profile: "a"}, {Profile: "b", IMPI: "x:y", Keys: keys(t)}, {Profile: "c", Keys: keys(t)}, {Profile: "c", Keys: keys(t)},
	}})
	want := "subscriber 1: profile: is missing\nsubscriber 2: keys: are missing\nsubscriber 3: impi: has a colon\nsubscriber 5: profile: is there already"
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	p, err := usim.New(usim.Options{Subscribers: []usim.Subscriber{{Profile: "a", Keys: keys(t)}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Answer(context.Background(), question(t, "a", 1)); err == nil || p.Keep(nil) == nil {
		t.Error("works without a vault")
	}
}
