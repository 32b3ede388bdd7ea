package machinetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// Start is the time at which every machine begins.
var Start = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// Machine is one profile and what its host remembers about it.
type Machine struct {
	Policy profile.Policy
	Now    time.Time
	Jitter float64
	State  profile.State
	// Events is everything recorded so far.
	Events []*messages.ProfileEvent
	// Arrows counts the changes of phase that were seen, see Phase; it is
	// shared with copies.
	Arrows map[Arrow]int
	// Light leaves out what Do checks after every command, for long runs.
	Light bool
	// Words packs the states; New sets one that shares every text.
	Words *profile.Words

	tokens int
	// asked and sent are the attempts whose question or request is out; 0 for
	// none.
	asked, sent uint64
	// handler is who was asked.
	handler string
	ledger  ledger
	used    *usedMemory
}

// Arrow is a change of phase and the command that caused it.
type Arrow struct {
	From, To string
	Command  string
}

// New returns a machine whose profile is not declared yet. The jitter is the
// middle of its range.
func New(p profile.Policy) *Machine {
	return &Machine{
		Policy: p, Now: Start, Jitter: 0.5, Arrows: map[Arrow]int{}, ledger: newLedger(),
		Words: &profile.Words{Texts: &everyText{}}, used: new(usedMemory),
	}
}

// Asked is the attempt whose question is out, or 0.
func (m *Machine) Asked() uint64 { return m.asked }

// Clone returns an independent copy.
func (m *Machine) Clone() *Machine {
	c := *m
	c.Events = slices.Clip(c.Events)
	c.ledger, c.used = m.ledger.clone(), new(usedMemory)
	return &c
}

// Step delivers a command: decide, check, record, perform. The error tells
// which rules were broken; the machine goes on regardless.
func (m *Machine) Step(cmd profile.Command) (profile.Decision, error) {
	m.tokens++
	in := profile.Input{
		Now: m.Now, Jitter: m.Jitter, Command: cmd,
		// Digits, so that scripts read well; the core only cuts it in two.
		Token: fmt.Sprintf("%020d%012d", m.tokens, m.tokens),
	}
	before, phase := m.State, m.Phase()
	frozen := encode(before)
	d := profile.Decide(m.Policy, before, in)

	var f faults
	f.checkFunction(m.Policy, frozen, before, in, d)
	f.checkDecider(m.used, m.Policy, before, in, d)
	f.checkDrop(cmd, d)
	for _, e := range d.Events {
		after := profile.Apply(m.State, e)
		f.checkFold(m.State, e, after)
		f.checkEvent(m, e, after)
		f.checkPacked(m, after)
		m.State = after
		m.Events = append(m.Events, e)
	}
	f.checkPromise(cmd, d, m.State)
	f.checkOutstanding(m, before, cmd)
	if !m.State.Attempt.Open || m.State.Attempt.Number != before.Attempt.Number {
		m.asked, m.sent = 0, 0
	}
	for _, e := range d.Effects {
		f.checkEffect(m, e)
		m.perform(e)
	}
	f.checkState(m, cmd)
	if to := m.Phase(); to != phase {
		m.Arrows[Arrow{phase, to, fmt.Sprintf("%T", cmd)[len("profile."):]}]++
	}
	return d, f.err()
}

// perform notes what the host would do.
func (m *Machine) perform(e profile.Effect) {
	switch e := e.(type) {
	case profile.AskCredentials:
		m.asked, m.handler = e.Attempt, e.Handler
	case profile.SendRequest:
		m.asked, m.sent = 0, e.Attempt
		m.ledger.left[m.State.CallID] = m.State.CSeq
	}
}

// Phase names the phase of the attempt and, after a slash, of the binding: the
// two small machines of a profile.
func (m *Machine) Phase() string { return m.attemptPhase() + "/" + m.bindingPhase() }

func (m *Machine) attemptPhase() string {
	s := m.State
	switch _, _, due := s.Due(); {
	case !s.Exists():
		return "undeclared"
	case s.Attempt.Open && m.asked != 0:
		return "asking"
	case s.Attempt.Open:
		return "sent"
	case due && s.Wanted() && s.Halted && !s.RefreshWanted:
		return "halted"
	case due:
		return "waiting"
	}
	return "idle"
}

func (m *Machine) bindingPhase() string {
	switch {
	case m.State.Bound():
		return "bound"
	case m.State.MayBeBound():
		return "doubtful"
	}
	return "unbound"
}

// Wake moves the clock to the next deadline and returns what a host delivers
// then, or false when nothing will ever happen by itself.
func (m *Machine) Wake() (profile.Command, bool) {
	at, ok := m.State.WakeAt()
	if !ok {
		return nil, false
	}
	if at.After(m.Now) {
		m.Now = at
	}
	timer := profile.Decide(m.Policy, m.State, profile.Input{Now: m.Now, Command: profile.TimerFired{}})
	if timer.Dropped == "" {
		return profile.TimerFired{}, true
	}
	return profile.SlotGranted{}, true
}

// Crash loses what the host remembers, reads the state back, and delivers
// Recovered.
func (m *Machine) Crash() (profile.Decision, error) {
	m.State = decode(encode(m.State))
	return m.Step(profile.Recovered{}) // which ends what was open
}

// CheckCrash crashes a copy and follows it: it must find its way to a new
// request with a larger CSeq and unspent nonce counts, to a halt, or to rest.
func (m *Machine) CheckCrash() error {
	c := m.Clone()
	_, err := c.Crash()
	errs := []error{err}
	if c.State.Attempt.Open {
		errs = append(errs, errors.New("I5: an attempt is open after Recovered, and nobody waits for it"))
	}
	for range 6 { // two lapses, a guard and a slot are the longest way
		cmd, ok := c.Wake()
		if !ok || c.State.Attempt.Open {
			return errors.Join(errs...)
		}
		_, err := c.Step(cmd)
		errs = append(errs, err)
	}
	if !c.State.Attempt.Open {
		errs = append(errs, fmt.Errorf("I5: recovered, and no way on from %s", Summary(c.State, c.Now)))
	}
	return errors.Join(errs...)
}

// CheckOlder hands a copy every kind of input for attempts that are not open
// (I8).
func (m *Machine) CheckOlder() error {
	var errs []error
	n := m.State.Attempt.Number
	for _, attempt := range []uint64{n - 1, n, n + 1} {
		if attempt == n && m.State.Attempt.Open {
			continue
		}
		granted := &messages.SIPResponse{Status: 200, Contact: messages.ContactOurs, ContactExpires: 60}
		for _, cmd := range []profile.Command{
			profile.ResponseReceived{Attempt: attempt, Response: granted},
			profile.RequestFailed{Attempt: attempt, Failure: messages.ReasonTimeout},
			profile.CredentialsOffered{Attempt: attempt, Handler: "digest"},
			profile.CredentialsWithheld{Attempt: attempt, Handler: "digest", RetryAfter: -1},
			profile.CredentialsOffered{Attempt: attempt, Handler: "tokens"},
			profile.CredentialsWithheld{Attempt: attempt, Handler: "tokens"},
		} {
			d := profile.Decide(m.Policy, m.State, profile.Input{Now: m.Now, Command: cmd})
			if len(d.Events) > 0 || len(d.Effects) > 0 || d.Dropped == "" {
				errs = append(errs, fmt.Errorf("I8: %T of attempt %d changes something while %d is the latest", cmd, attempt, n))
			}
		}
	}
	return errors.Join(errs...)
}

// CheckReplay folds all events from nothing, and from snapshots at every
// version (of a long history, some), as the journal does (I1).
func (m *Machine) CheckReplay() error {
	envelopes := make([]*messages.Envelope, len(m.Events))
	for i, e := range m.Events {
		envelopes[i] = &messages.Envelope{Stream: "p/test", Version: uint64(i + 1), Profile: e}
	}
	want := encode(m.State)
	if m.State.Gone && m.State.Source != "file" {
		want = nil
	}
	var errs []error
	for i := 0; i <= len(envelopes); i += 1 + len(envelopes)/32 {
		snapshot, err := profile.Fold(nil, envelopes[:i])
		if err == nil && i < len(envelopes) {
			snapshot, err = profile.Fold(snapshot, envelopes[i:])
		}
		if err != nil || string(snapshot) != string(want) {
			errs = append(errs, fmt.Errorf("I1: replay with a snapshot at version %d gives another state: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// ledger is what the checks remember of the past, independent of the state.
type ledger struct {
	// left is the highest CSeq that left, per Call-ID.
	left map[string]uint32
	// counts is the highest count spent per nonce.
	counts map[nonceKey]uint32
	// answers counts, in the open chain, the answers to a realm's own
	// challenges; asking are the realms of the latest challenge.
	answers map[realmKey]uint32
	asking  map[realmKey]bool
}

type realmKey struct {
	space messages.Space
	realm string
}

type nonceKey struct {
	realmKey
	nonce string
}

func newLedger() ledger {
	return ledger{
		left: map[string]uint32{}, counts: map[nonceKey]uint32{},
		answers: map[realmKey]uint32{}, asking: map[realmKey]bool{},
	}
}

func (l ledger) clone() ledger {
	return ledger{
		left: maps.Clone(l.left), counts: maps.Clone(l.counts),
		answers: maps.Clone(l.answers), asking: maps.Clone(l.asking),
	}
}

// retire forgets the nonces of a realm, because the server has named another.
func (l ledger) retire(k realmKey) {
	maps.DeleteFunc(l.counts, func(n nonceKey, _ uint32) bool { return n.realmKey == k })
}

func encode(s profile.State) []byte {
	b, err := profile.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}

func decode(b []byte) profile.State {
	s, err := profile.Unmarshal(b)
	if err != nil {
		panic(err)
	}
	return s
}
