package muster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// sixteenMB is an answer's value beyond every bound.
var sixteenMB = sync.OnceValue(func() string { return "Digest " + strings.Repeat("x", 16<<20) })

// spoil gives a good answer with a change.
func spoil(q *messages.AuthChallenge, change func(a *messages.AuthAnswer)) (*messages.AuthAnswer, error) {
	a := solve(q, "0123456789abcdef")
	change(a)
	return a, nil
}

// faultsOfFunctions are the ways in which an xSP in this process fails.
var faultsOfFunctions = map[string]xsp.Func{
	"hangs": func(ctx context.Context, _ *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	},
	"ignores-ctx": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		time.Sleep(time.Second)
		return solve(q, "too-late"), nil
	},
	"panics": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) { panic("planted") },
	"fails": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return nil, errors.New("planted")
	},
	"says-nothing": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) { return nil, nil },
	"garbage": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return spoil(q, func(a *messages.AuthAnswer) { a.Mutations[0].Value = "\xff\xfe,,,=" })
	},
	"16-MB": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return spoil(q, func(a *messages.AuthAnswer) { a.Mutations[0].Value = sixteenMB() })
	},
	"wrong-ref": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return spoil(q, func(a *messages.AuthAnswer) { a.Ref = strings.Repeat("0", 32) })
	},
	"forbidden-header": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return spoil(q, func(a *messages.AuthAnswer) {
			a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: messages.Op_SET, Name: "Route", Value: "<sip:evil.test>"})
		})
	},
	"second-line": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return spoil(q, func(a *messages.AuthAnswer) { a.Mutations[0].Value += "\r\nContact: <sip:evil.test>" })
	},
}

// faultsOfActors are those of an actor in this process.
var faultsOfActors = map[string]func(ctx actor.Context, q *messages.AuthChallenge){
	"actor-silent": func(actor.Context, *messages.AuthChallenge) {},
	"actor-panics": func(actor.Context, *messages.AuthChallenge) { panic("planted") },
	"actor-others": func(ctx actor.Context, q *messages.AuthChallenge) {
		a := solve(q, "0123456789abcdef")
		a.Ref = strings.Repeat("0", 32)
		ctx.Respond(a)
		ctx.Respond("what is this")
	},
	flood: func(ctx actor.Context, q *messages.AuthChallenge) {
		for i := range 100 {
			ctx.Respond(solve(q, fmt.Sprintf("0123456789abcdef%d", i)))
			ctx.Respond(&messages.AuthRefusal{Ref: q.GetRef(), Refusal: &messages.Refusal{Reason: "a second answer"}})
		}
	},
}

// flood is the xSP whose first answers are good: they count, and those that
// follow do not.
const flood = "actor-floods"

// faultsOfServers are those of a program behind a webhook.
var faultsOfServers = map[string]http.HandlerFunc{
	"http-cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"http-hangs": func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	},
	"http-garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ref":`) },
	"http-16-MB": func(w http.ResponseWriter, _ *http.Request) {
		// In pieces: what a server does is work of this process as well.
		piece := make([]byte, 16<<10)
		w.Header().Set("Content-Length", strconv.Itoa(1024*len(piece)))
		for range 1024 {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	},
}

// faulty are xSPs that fail as long as broken is set, and answer well else.
type faulty struct {
	broken atomic.Bool
	// reached counts the questions that got to a broken one.
	reached atomic.Int64
	serial  atomic.Int64
	xsps    []actors.XSP
}

// well answers, and may be asked before the request leaves.
func (f *faulty) well(q *messages.AuthChallenge) *messages.AuthAnswer {
	n := f.serial.Add(1)
	a := solve(q, fmt.Sprintf("cnonce-of-the-well-%d", n))
	a.Preemptive = true
	return a
}

// fails tells whether a question shall go wrong, and counts it.
func (f *faulty) fails() bool {
	broken := f.broken.Load()
	if broken {
		f.reached.Add(1)
	}
	return broken
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{}
	sixteenMB()
	add := func(x actors.XSP) {
		x.Timeout, x.Concurrency = 300*time.Millisecond, 10
		f.xsps = append(f.xsps, x)
	}
	for name, fault := range faultsOfFunctions {
		add(actors.XSP{Name: name, Authenticator: xsp.Func(func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			if f.fails() {
				return fault(ctx, q)
			}
			return f.well(q), nil
		})})
	}
	for name, fault := range faultsOfActors {
		add(actors.XSP{Name: name, Actor: actor.PropsFromFunc(func(ctx actor.Context) {
			q, ok := ctx.Message().(*messages.AuthChallenge)
			switch {
			case !ok:
			case f.fails():
				fault(ctx, q)
			default:
				ctx.Respond(f.well(q))
			}
		})})
	}
	secret := messages.NewSecret("the secret of the webhooks")
	works := webhook.Handler(secret, xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		return f.well(q), nil
	}), webhook.HandlerOptions{})
	for name, fault := range faultsOfServers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.fails() {
				fault(w, r)
				return
			}
			works.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		hook, err := webhook.New(webhook.Options{URL: server.URL, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		add(actors.XSP{Name: name, Authenticator: hook})
	}
	return f
}

// stopwatch is the registrar of the profiles beside: it takes the time of each
// registration from the command to the request that carries an answer.
type stopwatch struct {
	registrar atomic.Pointer[siptest.Registrar]
	mu        sync.Mutex
	running   map[string]*lap
	odd       []string
}

// lap is one registration.
type lap struct {
	began    time.Time
	requests int
	took     chan time.Duration
}

// note is the registrar's Behaviour. The nonce is too old each time: the first
// request of a lap is challenged, and the second answers.
func (s *stopwatch) note(req *siptest.Request) *siptest.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.running[userOf(req.AOR)]
	if l == nil {
		return nil
	}
	switch l.requests++; l.requests {
	case 1:
		return &siptest.Reply{Status: 401, Headers: []string{"WWW-Authenticate: " + s.registrar.Load().Challenge("MD5", false)}}
	case 2:
		l.took <- req.At.Sub(l.began)
	default:
		s.odd = append(s.odd, fmt.Sprintf("%s: request %d of one registration", req.AOR, l.requests))
	}
	return nil
}

// begin starts a lap. The one before must be over.
func (s *stopwatch) begin(id string) *lap {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.running[id]; old != nil && old.requests != 2 {
		s.odd = append(s.odd, fmt.Sprintf("%s: %d requests until the next registration", id, old.requests))
	}
	l := &lap{began: time.Now(), took: make(chan time.Duration, 1)}
	s.running[id] = l
	return l
}

// beside is what the test runs on.
type beside struct {
	t      *testing.T
	node   *muster.Node
	faulty *faulty
	watch  *stopwatch
	quiet  *siptest.Registrar // of the profiles beside
	next   int                // profile to refresh
	own    []string           // profiles of the faulty xSPs
}

const (
	profilesBeside = 1000
	ownOfEach      = 8
)

func newBeside(t *testing.T) *beside {
	b := &beside{t: t, faulty: newFaulty(t), watch: &stopwatch{running: map[string]*lap{}}}
	b.quiet = newRegistrar(t, siptest.Options{Authenticate: true, NonceLifetime: time.Hour, Behaviour: b.watch.note, LogSize: -1})
	b.watch.registrar.Store(b.quiet)
	asking := newRegistrar(t, siptest.Options{Authenticate: true, NonceLifetime: time.Hour, LogSize: -1})
	t.Cleanup(func() { wantInvariants(t, b.quiet); wantInvariants(t, asking) })
	d := muster.Desired{
		Registrars: []actors.Registrar{target(b.quiet), target(asking)}, Profiles: rows(numbered(profilesBeside)...), XSPs: b.faulty.xsps,
	}
	d.Registrars[1].Name = "asking"
	for _, x := range b.faulty.xsps {
		for i := range ownOfEach {
			id := fmt.Sprintf("%s-%d", x.Name, i)
			b.own = append(b.own, id)
			p := rows(id)[0]
			p.Registrar, p.RegistrationHandler = "asking", x.Name
			d.Profiles = append(d.Profiles, p)
		}
	}
	b.node = startNode(t, muster.Options{Desired: d, DataDir: inMemory(t)})
	waitState(t, b.node, actors.StateRegistered, numbered(profilesBeside)...)
	b.mend()
	return b
}

// inMemory is a data folder without the noise of a disk, where there is one.
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "muster-test-") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return t.TempDir() + "/data"
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir + "/data"
}

// window refreshes profiles at both registrars for a while, at a steady pace,
// and returns the times that the registrations of those beside took.
func (b *beside) window(every time.Duration, registrations, perRegistration int) (took []time.Duration) {
	b.t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range registrations {
		<-tick.C
		id := fmt.Sprintf("p%d", b.next%profilesBeside)
		b.next++
		all.Go(func() {
			l := b.watch.begin(id)
			if _, err := b.node.RefreshProfile(b.t.Context(), id); err != nil {
				b.t.Errorf("refresh %s: %v", id, err)
				return
			}
			select {
			case d := <-l.took:
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
			case <-time.After(time.Minute):
				b.t.Errorf("%s does not register beside faulty xSPs", id)
			}
		})
		for k := range perRegistration {
			own := b.own[(i*perRegistration+k)%len(b.own)]
			all.Go(func() {
				if _, err := b.node.RefreshProfile(b.t.Context(), own); err != nil {
					b.t.Errorf("refresh %s: %v", own, err)
				}
			})
		}
	}
	all.Wait()
	slices.Sort(took)
	return took
}

// down lists the xSPs whose breaker is open.
func (b *beside) down() (names []string) {
	b.t.Helper()
	views, err := b.node.XSPs(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range views {
		if v.State == "down" {
			names = append(names, v.Name)
		}
	}
	return names
}

// mend makes the xSPs work, and waits until their breakers are closed and all
// of their profiles registered.
func (b *beside) mend() {
	b.t.Helper()
	b.faulty.broken.Store(false)
	eventually(b.t, "everything is mended", func() bool {
		missing := 0
		for _, id := range b.own {
			if v := view(b.t, b.node, id); v.State == actors.StateRegistered && v.Reason == "" {
				continue
			}
			missing++
			if _, err := b.node.RefreshProfile(b.t.Context(), id); err != nil {
				b.t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond) // a probe is one question; there is no use in more
		return missing == 0 && len(b.down()) == 0
	})
}

// outcomes sums muster_challenges_total of the faulty xSPs.
func (b *beside) outcomes() map[string]int {
	b.t.Helper()
	families, err := b.node.Metrics().Gatherer().Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	sums := map[string]int{}
	for _, f := range families {
		if f.GetName() != "muster_challenges_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["handler"] != "digest" {
				sums[labels["outcome"]] += int(m.GetCounter().GetValue())
			}
		}
	}
	return sums
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// raced tells whether the race detector, which costs most of the CPU, is on.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestS44_FaultyXSPsBesideAThousandProfiles: xSPs that fail in every way that
// there is, thousands of times, have no effect on the profiles beside them.
// Windows with and without faults alternate at equal pace, so that what the
// machine does meanwhile hits both (S-44, S-45). What is held here is counted:
// requests, retransmissions, troubles, goroutines. The times are reported; that
// they are the same is held where the clock is virtual, by package actors.
func TestS44_FaultyXSPsBesideAThousandProfiles(t *testing.T) {
	pairs, registrations, per, every, want := 4, 500, 6, 8*time.Millisecond, 10_000
	switch {
	case testing.Short():
		pairs, registrations, want = 1, 200, 500
	case raced():
		// Everything takes ten times as long.
		pairs, registrations, per, every, want = 3, 150, 5, 20*time.Millisecond, 2000
	}
	before := goroutines()
	b := newBeside(t)
	eventually(t, "the node is idle", func() bool { return b.idle() })
	idle := goroutines()
	opened := map[string]bool{}
	var ratios []float64
	var differences []time.Duration
	retransmissions := map[bool]int{}
	for pair := range pairs {
		took := map[bool][]time.Duration{}
		for _, broken := range []bool{false, true} {
			b.faulty.broken.Store(broken)
			sent := b.quiet.Snapshot()
			took[broken] = b.window(every, registrations, per)
			after := b.quiet.Snapshot()
			retransmissions[broken] += int(after.Retransmissions - sent.Retransmissions)
			if n := int(after.Registers - sent.Registers); n != 2*registrations {
				t.Errorf("%d requests for %d registrations beside the xSPs, want two each (broken: %t)", n, registrations, broken)
			}
		}
		for _, name := range b.down() {
			opened[name] = true
		}
		b.mend()
		without, with := quantile(took[false], 0.99), quantile(took[true], 0.99)
		ratios = append(ratios, float64(with)/float64(without))
		differences = append(differences, with-without)
		t.Logf("pair %d: p50 %v without faults, %v with; p99 %v and %v", pair, quantile(took[false], 0.5), quantile(took[true], 0.5), without, with)
	}
	outcomes := b.outcomes()
	failed := outcomes["timeout"] + outcomes["invalid"] + outcomes["error"] + outcomes["unavailable"]
	t.Logf("%d faulty calls: %d reached an xSP, %d were turned away; outcomes %v", failed, b.faulty.reached.Load(), outcomes["unavailable"], outcomes)
	t.Logf("ratios of the 99th percentiles %.2f, differences %v; retransmissions beside: %d without faults, %d with",
		ratios, differences, retransmissions[false], retransmissions[true])
	if failed < want {
		t.Errorf("%d faulty calls, want %d", failed, want)
	}
	if extra := retransmissions[true] - retransmissions[false]; extra > 2*registrations*len(ratios)/100 {
		t.Errorf("%d retransmissions more beside faulty xSPs", extra)
	}
	for _, x := range b.faulty.xsps {
		if x.Name != flood && !opened[x.Name] {
			t.Errorf("the breaker of %q did not open", x.Name)
		}
	}
	b.wantUnharmed()
	eventually(t, "the node is idle again", func() bool { return b.idle() })
	wantNothingRunning(t, idle)
	stopNode(t, b.node)
	wantNothingRunning(t, before)
}

// idle tells that no attempt and no question is open.
func (b *beside) idle() bool {
	registrars, err := b.node.Registrars(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	views, err := b.node.XSPs(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	busy := 0
	for _, r := range registrars {
		busy += r.InFlight + r.Waiting
	}
	for _, v := range views {
		busy += v.InFlight + v.Waiting
	}
	return busy == 0
}

// wantUnharmed checks that no profile beside the xSPs ever had a trouble.
func (b *beside) wantUnharmed() {
	b.t.Helper()
	b.watch.mu.Lock()
	for _, line := range b.watch.odd {
		b.t.Error(line)
	}
	b.watch.mu.Unlock()
	for _, id := range numbered(profilesBeside) {
		if v := view(b.t, b.node, id); v.State != actors.StateRegistered || v.Reason != "" {
			b.t.Errorf("%s beside the xSPs: %s because of %q", id, v.State, v.Reason)
		}
	}
	for _, id := range numbered(50) {
		text := story(b.t, b.node, id)
		for _, trouble := range []string{"failed", "rejected", "ran out", "gave no answer"} {
			if strings.Contains(text, trouble) {
				b.t.Errorf("%s beside the xSPs: %s", id, text)
			}
		}
	}
}
