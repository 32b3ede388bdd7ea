package profile

import (
	"fmt"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Decide says what to record, and then what to do, when something happens to a
// profile. It is a function: the same arguments give the same result. It
// returns no error: what a peer or an operator can cause is an event or a
// drop, and an impossible command is a panic.
func Decide(p Policy, s State, in Input) Decision {
	return *new(Decider).Decide(&p, &s, &in)
}

// Decider decides as Decide does, again and again in the same memory: for a host
// that has one append out at a time. It must not be used by two at once.
type Decider struct{ step step }

// Decide returns a decision that is good until the next call, with its lists and
// its events; the policy is kept as long. What the state refers to lasts: a copy
// of State is the host's own.
func (d *Decider) Decide(p *Policy, s *State, in *Input) *Decision {
	st := &d.step
	st.begin(p, s, in)
	switch cmd := in.Command.(type) {
	case Declare:
		st.declare(cmd)
	case Recovered:
		st.recovered()
	case Clear:
		st.clear()
	default:
		if !s.Exists() {
			st.drop(messages.DropIdle)
			break
		}
		st.dispatch(cmd)
	}
	st.settle()
	return &st.Decision
}

func (st *step) dispatch(cmd Command) {
	switch cmd := cmd.(type) {
	case Enable:
		st.enable()
	case Disable:
		st.disable()
	case Remove:
		if !st.State.Removing {
			st.record(&messages.ProfileRemoved{ByOperator: cmd.ByOperator})
		}
	case Refresh:
		st.refresh()
	case SetSecurity:
		st.setSecurity(cmd)
	case Withdraw:
		st.withdraw()
	case Fetch:
		st.fetch()
	case SlotGranted:
		st.slotGranted()
	case TimerFired:
		st.timerFired()
	case ResponseReceived:
		st.responded(&cmd)
	case *ResponseReceived:
		st.responded(cmd)
	case RequestFailed:
		if st.current(cmd.Attempt) {
			st.failed(0, cmd.Failure, -1)
		}
	case CredentialsOffered:
		st.answered(&cmd)
	case *CredentialsOffered:
		st.answered(cmd)
	case CredentialsWithheld:
		if st.current(cmd.Attempt) {
			st.withheld(cmd)
		}
	default:
		panic(fmt.Sprintf("profile: decide: unknown command %T", cmd))
	}
}

func (st *step) responded(cmd *ResponseReceived) {
	if st.current(cmd.Attempt) {
		st.response(cmd)
	}
}

func (st *step) answered(cmd *CredentialsOffered) {
	if st.current(cmd.Attempt) {
		st.offered(cmd)
	}
}

// step is one decision in the making. State changes only through record, so
// effects are computed from the state that a replay will rebuild.
type step struct {
	Decision
	policy *Policy
	in     given
	// own is true once what the state knows of challenges is a copy of the
	// step's own.
	own bool

	room    messages.EventRoom
	events  [2]*messages.ProfileEvent
	effects [1]Effect
}

// given is what an Input says besides its command.
type given struct {
	Now    time.Time
	Jitter float64
	Token  string
}

func (st *step) begin(p *Policy, s *State, in *Input) {
	st.room.Clear()
	st.effects = [1]Effect{}
	st.policy, st.in = p, given{in.Now, in.Jitter, in.Token}
	st.Events, st.Effects, st.Dropped = st.events[:0], st.effects[:0], ""
	st.State, st.own = *s, false
}

func (st *step) record(body any) { st.recordEvent(messages.NewProfileEvent(body)) }

func (st *step) recordEvent(e *messages.ProfileEvent) {
	st.note(e)
	st.State.apply(e, st.own)
}

func (st *step) note(e *messages.ProfileEvent) { st.Events = append(st.Events, e) }

func (st *step) do(e Effect) { st.Effects = append(st.Effects, e) }

func (st *step) drop(r messages.Reason) { st.Dropped = r }

// current drops an input that belongs to an older attempt.
func (st *step) current(attempt uint64) bool {
	if !st.State.Attempt.Open {
		st.drop(messages.DropIdle)
		return false
	}
	if attempt != st.State.Attempt.Number {
		st.drop(messages.DropStale)
		return false
	}
	return true
}

// settle is the joint rule of binding, attempt and intent: what is being
// removed is forgotten once nothing is left to withdraw, or once that was
// tried often enough (REG-20: its failure does not block the removal).
func (st *step) settle() {
	s := &st.State
	if !s.Removing || s.Gone || s.Attempt.Open {
		return
	}
	switch {
	case !s.MayBeBound():
		st.record(&messages.ProfileForgotten{})
	case s.Halted && s.Attempt.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER,
		s.Failures >= st.policy.withdrawTries():
		st.record(&messages.ProfileForgotten{Reason: "binding not withdrawn: " + string(s.Reason)})
	}
}

func (st *step) clear() {
	if !st.State.Gone || st.State.Source == "" {
		st.drop(messages.DropIdle)
		return
	}
	st.record(&messages.ProfileForgotten{Reason: "no file lists it any more"})
}

func (st *step) declare(d Declare) {
	s := st.State
	switch {
	case s.Gone && d.Source == "file" && s.Source == "file" && d.Row == s.Row:
		// Removed by an operator; the same row does not bring it back.
		st.drop(messages.DropUnwanted)
	case !s.Exists():
		st.record(&messages.ProfileAdded{Spec: d.Spec.proto(), Enabled: !d.Disabled, Source: d.Source, Row: d.Row})
	case s.Removing:
		st.drop(messages.DropBusy)
	case d.Spec.AOR != s.Spec.AOR || d.Spec.Registrar != s.Spec.Registrar:
		st.redeclare(d)
	default:
		st.change(d)
	}
}

// redeclare handles another AOR or registrar: another binding. The old one is
// withdrawn first; the caller declares again until it is accepted.
func (st *step) redeclare(d Declare) {
	if st.State.Attempt.Open || st.State.MayBeBound() {
		st.record(&messages.ProfileRemoved{})
		st.drop(messages.DropBusy)
		return
	}
	st.change(d)
}

func (st *step) change(d Declare) {
	// A row of a file that did not change says nothing new, whatever the API
	// did to the profile since.
	sameRow := !d.Patch && d.Source == "file" && st.State.Source == "file" && d.Row == st.State.Row
	if !sameRow {
		if d.Spec != st.State.Spec || d.Source != st.State.Source || d.Row != st.State.Row {
			st.record(&messages.ProfileChanged{Spec: d.Spec.proto(), Source: d.Source, Row: d.Row})
		}
		switch {
		case d.Disabled && !st.State.Disabled:
			st.record(&messages.ProfileDisabled{})
		case !d.Disabled && st.State.Disabled:
			st.record(&messages.ProfileEnabled{})
		}
	}
	if d.NewSecret {
		st.record(&messages.CredentialsReplaced{})
	}
}

func (st *step) enable() {
	if st.State.Disabled {
		st.record(&messages.ProfileEnabled{})
	}
}

func (st *step) disable() {
	if !st.State.Disabled {
		st.record(&messages.ProfileDisabled{})
	}
}

// refresh remembers the wish; the host asks the registrar's gate for a slot. A
// request that is out is not overtaken (REG-06).
func (st *step) refresh() {
	switch {
	case !st.State.Wanted():
		st.drop(messages.DropUnwanted)
	case !st.State.RefreshWanted:
		st.record(&messages.RefreshRequested{})
	}
}

// setSecurity changes who is asked; the attempt that is open is not touched.
func (st *step) setSecurity(cmd SetSecurity) {
	e := &messages.SecuritySet{
		RegistrationHandler: st.State.Spec.RegistrationHandler, SessionHandler: st.State.Spec.SessionHandler,
	}
	if cmd.Registration != nil {
		e.RegistrationHandler = *cmd.Registration
	}
	if cmd.Session != nil {
		e.SessionHandler = *cmd.Session
	}
	if e.RegistrationHandler != st.State.Spec.RegistrationHandler || e.SessionHandler != st.State.Spec.SessionHandler {
		st.record(e)
	}
}

func (st *step) withdraw() {
	switch {
	case st.State.Attempt.Open:
		st.drop(messages.DropBusy)
	case !st.State.MayBeBound():
		st.drop(messages.DropUnwanted)
	default:
		st.start(messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER)
	}
}

func (st *step) fetch() {
	if st.State.Attempt.Open {
		st.drop(messages.DropBusy)
		return
	}
	st.start(messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH)
}

func (st *step) slotGranted() {
	purpose, at, ok := st.State.Due()
	switch {
	case st.State.Attempt.Open:
		st.drop(messages.DropBusy)
	case !ok:
		st.drop(messages.DropUnwanted)
	case at.After(st.in.Now):
		st.drop(messages.DropEarly)
	default:
		st.start(purpose)
	}
}

func (st *step) timerFired() {
	now := st.in.Now
	acted := false
	switch a := &st.State.Attempt; {
	case a.Open && !a.AnswerBy.IsZero() && !now.Before(a.AnswerBy):
		st.withheld(CredentialsWithheld{
			Attempt: a.Number, Handler: a.Handler, Reason: messages.ReasonHandler, Detail: "no answer in time",
			RetryAfter: time.Second, // it does not end the waiting at once
		})
		acted = true
	case a.Open && !now.Before(a.GuardAt):
		st.failed(0, messages.ReasonGuard, -1) // which may leave a doubt
		acted = true
	}
	if lapse := st.State.LapseAt(); !lapse.IsZero() && !now.Before(lapse) {
		st.record(&messages.BindingLapsed{InDoubt: st.State.Binding.MaybeUntil.After(now)})
		acted = true
	}
	if !acted {
		st.drop(messages.DropEarly)
	}
}

func (st *step) recovered() {
	s := st.State
	if !s.Attempt.Open {
		return
	}
	st.record(&messages.AttemptInterrupted{Attempt: s.Attempt.Number, RetryAtMs: st.retryAt(st.recoveryDelay())})
}

// recoveryDelay: a restart is not an outage. A binding that is alive waits a
// minute; one that is not is tried soon, spread by the jitter. What was halted
// stays so, and answers that were lost in crashes before any was accepted slow
// down, so that a crash loop does not guess passwords (CHA-15).
func (st *step) recoveryDelay() time.Duration {
	s, p, jitter := &st.State, st.policy, st.in.Jitter
	wait := time.Duration(jitter * float64(recoverySpread))
	if left := s.Binding.Until.Sub(st.in.Now); s.Bound() && left > 2*recoveryQuiet {
		wait = recoveryQuiet + time.Duration(jitter*float64(min(left-2*recoveryQuiet, recoveryQuiet)))
	}
	if s.Unproven > freeInterruptions {
		wait = max(wait, backoff(p.retryBase(), p.retryMax(), s.Unproven-freeInterruptions, jitter))
	}
	if s.Halted && s.Wanted() {
		wait = max(wait, backoff(p.haltBase(), p.haltMax(), max(s.Halts, s.Unproven)-1, jitter))
	}
	return wait
}
