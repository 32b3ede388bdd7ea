package xsp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
	"github.com/sipmuster/muster/store"
)

// handlers are those that are compared; all compute the same digest.
var handlers = []string{"digest", "function", "actor"}

// batch is how many registrations of one handler are measured at a time. The
// batches of the handlers alternate, so that other programs hit all of them.
const batch = 500

// BenchmarkQuestion: one operation is one challenged registration with each of
// the handlers.
func BenchmarkQuestion(b *testing.B) {
	w := newWorld(b)
	w.register("digest", batch) // warm
	cpu, mallocs := map[string][]float64{}, map[string][]float64{}
	for done := 0; done < b.N; done += batch {
		for _, handler := range handlers {
			before := now()
			w.register(handler, batch)
			after := now()
			cpu[handler] = append(cpu[handler], float64((after.cpu-before.cpu).Microseconds())/batch)
			mallocs[handler] = append(mallocs[handler], float64(after.mallocs-before.mallocs)/batch)
		}
	}
	for _, handler := range handlers {
		b.ReportMetric(median(cpu[handler]), handler+"-cpu-µs")
		b.ReportMetric(median(mallocs[handler]), handler+"-allocs")
		if handler != "digest" {
			b.ReportMetric(median(quotients(cpu[handler], cpu["digest"])), handler+"/digest-cpu")
		}
	}
	for _, handler := range handlers[1:] {
		if n := w.answered(handler); n < b.N {
			b.Errorf("%s answered %d times", handler, n)
		}
	}
}

// world is a farm and all that it needs.
type world struct {
	b       *testing.B
	farm    *actors.Farm
	granted atomic.Int64
	serial  atomic.Int64
	round   int
}

func newWorld(b *testing.B) *world {
	w := &world{b: b}
	w.farm = actors.NewFarm(actors.FarmOptions{
		Journal: memory{store.NewMemory(store.Options{})}, Sender: w, Credentials: w,
		Observer: metrics.New(metrics.Options{Registrars: []string{"r"}, XSPs: handlers[1:]}), Token: token,
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:registrar.test", Rate: -1}},
	})
	if err := w.farm.SetXSPs([]actors.XSP{
		{Name: "function", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			return solve(q), nil
		})},
		{Name: "actor", Actor: actor.PropsFromFunc(func(ctx actor.Context) {
			if q, ok := ctx.Message().(*messages.AuthChallenge); ok {
				ctx.Respond(solve(q))
			}
		})},
	}); err != nil {
		b.Fatal(err)
	}
	if err := w.farm.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.farm.Stop(context.Background(), false) })
	return w
}

// register declares profiles and waits until the last is registered.
func (w *world) register(handler string, n int) {
	w.round++
	declared := make([]actors.Declared, n)
	for i := range declared {
		id := fmt.Sprintf("p%d-%d", w.round, i)
		declared[i] = actors.Declared{ID: id, Command: profile.Declare{Source: "api", Spec: profile.Spec{
			AOR: "sip:" + id + "@example.test", Registrar: "r", RegistrationHandler: handler, Register: true,
		}}}
	}
	want := w.granted.Load() + int64(n)
	w.farm.Declare(w.b.Context(), declared, false)
	for deadline := time.Now().Add(time.Minute); w.granted.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.b.Fatalf("%d profiles do not register", want-w.granted.Load())
		}
	}
}

func (w *world) answered(handler string) int {
	views, err := w.farm.XSPs(w.b.Context())
	if err != nil {
		w.b.Fatal(err)
	}
	i := slices.IndexFunc(views, func(v actors.XSPView) bool { return v.Name == handler })
	return int(views[i].Answered)
}

// Invite and Ack implement actors.Sender; nobody calls here.
func (*world) Invite(*messages.SIPRequest, func(messages.InviteReport)) messages.Invitation {
	return nil
}

func (*world) Ack(*messages.SIPRequest) {}

// Flush implements actors.Sender.
func (w *world) Flush() {}

// Send implements actors.Sender: it challenges once, and takes the answer.
func (w *world) Send(req *messages.SIPRequest, done func(messages.SIPOutcome)) {
	r := &messages.SIPResponse{Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: 3600}
	if len(req.Mutations) == 0 {
		nonce := fmt.Sprintf(`Digest realm="example.test", nonce="nonce-%d", qop="auth", algorithm=MD5`, w.serial.Add(1))
		r = &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{
			{Space: messages.Space_ORIGIN, Raw: nonce},
		}}
	} else {
		defer w.granted.Add(1)
	}
	done(messages.SIPOutcome{Response: r})
}

// Credential implements actors.Credentials.
func (w *world) Credential(string) (actors.Credential, bool) {
	return actors.Credential{Username: "user", Password: secret}, true
}

var secret = messages.NewSecret("a password")

// solve is what the DigestActor does as well.
func solve(q *messages.AuthChallenge) *messages.AuthAnswer {
	a, _ := digest.Answer(q, digest.Credential{Username: "user", Password: secret},
		func(int, bool, string, string) string { return token() })
	return a
}

// token is that of a node.
func token() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// memory makes the store in memory what the actors ask for.
type memory struct{ *store.Memory }

// Replay implements actors.Journal.
func (m memory) Replay(ctx context.Context, r actors.Replayer) error { return m.Memory.Replay(ctx, r) }

// sample is the process at one moment.
type sample struct {
	cpu     time.Duration
	mallocs uint64
}

func now() sample {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return sample{time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), mem.Mallocs}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func quotients(a, b []float64) []float64 {
	q := make([]float64, len(a))
	for i := range a {
		q[i] = a[i] / b[i]
	}
	return q
}
