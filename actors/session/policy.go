package session

import (
	"time"

	"github.com/sipmuster/muster/actors/challenge"
)

// Policy is what the RFCs leave open, per profile and registrar. The zero value
// is usable.
type Policy struct {
	Challenge challenge.Policy
	// Handlers is the profile's session handler, as a chain; empty means the
	// DigestActor.
	Handlers []string
	// AnswerLimits is how long each xSP may take, by name; 0 means 3 s.
	AnswerLimits map[string]time.Duration
	// Targets are "host:port", in lower case, where the profile's credentials
	// may go: its registrar and outbound proxy, as configured and as they
	// answered (S-01, S-03).
	Targets []string
	// RedirectHosts are the hosts that a 3xx may lead to; Redirects bounds how
	// many are followed, 0 means 3 and negative none.
	RedirectHosts []string
	Redirects     int
	// AdmitLimit is how long a call waits for its registrar's pace; 0 means
	// 10 s.
	AdmitLimit time.Duration
	// RingLimit is how long a call may ring; 0 means 3 min (RFC 3261 §16.6,
	// Timer C).
	RingLimit time.Duration
	// Guard is how long the adapter may be silent about any other request; 0
	// means 120 s.
	Guard time.Duration
	// OwnerLimit is how long the owner may think about a request of the peer
	// that is not an INVITE (RFC 4320 gives it 64*T1); 0 means 20 s.
	OwnerLimit time.Duration
	// Interval is the session interval that is asked for (RFC 4028); 0 means
	// 30 min, negative asks for none.
	Interval time.Duration
	// MinSE is the shortest interval that is accepted; below 90 s it is 90 s.
	MinSE time.Duration
	// Unacknowledged is true while the ACK of a 2xx of ours is missing: until
	// then the peer's INVITE is not over, and none of ours may begin (RFC 3261
	// §14.1).
	Unacknowledged bool
	// Owned is true when somebody answers the peer's requests.
	Owned bool
}

const (
	// minInterval is RFC 4028 §4.
	minInterval = 90 * time.Second
	// transactionLimit is Timer B and Timer F, 64*T1.
	transactionLimit = 32 * time.Second
	// endingGuard is when an ending session is given up: a CANCEL or BYE, each
	// with its answer to a challenge.
	endingGuard = 3*transactionLimit + 10*time.Second
	// answerDue is how long the ACK of an offer in a 2xx may wait: the peer
	// repeats the 2xx for 64*T1.
	answerDue = 10 * time.Second
	// maxIntervals bounds the 422s (TMR-02), maxGlare the 491s (DLG-14).
	maxIntervals = 3
	maxGlare     = 1
	// maxForks bounds the unwanted dialogs that are ended one by one; maxEarly
	// the early dialogs that are kept (S-31).
	maxForks = 16
	maxEarly = 16
	// maxOpen bounds the requests of ours that are open at once, and maxPeer the
	// peer's.
	maxOpen = 16
	maxPeer = 8
)

func (p Policy) admitLimit() time.Duration { return or(p.AdmitLimit, 10*time.Second) }
func (p Policy) ringLimit() time.Duration  { return or(p.RingLimit, 3*time.Minute) }
func (p Policy) guard() time.Duration      { return or(p.Guard, 2*time.Minute) }
func (p Policy) ownerLimit() time.Duration { return or(p.OwnerLimit, 20*time.Second) }
func (p Policy) minSE() time.Duration      { return max(p.MinSE, minInterval) }

func (p Policy) answerLimit(handler string) time.Duration {
	return or(p.AnswerLimits[handler], 3*time.Second)
}

func (p Policy) redirects() uint32 {
	if p.Redirects == 0 {
		return 3
	}
	return uint32(max(p.Redirects, 0))
}

// interval is what to ask for, at least min; 0 for none.
func (p Policy) interval(least uint32) time.Duration {
	if p.Interval < 0 {
		return 0
	}
	return max(or(p.Interval, 30*time.Minute), p.minSE(), time.Duration(least)*time.Second)
}

func or(v, otherwise time.Duration) time.Duration {
	if v == 0 {
		return otherwise
	}
	return v
}
