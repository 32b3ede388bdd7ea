package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// solve computes the digest that the fake registrar expects, as an xSP would.
func solve(q *messages.AuthChallenge) *messages.AuthAnswer {
	user := strings.TrimSuffix(strings.TrimPrefix(q.GetAor(), "sip:"), "@example.test")
	credential := digest.Credential{Username: user, Password: messages.NewSecret("pw-" + user)}
	answer, refusal := digest.Answer(q, credential, func(int, bool, string, string) string { return "0123456789abcdef" })
	if refusal != nil {
		panic(refusal.GetReason())
	}
	answer.Preemptive = true
	return answer
}

var solver = xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	return solve(q), nil
})

// TestXSPAnswersForADay: an xSP in the place of the DigestActor gives the same
// day, request by request.
func TestXSPAnswersForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: "tokens"})
		w.xsps = []XSP{{Name: "tokens", Authenticator: solver}}
		w.start()
		const profiles = 20
		w.declare(profiles)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: profiles})
		if n := w.registrar.seen(); n != 2*profiles {
			t.Errorf("%d requests to register %d profiles, want 2 each", n, profiles)
		}
		time.Sleep(24 * time.Hour)
		w.wantStates(map[string]int{StateRegistered: profiles})
		answered := w.observer.asked("tokens", outcomeAnswered)
		if requests := w.registrar.seen(); answered != requests-profiles {
			t.Errorf("%d requests and %d answers; want an answer for each but the first of a profile", requests, answered)
		}
		if n := w.observer.asked("digest", outcomeAnswered); n != 0 {
			t.Errorf("the DigestActor answered %d times for profiles of an xSP", n)
		}
		w.registrar.check()
		w.stop()
	})
}

var huge = strings.Repeat("x", 16<<20)

// misbehave are the ways in which an xSP can fail. Each gets the xSP's own way
// to answer well.
var misbehave = map[string]xsp.Func{
	"hangs": func(ctx context.Context, _ *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	},
	"ignores its deadline": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		time.Sleep(10 * time.Second)
		return solve(q), nil
	},
	"panics": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) { panic("canary") },
	"fails": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return nil, errors.New("down")
	},
	"nothing": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) { return nil, nil },
	"empty": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return &messages.AuthAnswer{}, nil
	},
	"garbage": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return nil, fmt.Errorf("%w: not JSON", xsp.ErrMalformed)
	},
	"another question": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		a := solve(q)
		a.Ref = strings.Repeat("0", 32)
		return a, nil
	},
	"another header": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		a := solve(q)
		a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: messages.Op_SET, Name: "m", Value: "<sip:evil.test>"})
		return a, nil
	},
	"a second line": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		a := solve(q)
		a.Mutations[0].Value += "\r\nContact: <sip:evil.test>"
		return a, nil
	},
	"16 MB": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		a := solve(q)
		a.Mutations[0].Value = huge
		return a, nil
	},
}

// roundTrip is how long the registrar takes to answer.
const roundTrip = 20 * time.Millisecond

// TestS44_AFaultyXSPHurtsNobodyElse: whatever an xSP does, the profiles beside
// it register in the same time, but for one round trip in which the retry of one
// of its own profiles may have a slot. Its own profiles have a reason and a next
// try, its breaker opens and, once it works again, closes.
func TestS44_AFaultyXSPHurtsNobodyElse(t *testing.T) {
	const beside, own = 50, 30
	alone := besides(t, beside, 0, nil)
	for name, fault := range misbehave {
		t.Run(name, func(t *testing.T) {
			took := besides(t, beside, own, fault)
			for i := range took {
				if took[i] > alone[i]+roundTrip {
					t.Fatalf("number %d beside the xSP registers at %v, without it at %v", i, took[i], alone[i])
				}
			}
		})
	}
}

// besides registers profiles beside those of a faulty xSP and returns when each
// was registered.
func besides(t *testing.T, beside, own int, fault xsp.Func) (took []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		// Without a limit of pace, which all profiles of a target share by
		// right; the concurrency is what a slow xSP could take away.
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: -1, Concurrency: 10, RetryBase: time.Second})
		w.registrar.set(func(r *fakeRegistrar) { r.delay = roundTrip })
		broken := true
		auth := xsp.Func(func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			if w.flag(&broken) {
				return fault(ctx, q)
			}
			return solve(q), nil
		})
		w.xsps = []XSP{{Name: "faulty", Authenticator: auth, Concurrency: 5}}
		w.start()
		if own > 0 {
			w.declareFor("f", own, "faulty")
			time.Sleep(time.Minute)
		}
		start := time.Now()
		w.declareFor("p", beside, "")
		time.Sleep(10 * time.Second)
		for i := range beside {
			entries, err := w.farm.History(t.Context(), fmt.Sprintf("p%d", i), 0, 100)
			if err != nil || entries[0].Type != "BindingGranted" {
				t.Fatalf("p%d is not registered: %v %v", i, err, entries)
			}
			took = append(took, entries[0].At.Sub(start))
		}
		slices.Sort(took)
		if own > 0 {
			w.faulty(own)
		}
		w.setFlag(&broken, false)
		time.Sleep(time.Hour)
		w.wantStates(map[string]int{StateRegistered: beside + own})
		if own > 0 && w.observer.breaker("faulty", "up") == 0 {
			t.Error("the breaker did not close again")
		}
		w.registrar.check()
		w.stop()
	})
	return took
}

// TestS44_TenThousandFaultyCalls: xSPs that fail in every way, more than ten
// thousand times, and a thousand profiles beside them that are refreshed all
// the while: the 99th percentile of their times is that of a run without.
func TestS44_TenThousandFaultyCalls(t *testing.T) {
	run := func(own int) (p99 time.Duration, faulty int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Registrar{
				Name: "r", URI: "sip:registrar.test", Rate: -1, Concurrency: 50,
				Expires: 30 * time.Second, RetryBase: time.Second, RetryMax: 2 * time.Second,
			})
			w.registrar.set(func(r *fakeRegistrar) { r.delay = 20 * time.Millisecond })
			var broken atomic.Int64
			for name, fault := range misbehave {
				// Every fifth call is good, so that the breakers are closed most of
				// the time and the faults reach us.
				var calls atomic.Int64
				auth := xsp.Func(func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
					if calls.Add(1)%5 == 0 {
						return solve(q), nil
					}
					broken.Add(1)
					return fault(ctx, q)
				})
				w.xsps = append(w.xsps, XSP{Name: strings.ReplaceAll(name, " ", "-"), Authenticator: auth, Concurrency: 5})
			}
			w.start()
			for _, x := range w.xsps {
				w.declareFor(x.Name, own, x.Name)
			}
			const beside = 1000
			w.declareFor("p", beside, "")
			time.Sleep(100 * time.Second)
			var took []time.Duration
			for i := range beside {
				entries, err := w.farm.History(t.Context(), fmt.Sprintf("p%d", i), 0, 1000)
				if err != nil {
					t.Fatal(err)
				}
				granted := time.Time{}
				for _, e := range entries { // newest first
					switch {
					case e.Type == "BindingGranted":
						granted = e.At
					case e.Type == "AttemptStarted" && !granted.IsZero() && strings.Contains(e.Text, " registers "):
						if !strings.Contains(e.Text, "(use 1 of") { // the answer of a chain that began before
							took = append(took, granted.Sub(e.At))
							granted = time.Time{}
						}
					case e.Type == "AttemptFailed" || e.Type == "ProfileHalted":
						t.Errorf("p%d: %s", i, e.Text)
					}
				}
			}
			if len(took) < 3*beside {
				t.Errorf("%d registrations of %d profiles", len(took), beside)
			}
			slices.Sort(took)
			p99 = took[len(took)*99/100]
			faulty = int(broken.Load())
			w.registrar.check()
			w.stop()
			time.Sleep(10 * time.Second) // until the last one that ignores its deadline has returned
		})
		return p99, faulty
	}
	without, _ := run(0)
	with, faulty := run(60)
	t.Logf("%d faulty calls; 99th percentile %v without them, %v with", faulty, without, with)
	if faulty < 10_000 {
		t.Errorf("%d faulty calls, want 10,000", faulty)
	}
	if with > without+without/10 {
		t.Errorf("99th percentile of the profiles beside: %v, without faults %v", with, without)
	}
}

func (w *world) flag(b *bool) bool       { w.mu.Lock(); defer w.mu.Unlock(); return *b }
func (w *world) setFlag(b *bool, v bool) { w.mu.Lock(); defer w.mu.Unlock(); *b = v }

// faulty checks what is left of the profiles of an xSP that does not work.
func (w *world) faulty(own int) {
	w.t.Helper()
	for i := range own {
		v, err := w.farm.Profile(w.t.Context(), fmt.Sprintf("f%d", i))
		if err != nil || v.State == StateRegistered || v.NextAttemptAt == nil && v.Attempt > 0 && !v.Waiting && v.State == StateBackoff {
			w.t.Errorf("f%d: %v %+v", i, err, v)
		}
		entries, _ := w.farm.History(w.t.Context(), v.ID, 0, 100)
		for _, e := range entries {
			if strings.Contains(e.Text, "canary") || strings.Contains(e.Text, "response=") {
				w.t.Errorf("S-45: the history shows %q", e.Text)
			}
		}
	}
	if w.observer.breaker("faulty", "down") == 0 {
		w.t.Error("the breaker did not open")
	}
}

// TestS41_S43_AnAnswerCountsOnceAndFromWhomWasAsked: late, second and foreign
// answers change nothing, and no message of an xSP makes a profile send.
func TestS41_S43_AnAnswerCountsOnceAndFromWhomWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: "act"})
		var asked []*messages.AuthChallenge
		w.xsps = []XSP{{Name: "act", Actor: actor.PropsFromFunc(func(ctx actor.Context) {
			q, ok := ctx.Message().(*messages.AuthChallenge)
			if !ok {
				return
			}
			w.mu.Lock()
			asked = append(asked, q)
			first := len(asked) == 1
			w.mu.Unlock()
			if first {
				panic("canary") // it is restarted, and the question lapses
			}
			ctx.Respond(&messages.AuthAnswer{Ref: "guessed", Mutations: solve(q).GetMutations()})
			ctx.Respond(solve(q))
			ctx.Respond(&messages.AuthRefusal{Ref: q.GetRef(), Refusal: &messages.Refusal{Reason: "second"}})
		})}}
		w.start()
		w.declare(1)
		time.Sleep(2 * time.Second)
		// Somebody who learns the profile's PID and the reference can send what
		// he likes: only this package makes verdicts.
		shard := fmt.Sprintf("shard-%04d", Shard("p0"))
		for i := range 5 {
			pid := actor.NewPID(w.farm.system.Address(), fmt.Sprintf("%s/p0$%d", shard, i))
			w.mu.Lock()
			forged := solve(asked[0])
			w.mu.Unlock()
			w.farm.root.Send(pid, forged)
			w.farm.root.Send(pid, &messages.AuthRefusal{Ref: forged.GetRef()})
		}
		w.wantStates(map[string]int{StateChallenged: 1})
		time.Sleep(2 * time.Second)
		w.wantStates(map[string]int{StateBackoff: 1})
		time.Sleep(2 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 1})
		if n, late := w.observer.asked("act", outcomeAnswered), w.observer.asked("act", outcomeTimeout); n != 1 || late != 1 {
			t.Errorf("%d answered, %d timeouts, want 1 each", n, late)
		}
		w.registrar.check()
		w.stop()
	})
}

// TestXSPChainFallsThroughToDigest: the next handler is asked when one refuses
// for good, and what the history tells of it.
func TestXSPChainFallsThroughToDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: "tokens>digest"})
		w.xsps = []XSP{{Name: "tokens", Authenticator: xsp.Func(func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			return nil, xsp.Refuse("unknown subscriber\r\n", 0)
		})}}
		w.start()
		w.declare(3)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 3})
		entries, err := w.farm.History(t.Context(), "p0", 0, 10)
		if err != nil || !slices.ContainsFunc(entries, func(e HistoryEntry) bool {
			return e.Type == "CredentialsDeclined" && strings.Contains(e.Text, `"unknown subscriber??"`) && strings.Contains(e.Text, `"digest" is asked`)
		}) {
			t.Errorf("history: %v %+v", err, entries)
		}
		views, err := w.farm.Registrars(t.Context())
		if err != nil || views[0].Answers["tokens"].Refused != 3 || views[0].Answers["digest"].Answered != 3 {
			t.Errorf("registrar: %v %+v", err, views)
		}
		w.stop()
	})
}

// TestSecurityIsChangedAtRunTime: from the next attempt on.
func TestSecurityIsChangedAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.xsps = []XSP{{Name: "tokens", Authenticator: solver}}
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		tokens, none := "tokens", ""
		v, err := w.farm.Do(t.Context(), "p0", profile.SetSecurity{Registration: &tokens})
		if err != nil || v.RegistrationHandler != "tokens" || v.SessionHandler != "digest" || v.State != StateRegistered {
			t.Errorf("%v %+v", err, v)
		}
		time.Sleep(time.Hour)
		if n := w.observer.asked("tokens", outcomeAnswered); n == 0 {
			t.Error("the xSP was not asked for the refresh")
		}
		if v, err := w.farm.Do(t.Context(), "p0", profile.SetSecurity{Registration: &none}); err != nil || v.RegistrationHandler != "digest" {
			t.Errorf("%v %+v", err, v)
		}
		w.stop()
	})
}

// TestXSPIsReplacedAndRemoved: a reload changes the xSP under its profiles.
func TestXSPIsReplacedAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: "tokens", RetryBase: time.Second, RetryMax: time.Minute})
		w.xsps = []XSP{{Name: "tokens", Authenticator: misbehave["hangs"], Timeout: 20 * time.Second}}
		w.start()
		w.declare(1)
		time.Sleep(time.Second)
		if err := w.farm.SetXSPs([]XSP{{Name: "tokens", Authenticator: solver}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 1})
		if err := w.farm.SetXSPs(nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 1})
		time.Sleep(20 * time.Minute)
		w.wantStates(map[string]int{StateBackoff: 1})
		if v, _ := w.farm.Profile(t.Context(), "p0"); v.Reason != string(messages.ReasonHandler) {
			t.Errorf("reason %q", v.Reason)
		}
		w.stop()
	})
}

// TestASlowXSPLeavesTheRegistrarToOthers: while an xSP thinks, others use the
// registrar's slots; its own answers still come in time.
func TestASlowXSPLeavesTheRegistrarToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: -1, Concurrency: 10})
		w.registrar.set(func(r *fakeRegistrar) { r.delay = 20 * time.Millisecond })
		w.xsps = []XSP{{Name: "slow", Timeout: 5 * time.Second, Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			time.Sleep(3 * time.Second)
			return solve(q), nil
		})}}
		w.start()
		w.declareFor("a", 100, "slow")
		w.declareFor("p", 100, "")
		time.Sleep(2 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 100, StateChallenged: 100})
		time.Sleep(2 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 200})
		w.registrar.check()
		w.stop()
	})
}

// TestAnAnswerIsGoodForOneRequest: a 423 after an answer makes another request,
// which begins without the credentials of the one before (S-22).
func TestAnAnswerIsGoodForOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: "once"})
		w.registrar.set(func(r *fakeRegistrar) { r.least = 7200 })
		w.xsps = []XSP{{Name: "once", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			a := solve(q)
			a.Preemptive = false
			return a, nil
		})}}
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		if n := w.registrar.seen(); n != 4 {
			t.Errorf("%d requests, want 4: challenged, too brief, challenged again, registered", n)
		}
		w.registrar.check()
		w.stop()
	})
}

// TestXSPAndDigestShareFewSlots: a mixed fleet with fewer slots than profiles
// does not stand in its own way.
func TestXSPAndDigestShareFewSlots(t *testing.T) {
	for _, concurrency := range []int{2, 20} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: -1, Concurrency: concurrency})
			w.registrar.set(func(r *fakeRegistrar) { r.delay = 300 * time.Millisecond })
			w.xsps = []XSP{{Name: "x", Authenticator: after(150 * time.Millisecond)}}
			w.start()
			w.declareFor("x", 20*concurrency, "x")
			w.declareFor("d", 40*concurrency, "")
			time.Sleep(time.Minute)
			w.wantStates(map[string]int{StateRegistered: 60 * concurrency})
			w.registrar.check()
			w.stop()
		})
	}
}

// after is an xSP that takes its time.
func after(d time.Duration) xsp.Func {
	return func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		time.Sleep(d)
		return solve(q), nil
	}
}

// TestPausedAttemptsLoseNoSlots: attempts that end while they wait to go on.
func TestPausedAttemptsLoseNoSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: -1, Concurrency: 5, RetryBase: time.Second})
		w.xsps = []XSP{{Name: "slow", Authenticator: after(2 * time.Second)}}
		w.start()
		w.declareFor("x", 10, "slow")
		time.Sleep(time.Second)
		w.registrar.set(func(r *fakeRegistrar) { r.unavailable = 5 * time.Minute })
		w.declareFor("d", 1, "")
		time.Sleep(500 * time.Millisecond)
		w.registrar.set(func(r *fakeRegistrar) { r.unavailable = 0 })
		time.Sleep(6 * time.Minute)
		open := 0
		_ = w.farm.visitAll(t.Context(), func(e *entry) {
			if e.state().Attempt.Open {
				open++
			}
		})
		if v := w.farm.gateViews()["r"]; v.inFlight > open {
			t.Errorf("%d slots are taken for %d open attempts", v.inFlight, open)
		}
		time.Sleep(10 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 11})
		w.registrar.check()
		w.stop()
	})
}

// TestShutdownWaitsForXSPs: with bindings to remove, a question that is out is
// waited for first.
func TestShutdownWaitsForXSPs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: -1, RegistrationHandler: "slow"})
		w.xsps = []XSP{{Name: "slow", Authenticator: after(time.Second)}}
		w.start()
		w.declare(5)
		time.Sleep(10 * time.Second)
		for i := range 5 {
			if _, err := w.farm.Do(t.Context(), fmt.Sprintf("p%d", i), profile.Refresh{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 33*time.Second)
		defer cancel()
		w.farm.Stop(ctx, true)
		if n := w.registrar.held(); n != 0 {
			t.Errorf("%d bindings are left at the registrar", n)
		}
		time.Sleep(2 * time.Second)
	})
}

// TestDeadTargetSeesFewProbesOfXSPProfiles: the breaker of a registrar works
// the same for profiles whose xSP is asked first.
func TestDeadTargetSeesFewProbesOfXSPProfiles(t *testing.T) {
	requests := map[string]int{}
	for _, handler := range []string{"digest", "x"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: handler})
			w.xsps = []XSP{{Name: "x", Authenticator: after(10 * time.Millisecond)}}
			w.start()
			w.declare(100)
			time.Sleep(10 * time.Second)
			w.registrar.set(func(r *fakeRegistrar) { r.silent, r.requests = true, 0 })
			time.Sleep(2 * time.Hour)
			requests[handler] = w.registrar.seen()
			w.stop()
		})
	}
	if requests["x"] > requests["digest"]*3/2 {
		t.Errorf("requests into an outage: %v", requests)
	}
}

// TestARefusedEarlyQuestionCostsOneRequest: nobody has asked yet, so a refusal
// of an early question rejects nothing; the 401 asks whom it concerns.
func TestARefusedEarlyQuestionCostsOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RegistrationHandler: "digest>cards"})
		w.secrets["p0"] = Credential{}
		w.xsps = []XSP{{Name: "cards", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			if q.GetStatusCode() == 0 {
				return nil, xsp.Refuse("only fresh challenges", 0)
			}
			a := solve(q)
			a.Preemptive = false
			return a, nil
		})}}
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		for range 24 * 60 {
			time.Sleep(time.Minute)
			if s, _, err := w.farm.State(t.Context(), "p0"); err != nil || !s.Bound() {
				t.Fatalf("not bound: %v %s", err, s.Reason)
			}
		}
		w.registrar.check()
		w.stop()
	})
}

// TestXSPGate: concurrency, one question per profile, the bounded queue and the
// breaker.
func TestXSPGate(t *testing.T) {
	ask := func(id string) *asking { return &asking{question: &messages.AuthChallenge{ProfileId: id}} }
	g := newXSPGate(XSP{Concurrency: 2, Waiting: 2})
	now := epoch
	a, again, b, c := ask("a"), ask("a"), ask("b"), ask("c")
	for _, q := range []*asking{a, again} {
		if why := g.take(now, q); why != "" {
			t.Fatal(why)
		}
	}
	if g.next(now) != a || g.next(now) != nil {
		t.Fatal("one question per profile may be out")
	}
	_ = g.take(now, b)
	if g.next(now) != b || g.next(now) != nil || g.out != 2 {
		t.Fatal("two questions may be out")
	}
	_ = g.take(now, c)
	if g.take(now, ask("d")) == "" {
		t.Fatal("the queue is full, and takes one more")
	}
	g.free(a)
	if g.next(now) != again {
		t.Fatal("the profile's next question goes once the first has ended")
	}
	g.free(again)
	g.free(b)
	g.next(now)
	g.free(c)

	for range xspFailures {
		if g.open {
			t.Fatal("the breaker opens too early")
		}
		g.failed(now, ask("x"), 1)
	}
	if !g.open || g.take(now, ask("x")) == "" {
		t.Fatal("the breaker does not open")
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		wait := time.Duration(seconds) * time.Second
		now = now.Add(wait - time.Millisecond)
		if g.take(now, ask("x")) == "" {
			t.Fatalf("a probe goes before %s", wait)
		}
		now = now.Add(time.Millisecond)
		probe := ask("x")
		if g.take(now, probe) != "" || g.next(now) != probe || g.take(now, ask("y")) == "" {
			t.Fatalf("after %s one probe goes, and nothing else", wait)
		}
		g.failed(now, probe, 1)
		g.free(probe)
	}
	g.succeeded()
	if g.open || g.take(now, ask("x")) != "" {
		t.Fatal("an answer closes the breaker")
	}
	late := ask("x") // a probe whose breaker an older answer has closed
	late.probe = true
	g.failed(now, late, 1)
	if g.open {
		t.Fatal("one failure opens a closed breaker")
	}
}
