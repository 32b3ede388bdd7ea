package profile

import (
	"time"

	"github.com/sipmuster/muster/actors/challenge"
)

// Policy is the numbers that the RFCs leave open, per registrar. The zero
// value is usable: each field says what zero means.
type Policy struct {
	Challenge challenge.Policy
	// Expires is asked for when the profile does not say; 0 means 3600 s, the
	// default of RFC 3261 §10.2.
	Expires time.Duration
	// MaxGranted caps a granted expiry; 0 means 7 days.
	MaxGranted time.Duration
	// MaxMinExpires caps what a 423 may demand; 0 means 7 days.
	MaxMinExpires time.Duration
	// RefreshFloor is the shortest time between a grant and its refresh, so
	// that a registrar cannot raise our rate (S-33); 0 means 5 s.
	RefreshFloor time.Duration
	// Tolerate counts a 2xx without our contact as a grant (REG-13).
	Tolerate bool
	// RequireProof believes a 2xx only with a right rspauth (AIN-04).
	RequireProof bool
	// RetryBase and RetryMax are RFC 5626 §4.5's base-time and max-time; 0
	// means 30 s and 1800 s.
	RetryBase, RetryMax time.Duration
	// HaltBase doubles per halt in a row up to HaltMax; 0 means 1 h and 24 h
	// (REG-25, CHA-15).
	HaltBase, HaltMax time.Duration
	// MaxRetryAfter caps Retry-After; 0 means 1 h (ERR-07).
	MaxRetryAfter time.Duration
	// Guard is how long the adapter may be silent: three addresses of 64*T1
	// each and the authenticator's deadline; 0 means 120 s.
	Guard time.Duration
	// Redirects bounds the 3xx of one chain; 0 means 5. Targets are the hosts
	// that a redirect may lead to, in lower case (S-06).
	Redirects int
	Targets   []string
	// RegistrationHandler and SessionHandler are the chains of handlers for
	// profiles that name none; empty means the DigestActor.
	RegistrationHandler, SessionHandler string
	// AnswerLimits is how long each xSP may take to answer, by name; 0 means
	// 3 s.
	AnswerLimits map[string]time.Duration
	// WithdrawTries bounds the attempts to remove the binding of a profile
	// that is being removed; 0 means 3 (REG-20).
	WithdrawTries uint32
}

const (
	day = 24 * time.Hour
	// refreshMargin is the longest a REGISTER transaction lasts (Timer F,
	// 64*T1): a refresh must be over before the binding ends (RFC 5627 §4.2).
	refreshMargin = 32 * time.Second
	// maxCSeq is the highest CSeq (RFC 3261 §8.1.1.5).
	maxCSeq = 1<<31 - 1
	// maxIntervals bounds the 423s of one chain (REG-23).
	maxIntervals = 3
	// recoverySpread spreads the attempts after a restart; recoveryQuiet is
	// how long a node stays quiet about bindings that are alive.
	recoverySpread = 5 * time.Second
	recoveryQuiet  = 60 * time.Second
	// handlerRetry is the back-off's base while an xSP does not answer and a
	// binding is at stake: the registrar is not in trouble, and often it is not
	// even asked.
	handlerRetry = 5 * time.Second
	// freeInterruptions is how many answers may be lost in crashes before the
	// back-off grows (CHA-15).
	freeInterruptions = 3
)

func (p *Policy) expires() time.Duration       { return or(p.Expires, time.Hour) }
func (p *Policy) maxGranted() time.Duration    { return or(p.MaxGranted, 7*day) }
func (p *Policy) maxMinExpires() time.Duration { return or(p.MaxMinExpires, 7*day) }
func (p *Policy) refreshFloor() time.Duration  { return or(p.RefreshFloor, 5*time.Second) }
func (p *Policy) retryBase() time.Duration     { return or(p.RetryBase, 30*time.Second) }
func (p *Policy) retryMax() time.Duration      { return or(p.RetryMax, 1800*time.Second) }
func (p *Policy) haltBase() time.Duration      { return or(p.HaltBase, time.Hour) }
func (p *Policy) haltMax() time.Duration       { return or(p.HaltMax, day) }
func (p *Policy) maxRetryAfter() time.Duration { return or(p.MaxRetryAfter, time.Hour) }
func (p *Policy) guard() time.Duration         { return or(p.Guard, 120*time.Second) }

func (p *Policy) answerLimit(handler string) time.Duration {
	return or(p.AnswerLimits[handler], 3*time.Second)
}

func (p *Policy) redirects() int {
	if p.Redirects == 0 {
		return 5
	}
	return p.Redirects
}

func (p *Policy) withdrawTries() uint32 {
	if p.WithdrawTries == 0 {
		return 3
	}
	return p.WithdrawTries
}

func or(v, otherwise time.Duration) time.Duration {
	if v == 0 {
		return otherwise
	}
	return v
}
