//go:build linux

package main

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// eventsOfOne is how many events a registration appends.
const eventsOfOne = 4

const namePrefix = "p/subscriber-"

// tick is how often registrations are begun, some at once.
const tick = 10 * time.Millisecond

// driver begins registrations at a rate, whatever the store does.
type driver struct {
	s         *store.Store
	o         settings
	latencies latencies
	names     []string
	versions  []atomic.Uint64 // of each stream, set by its registration
	state     profile.State   // as every stream has it after a registration
	next      int
	idle      chan *registration
	slowest   atomic.Int64 // commit, in nanoseconds
	failed    atomic.Pointer[error]
}

func newDriver(o settings) *driver {
	d := &driver{o: o, names: make([]string, o.streams), versions: make([]atomic.Uint64, o.streams), idle: make(chan *registration, o.open)}
	for i := range d.names {
		d.names[i] = namePrefix + strconv.Itoa(i)
	}
	d.state = profile.Apply(profile.State{}, declaration(d.names[0]))
	for _, e := range newRegistration(d).events {
		d.state = profile.Apply(d.state, e)
	}
	for range o.open {
		d.idle <- newRegistration(d)
	}
	return d
}

func (d *driver) openStore(opts store.Options) (err error) {
	if d.o.live {
		opts.Live = d.live
	}
	opts.OnAppend = func(took time.Duration, _ int) { d.slowest.Store(max(d.slowest.Load(), int64(took))) }
	d.s, err = store.Open(opts)
	return err
}

// live is what the shards of a node answer. The work is the same; the state is
// that of another stream.
func (d *driver) live(stream string) ([]byte, uint64, bool) {
	id, err := strconv.Atoi(stream[len(namePrefix):])
	if err != nil {
		return nil, 0, false
	}
	version := d.versions[id].Load()
	state, err := profile.Marshal(d.state)
	return state, version, err == nil
}

// declaration is the first event of a stream.
func declaration(stream string) *messages.ProfileEvent {
	user := stream[len("p/"):]
	return messages.NewProfileEvent(&messages.ProfileAdded{
		Spec: &messages.ProfileSpec{
			Aor: "sip:" + user + "@example.test", Registrar: "acme", Username: user,
			RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
		},
		Enabled: true, Source: "file", Row: "5f1d3a9c2b7e4d60",
	})
}

// each begins something for each of the first n streams, and waits until all are
// done.
func (d *driver) each(n int, begin func(r *registration, id int)) error {
	for id := 0; id < n && d.err() == nil; id++ {
		begin(<-d.idle, id)
	}
	return d.wait()
}

// wait returns when nothing is open.
func (d *driver) wait() error {
	all := make([]*registration, 0, cap(d.idle))
	for len(all) < cap(all) {
		all = append(all, <-d.idle)
	}
	for _, r := range all {
		d.idle <- r
	}
	return d.err()
}

// fail is apart from its caller, where taking the address would cost an allocation
// for each append.
func (d *driver) fail(err error) { d.failed.Store(&err) }

func (d *driver) err() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// declare gives every stream its first event.
func (d *driver) declare() error {
	return d.each(len(d.names), func(r *registration, id int) {
		r.begin(id, [][]*messages.ProfileEvent{{declaration(d.names[id])}})
	})
}

// run begins registrations for a time and waits until they are done. When as
// many as may be are open it falls behind, and catches up.
func (d *driver) run(duration time.Duration) (events int, err error) {
	start := time.Now()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	begun := 0
	for now := range ticker.C {
		due := int(min(now.Sub(start), duration).Seconds() * d.o.rate / eventsOfOne)
		for ; begun < due; begun++ {
			(<-d.idle).register(d.nextStream())
		}
		if now.Sub(start) >= duration || d.err() != nil {
			break
		}
	}
	return begun * eventsOfOne, d.wait()
}

// nextStream goes through all streams in an order that is none for the store. It
// comes back to one only after all others.
func (d *driver) nextStream() int {
	const step = 1_000_003 // a prime
	d.next = (d.next + step) % len(d.names)
	return d.next
}

// registration appends what a challenged registration does, each append from the
// answer to the one before. The events are used again, so that making them is no
// part of what is measured.
type registration struct {
	d             *driver
	first, second *messages.AttemptStarted
	challenge     *messages.ChallengeReceived
	granted       *messages.BindingGranted
	events        [eventsOfOne]*messages.ProfileEvent
	appends       [][]*messages.ProfileEvent // of the events

	id       int
	left     [][]*messages.ProfileEvent // the appends of this one that are not done
	start    time.Time                  // when the first of them was begun
	appended func(error)                // takes its answer
}

func newRegistration(d *driver) *registration {
	r := &registration{
		d:     d,
		first: &messages.AttemptStarted{Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER, ExpiresSeconds: 3600, GuardAtMs: 1_800_000_000_000},
		challenge: &messages.ChallengeReceived{Status: 401, Challenges: []*messages.RecordedChallenge{{
			Raw: `Digest realm="example.test", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", qop="auth", algorithm=MD5`,
		}}},
		second: &messages.AttemptStarted{
			Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER, ExpiresSeconds: 3600, Round: 1, Handler: "digest", GuardAtMs: 1_800_000_000_000,
			Answers: []*messages.NonceCount{{Realm: "example.test", Count: 1}},
		},
		granted: &messages.BindingGranted{
			Status: 200, GrantedSeconds: 3600, UntilMs: 1_800_000_000_000, RefreshAtMs: 1_799_999_000_000, Proof: "verified",
		},
	}
	for i, e := range []*messages.ProfileEvent{
		messages.NewProfileEvent(r.first), messages.NewProfileEvent(r.challenge),
		messages.NewProfileEvent(r.second), messages.NewProfileEvent(r.granted),
	} {
		r.events[i] = e
	}
	r.appends = [][]*messages.ProfileEvent{r.events[:1], r.events[1:3], r.events[3:]}
	r.appended = r.next
	return r
}

// register begins a registration.
func (r *registration) register(id int) {
	attempt := r.d.versions[id].Load()
	r.first.Attempt, r.first.Cseq = attempt, uint32(attempt)
	r.challenge.Attempt = attempt
	r.second.Attempt, r.second.Cseq, r.granted.Attempt = attempt+1, uint32(attempt)+1, attempt+1
	r.begin(id, r.appends)
}

// begin makes appends, one after the other, and then waits in driver.idle.
func (r *registration) begin(id int, appends [][]*messages.ProfileEvent) {
	r.id, r.left = id, appends
	r.append()
}

func (r *registration) append() {
	r.start = time.Now()
	r.d.s.AppendThen(r.d.names[r.id], r.d.versions[r.id].Load(), r.start, r.left[0], r.appended)
}

func (r *registration) next(err error) {
	if err != nil {
		r.d.fail(err)
		r.d.idle <- r
		return
	}
	r.d.latencies.add(time.Since(r.start))
	r.d.versions[r.id].Add(uint64(len(r.left[0])))
	if r.left = r.left[1:]; len(r.left) > 0 {
		r.append()
		return
	}
	r.d.idle <- r
}
