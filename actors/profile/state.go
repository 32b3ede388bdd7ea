package profile

import (
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// State is what the events of a profile add up to. It is a value: no maps, no
// pointers, slices are replaced and never written in place. The zero State is
// a profile that does not exist yet.
type State struct {
	Spec Spec
	// Source ("file" or "api") and Row tell where the declaration came from,
	// so that a reload touches only what changed.
	Source, Row string
	// Disabled is the operator's switch, from the declaration or the API.
	Disabled bool
	// Removing is true from ProfileRemoved until ProfileForgotten.
	Removing bool
	// Gone is true after ProfileForgotten: a tombstone, so that a file that
	// still lists the profile does not bring it back.
	Gone bool

	// CallID, FromTag and CSeq belong together (RFC 3261 §10.2): CSeq is the
	// highest number that may have been sent with CallID.
	CallID, FromTag string
	CSeq            uint32

	Binding Binding
	Attempt Attempt

	// MinSeconds is the Min-Expires that a 423 asked for; 0 when none did.
	MinSeconds uint32
	// NextAt is when the next attempt is due. Zero means at once, if one is
	// wanted; see Due.
	NextAt time.Time
	// Failures counts failed attempts in a row: the exponent of RFC 5626 §4.5.
	Failures uint32
	// Halted is true while trying again soon would do harm; Halts counts halts
	// in a row. With Halted and a zero NextAt only an operator helps.
	Halted bool
	Halts  uint32
	// LastStatus and Reason describe the latest end of an attempt.
	LastStatus uint32
	Reason     messages.Reason
	// Proven is true once the registrar accepted the secret; Unproven counts
	// the answers sent since the last acceptance, also of a secret that was
	// proven once, for it may have changed at the registrar. It survives
	// crashes so that a crash loop is not a guessing loop (CHA-15).
	Proven   bool
	Unproven uint32
	// RefreshWanted is an operator's request for an attempt now, or a change of
	// the declaration that the open attempt does not know.
	RefreshWanted bool
	// EarlyHandler is the xSP that said of its latest answer that it may be
	// asked again before the first request of a chain; the DigestActor always
	// may.
	EarlyHandler string
	// Dropped are option tags that the registrar refused with 420.
	Dropped []string

	Challenge challenge.State
}

// Spec is the declaration, without secrets.
type Spec struct {
	AOR         string
	Registrar   string
	Username    string
	ContactUser string
	// Expires is the wanted expiry; 0 means the registrar's.
	Expires time.Duration
	// The handlers are chains such as "token-service>digest"; empty means the
	// registrar's.
	RegistrationHandler string
	SessionHandler      string
	Register            bool
}

// Binding is what the registrar holds for us.
type Binding struct {
	// Until is when it ends; zero when there is none.
	Until   time.Time
	Granted time.Duration
	// MaybeUntil is how long a binding may exist that we have no answer about:
	// a request was lost in the dark. Zero when there is no doubt.
	MaybeUntil   time.Time
	ServiceRoute []string
}

// Attempt is one request and what answers it; a challenge, a 423 and a
// redirect start the next attempt of the same chain.
type Attempt struct {
	Number  uint64
	Open    bool
	Purpose messages.AttemptPurpose
	// Round counts the answered requests of the chain.
	Round          uint32
	ExpiresSeconds uint32
	// Answers are the nonce counts that the open request carries.
	Answers []*messages.NonceCount
	// Handler is who is or was asked for the answers.
	Handler string
	// AnswerBy is when an xSP that was asked counts as silent; zero when none
	// is asked.
	AnswerBy time.Time
	// Continues is true when the request carries a step of a longer procedure:
	// another challenge is expected.
	Continues bool
	// GuardAt is when the attempt is given up if nothing is heard.
	GuardAt time.Time
	// Intervals counts the 423s, Renamed and Adapted are true after the one
	// new Call-ID (481) and the one adapted request (420), Targets are the
	// redirect targets, all of this chain.
	Intervals        uint32
	Renamed, Adapted bool
	Targets          []string
}

// Exists tells whether the profile is declared.
func (s *State) Exists() bool { return s.Spec.AOR != "" && !s.Gone }

// Wanted tells whether the profile shall be registered.
func (s *State) Wanted() bool {
	return s.Exists() && !s.Disabled && !s.Removing && s.Spec.Register
}

// Bound tells whether the registrar is known to hold our binding.
func (s *State) Bound() bool { return !s.Binding.Until.IsZero() }

// MayBeBound tells whether the registrar may hold a binding of ours.
func (s *State) MayBeBound() bool { return s.Bound() || !s.Binding.MaybeUntil.IsZero() }

// LapseAt is when a binding ends, or the doubt whether one exists; zero when
// there is neither.
func (s *State) LapseAt() time.Time {
	if s.Bound() {
		return s.Binding.Until
	}
	return s.Binding.MaybeUntil
}

// Due tells whether an attempt shall be made, for what, and from when on; a
// zero time means at once.
func (s *State) Due() (purpose messages.AttemptPurpose, at time.Time, ok bool) {
	switch {
	case s.Attempt.Open || !s.Exists():
		return 0, time.Time{}, false
	case s.Wanted():
		if s.RefreshWanted {
			return messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER, time.Time{}, true
		}
		if s.Halted && s.NextAt.IsZero() {
			return 0, time.Time{}, false
		}
		return messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER, s.NextAt, true
	case s.MayBeBound():
		return messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER, s.NextAt, true
	}
	return 0, time.Time{}, false
}

// WakeAt is when the profile must be woken next if nothing happens before, and
// ok false when never. A zero time means at once.
func (s *State) WakeAt() (at time.Time, ok bool) {
	if s.Attempt.Open {
		at, ok = s.Attempt.GuardAt, true
		if by := s.Attempt.AnswerBy; !by.IsZero() && by.Before(at) {
			at = by
		}
	} else if _, due, wants := s.Due(); wants {
		at, ok = due, true
	}
	if lapse := s.LapseAt(); !lapse.IsZero() && (!ok || lapse.Before(at)) {
		at, ok = lapse, true
	}
	return at, ok
}

// Status is the state that the API shows (design §9).
func (s *State) Status() string {
	switch {
	case !s.Exists():
		return ""
	case s.Disabled:
		return "disabled"
	case s.Removing, !s.Spec.Register:
		return "unregistered"
	case s.Halted:
		return "rejected"
	case s.Bound():
		return "registered"
	case s.Attempt.Open && s.Attempt.Round > 0:
		return "challenged"
	case s.Attempt.Open:
		return "registering"
	case s.Failures > 0:
		return "backoff"
	}
	return "registering"
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
