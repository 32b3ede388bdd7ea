package actors

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// world is a farm between a journal in memory and a registrar in memory, all in
// one bubble of virtual time.
type world struct {
	t         *testing.T
	config    Registrar
	farm      *Farm
	journal   *fakeJournal
	registrar *fakeRegistrar
	ua        *fakeUA
	bodies    *fakeBodies
	onInvite  func(IncomingCall) Owner
	trunks    []Trunk
	log       *slog.Logger
	observer  *fakeObserver
	secrets   map[string]Credential
	xsps      []XSP
	tokens    int
	mu        sync.Mutex
}

func newWorld(t *testing.T, r Registrar) *world {
	w := &world{
		t: t, config: r, journal: &fakeJournal{streams: map[string][]*messages.Envelope{}},
		observer: &fakeObserver{}, secrets: map[string]Credential{},
	}
	w.registrar = newFakeRegistrar(t)
	w.ua = newFakeUA(w.registrar)
	w.bodies = &fakeBodies{kept: map[string]description{}}
	return w
}

func (w *world) start() {
	w.t.Helper()
	farm := NewFarm(FarmOptions{
		Journal: w.journal, Sender: w.ua.connect(), Credentials: w, Observer: w.observer,
		Token: w.token, Registrars: []Registrar{w.config}, Bodies: w.bodies, OnInvite: w.onInvite, Logger: w.log,
		Trunks: w.trunks, Here: func(host string) bool { return host == "203.0.113.1" },
	})
	w.mu.Lock()
	w.farm = farm
	w.mu.Unlock()
	if err := w.farm.SetXSPs(w.xsps); err != nil {
		w.t.Fatal(err)
	}
	if err := w.farm.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// running is the farm, for goroutines beside the test's own.
func (w *world) running() *Farm {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.farm
}

func (w *world) stop() {
	w.farm.Stop(w.t.Context(), false)
	time.Sleep(2 * time.Second) // the library's dead-letter throttle
}

// kill ends the farm as a SIGKILL would: nothing more is appended or sent.
func (w *world) kill() {
	w.registrar.disconnect()
	w.journal.cut()
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	w.farm.Stop(ctx, false)
	time.Sleep(2 * time.Second)
	w.journal.restore()
}

func (w *world) token() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens++
	n := uint64(w.tokens)
	return fmt.Sprintf("%016x%016x", n*0x9E3779B97F4A7C15, n*0xC2B2AE3D27D4EB4F)
}

// Credential implements Credentials: every profile knows its password, unless
// the test says otherwise.
func (w *world) Credential(id string) (Credential, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := w.secrets[id]; ok {
		return c, true
	}
	return Credential{Password: messages.NewSecret("pw-" + id)}, true
}

func (w *world) password(id, password string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets[id] = Credential{Password: messages.NewSecret(password)}
}

// declare adds p0, p1, ... with the registrar's handler.
func (w *world) declare(n int) { w.t.Helper(); w.declareFor("p", n, "") }

// declareFor adds profiles of a name whose challenges a handler answers.
func (w *world) declareFor(name string, n int, handler string) {
	w.t.Helper()
	var ds []Declared
	for i := range n {
		id := fmt.Sprintf("%s%d", name, i)
		ds = append(ds, Declared{ID: id, Command: profile.Declare{
			Spec: profile.Spec{
				AOR: "sip:" + id + "@example.test", Registrar: w.config.Name,
				RegistrationHandler: handler, Register: true,
			}, Source: "file", Row: "row",
		}})
	}
	w.farm.Declare(w.t.Context(), ds, false)
}

func (w *world) wantStates(want map[string]int) {
	w.t.Helper()
	got := map[string]int{}
	_ = w.farm.visitAll(w.t.Context(), func(e *entry) {
		if s := e.state(); s.Exists() {
			got[s.Status()]++
		}
	})
	if !maps.Equal(got, want) {
		w.t.Errorf("states: %v, want %v", got, want)
	}
}

// fakeJournal is a journal in memory that can fail and be cut off.
type fakeJournal struct {
	mu      sync.Mutex
	streams map[string][]*messages.Envelope
	order   []*messages.Envelope
	err     error
	dead    bool
	panicOn string
	held    chan struct{} // closed when appends go on
}

func (j *fakeJournal) fail(err error) { j.mu.Lock(); j.err = err; j.mu.Unlock() }
func (j *fakeJournal) plant(s string) { j.mu.Lock(); j.panicOn = s; j.mu.Unlock() }
func (j *fakeJournal) cut()           { j.mu.Lock(); j.dead = true; j.mu.Unlock() }
func (j *fakeJournal) restore()       { j.mu.Lock(); j.dead = false; j.mu.Unlock() }

func (j *fakeJournal) AppendThen(stream string, after uint64, at time.Time, events []*messages.ProfileEvent, done func(error)) {
	add := func() error {
		return appendFake(j, stream, after, at, events, func(env *messages.Envelope, e *messages.ProfileEvent) { env.Profile = proto.CloneOf(e) })
	}
	j.mu.Lock()
	held := j.held
	j.mu.Unlock()
	if held == nil {
		done(add())
		return
	}
	go func() {
		<-held
		done(add())
	}()
}

// hold lets no append of a profile be durable until letGo.
func (j *fakeJournal) hold() { j.mu.Lock(); j.held = make(chan struct{}); j.mu.Unlock() }

func (j *fakeJournal) letGo() { j.mu.Lock(); close(j.held); j.held = nil; j.mu.Unlock() }

func (j *fakeJournal) AppendSession(_ context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error {
	return appendFake(j, stream, after, at, events, func(env *messages.Envelope, e *messages.SessionEvent) { env.Session = e })
}

func appendFake[E any](j *fakeJournal, stream string, after uint64, at time.Time, events []E, set func(*messages.Envelope, E)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.panicOn == stream {
		panic("planted")
	}
	if j.dead {
		return fmt.Errorf("%w: killed", ErrStoreFailed)
	}
	if j.err != nil {
		return j.err
	}
	if uint64(len(j.streams[stream])) != after {
		return fmt.Errorf("%w: %s is at %d, not %d", ErrConflict, stream, len(j.streams[stream]), after)
	}
	for i, e := range events {
		env := &messages.Envelope{Stream: stream, Version: after + uint64(i) + 1, AtUnixNano: at.UnixNano()}
		set(env, e)
		j.streams[stream] = append(j.streams[stream], env)
		j.order = append(j.order, env)
	}
	return nil
}

func (j *fakeJournal) Load(_ context.Context, stream string) ([]byte, uint64, []*messages.Envelope, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return nil, 0, nil, j.err
	}
	return nil, 0, slices.Clone(j.streams[stream]), nil
}

func (j *fakeJournal) Replay(_ context.Context, r Replayer) error {
	j.mu.Lock()
	order := slices.Clone(j.order)
	j.mu.Unlock()
	for _, e := range order {
		if err := r.Event(e); err != nil {
			return err
		}
	}
	return nil
}

func (j *fakeJournal) History(_ context.Context, stream string, _ uint64, yield func(*messages.Envelope) bool) error {
	j.mu.Lock()
	events := slices.Clone(j.streams[stream])
	j.mu.Unlock()
	for _, e := range slices.Backward(events) {
		if !yield(e) {
			break
		}
	}
	return nil
}

// fakeRegistrar challenges, verifies and remembers what it saw.
type fakeRegistrar struct {
	t           *testing.T
	mu          sync.Mutex
	generation  int
	delay       time.Duration
	silent      bool
	constant    bool  // one nonce for everybody
	least       int64 // what is accepted; less is answered by 423 once authorized
	unavailable time.Duration
	service     []string // Service-Route of a grant
	nonces      int
	counts      map[string]string // nonce count by nonce
	cseqs       map[string]uint32 // by Call-ID
	bound       map[string]bool
	open        map[string]int // requests in flight by Call-ID
	requests    int
	perSecond   []time.Time
	violations  []string
}

func newFakeRegistrar(t *testing.T) *fakeRegistrar {
	return &fakeRegistrar{t: t, counts: map[string]string{}, cseqs: map[string]uint32{}, bound: map[string]bool{}, open: map[string]int{}}
}

// connect returns a sender that works until disconnect.
func (r *fakeRegistrar) connect() *fakeSender {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &fakeSender{r: r, generation: r.generation}
}

func (r *fakeRegistrar) disconnect() { r.mu.Lock(); r.generation++; clear(r.open); r.mu.Unlock() }

type fakeSender struct {
	r          *fakeRegistrar
	generation int
}

// Flush implements Sender.
func (s *fakeSender) Flush() {}

// Send runs the client transaction of RFC 3261 §17.1.2 against the registrar.
func (s *fakeSender) Send(q *messages.SIPRequest, done func(messages.SIPOutcome)) {
	go func() {
		interval, passed := 500*time.Millisecond, time.Duration(0)
		for n := 0; ; n++ {
			response, delay, answered := s.r.receive(s.generation, q, n == 0)
			if answered {
				time.Sleep(delay)
				s.r.finished(s.generation, q)
				done(messages.SIPOutcome{Response: response})
				return
			}
			time.Sleep(interval)
			if passed += interval; passed >= 32*time.Second {
				s.r.finished(s.generation, q)
				done(messages.SIPOutcome{Failure: messages.ReasonTimeout})
				return
			}
			interval = min(2*interval, 4*time.Second)
			if q.Retransmitted != nil {
				q.Retransmitted()
			}
		}
	}()
}

func (r *fakeRegistrar) finished(generation int, q *messages.SIPRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation == r.generation {
		r.open[q.CallID]--
	}
}

func (r *fakeRegistrar) violate(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

func (r *fakeRegistrar) receive(generation int, q *messages.SIPRequest, first bool) (*messages.SIPResponse, time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response, answered := r.answer(generation, q, first)
	return response, r.delay, answered
}

func (r *fakeRegistrar) answer(generation int, q *messages.SIPRequest, first bool) (*messages.SIPResponse, bool) {
	if generation != r.generation {
		return nil, false // a dead process sends nothing
	}
	r.requests++
	r.perSecond = append(r.perSecond, time.Now())
	if first {
		if r.open[q.CallID]++; r.open[q.CallID] > 1 {
			r.violate("I-5: two requests out for %s", q.CallID)
		}
		if q.CSeq <= r.cseqs[q.CallID] {
			r.violate("I-4: CSeq %d after %d for %s", q.CSeq, r.cseqs[q.CallID], q.CallID)
		}
		r.cseqs[q.CallID] = q.CSeq
	}
	if r.silent {
		return nil, false
	}
	if r.unavailable > 0 {
		return &messages.SIPResponse{Status: 503, RetryAfter: r.unavailable}, true
	}
	if !r.authorized(q) {
		if r.nonces == 0 || !r.constant {
			r.nonces++
		}
		return &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{{
			Space: messages.Space_ORIGIN,
			Raw:   fmt.Sprintf(`Digest realm="example.test", nonce="n%d", qop="auth", algorithm=SHA-256`, r.nonces),
		}}}, true
	}
	if q.Expires > 0 && q.Expires < r.least {
		return &messages.SIPResponse{Status: 423, RetryAfter: -1, MinExpires: uint32(r.least)}, true
	}
	response := &messages.SIPResponse{Status: 200, RetryAfter: -1}
	switch {
	case q.NoContact:
		if r.bound[q.To] {
			response.Contacts = []messages.ContactBinding{{URI: "sip:x@y", Expires: 60}}
		}
	case q.Expires == 0:
		delete(r.bound, q.To)
	default:
		r.bound[q.To] = true
		response.Contact, response.ContactExpires, response.ServiceRoute = messages.ContactOurs, uint32(q.Expires), r.service
	}
	return response, true
}

func (r *fakeRegistrar) authorized(q *messages.SIPRequest) bool {
	if len(q.Mutations) == 0 {
		return false
	}
	parsed, err := challenge.Parse(q.Mutations[0].GetValue())
	if err != nil {
		r.violate("credentials do not parse: %v", err)
		return false
	}
	p := parsed.Map()
	if last := r.counts[p["nonce"]]; p["nc"] <= last {
		r.violate("I-6: count %s after %s for nonce %s", p["nc"], last, p["nonce"])
	}
	r.counts[p["nonce"]] = p["nc"]
	user := strings.TrimPrefix(strings.TrimSuffix(q.From, "@example.test"), "sip:")
	want := digest.Response(digest.Exchange{
		Algorithm: "SHA-256", HA1: digest.HA1("SHA-256", user, "example.test", "pw-"+user), Nonce: p["nonce"],
		NC: p["nc"], Cnonce: p["cnonce"], QOP: "auth", Method: q.Method, URI: q.RequestURI,
	})
	return p["response"] == want
}

// set changes how the registrar behaves.
func (r *fakeRegistrar) set(change func(*fakeRegistrar)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *fakeRegistrar) seen() (n int) { r.set(func(r *fakeRegistrar) { n = r.requests }); return n }

func (r *fakeRegistrar) held() (n int) { r.set(func(r *fakeRegistrar) { n = len(r.bound) }); return n }

func (r *fakeRegistrar) callIDs() (n int) {
	r.set(func(r *fakeRegistrar) { n = len(r.cseqs) })
	return n
}

// peak is the largest number of requests in any second.
func (r *fakeRegistrar) peak() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	most, from := 0, 0
	for to, at := range r.perSecond {
		for at.Sub(r.perSecond[from]) >= time.Second {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

func (r *fakeRegistrar) check() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.violations[:min(len(r.violations), 5)] {
		r.t.Error(v)
	}
}

// fakeObserver counts.
type fakeObserver struct {
	mu              sync.Mutex
	parked, restart int
	overdue         map[int]int
	// challenges counts "handler outcome"; breakers "handler up" and "handler
	// down", each time that changes.
	challenges, breakers map[string]int
	down                 map[string]bool
	// sessions counts by state, withheld the challenges that were not answered.
	sessions map[string]int
	withheld int
}

func (o *fakeObserver) SessionEvents(_, before, after string, _, _ time.Time, _ []*messages.SessionEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sessions == nil {
		o.sessions = map[string]int{}
	}
	if before != "" {
		o.sessions[before]--
	}
	o.sessions[after]++
}

func (o *fakeObserver) SessionRestored(state string) {
	o.SessionEvents("", "", state, time.Time{}, time.Time{}, nil)
}

func (o *fakeObserver) ChallengeWithheld(string, messages.Reason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.withheld++
}

func (o *fakeObserver) refused() int { o.mu.Lock(); defer o.mu.Unlock(); return o.withheld }

func (o *fakeObserver) ProfileEvents(string, string, string, time.Time, []*messages.ProfileEvent) {}
func (o *fakeObserver) ProfileRestored(string, string)                                            {}
func (o *fakeObserver) Appended(time.Duration)                                                    {}
func (o *fakeObserver) Dropped(messages.Reason)                                                   {}
func (o *fakeObserver) RefreshMargin(string, time.Duration)                                       {}

func (o *fakeObserver) ChallengeAnswered(handler, outcome string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.challenges == nil {
		o.challenges = map[string]int{}
	}
	o.challenges[handler+" "+outcome]++
}

func (o *fakeObserver) asked(handler, outcome string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.challenges[handler+" "+outcome]
}

func (o *fakeObserver) XSP(name string, _, _ int, up bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.breakers == nil {
		o.breakers, o.down = map[string]int{}, map[string]bool{}
	}
	if o.down[name] == up {
		o.down[name] = !up
		o.breakers[name+map[bool]string{true: " up", false: " down"}[up]]++
	}
}

func (o *fakeObserver) breaker(name, state string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.breakers[name+" "+state]
}

func (o *fakeObserver) NonceShared(registrar string) {
	o.ChallengeAnswered("nonce shared", registrar, 0)
}

func (o *fakeObserver) ActorRestarted(parked bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.restart++
	if parked {
		o.parked++
	}
}

func (o *fakeObserver) failures() int { o.mu.Lock(); defer o.mu.Unlock(); return o.restart }
func (o *fakeObserver) parkings() int { o.mu.Lock(); defer o.mu.Unlock(); return o.parked }

func (o *fakeObserver) Overdue(shard, profiles int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.overdue == nil {
		o.overdue = map[int]int{}
	}
	o.overdue[shard] = profiles
}
