package sipadapter

import "time"

const (
	// tryingAfter is how long a caller may wait for the first response (RFC 3261
	// §17.2.1).
	tryingAfter = 200 * time.Millisecond
	// ringingLimit is how long an INVITE may stay without a final response after
	// the last provisional one: what a proxy grants (Timer C, RFC 3261 §16.6).
	ringingLimit = 3 * time.Minute
)

// duty is what a server transaction asks of its table.
type duty uint8

const (
	// dutySend: send the last response, the one that was given or an earlier
	// one again.
	dutySend duty = 1 << iota
	// dutyTrying: send a 100 (Trying).
	dutyTrying
	// dutyPass: pass this ACK up.
	dutyPass
	// dutyAbsorb: nothing is to be done.
	dutyAbsorb
	// dutyDecline: nobody has answered the INVITE in time.
	dutyDecline
	// dutyUnacked: no ACK came for the 2xx.
	dutyUnacked
	// dutyRemove: the transaction is over.
	dutyRemove
)

// serverMachine is a server transaction of RFC 3261 §17.2: it is told what happened
// and when, and says what to do and when to call again. It does nothing itself
// and is called under the lock of its shard.
type serverMachine interface {
	// start is called when the request has arrived.
	start(now time.Time) (next time.Time)
	// repeat is called when it arrives again.
	repeat() duty
	// response is called with a status that the core answers with.
	response(now time.Time, status int) (do duty, next time.Time)
	// ack is called for an ACK that belongs to the transaction or its 2xx.
	ack(now time.Time) (do duty, next time.Time)
	// expire is called at next.
	expire(now time.Time) (do duty, next time.Time)
}

// inviteServer is the machine of RFC 3261 §17.2.1 with the Accepted state of
// RFC 6026 §7.1. It repeats the 2xx as well, which RFC 3261 §13.3.1.4 leaves to
// the core.
//
//	proceeding ──2xx──► accepted ──Timer L──► over
//	    └──3xx to 6xx──► answered ──ACK──► confirmed ──Timer I──► over
//	                     answered ──Timer H──► over
type inviteServer struct {
	values   timerValues
	reliable bool
	state    inviteServerState
	tryingAt time.Time     // when a 100 is due; zero once a response has left
	interval time.Duration // that Timer G, or the repeat of a 2xx, runs for
	repeatAt time.Time     // when that ends; zero when nothing is repeated
	endAt    time.Time     // ringingLimit, then Timer H, I or L
	acked    bool          // the 2xx was
}

type inviteServerState uint8

const (
	inviteProceeding inviteServerState = iota
	inviteAnswered                     // Completed in the RFC
	inviteConfirmed
	inviteAccepted
)

func newInviteServer(v timerValues, reliable bool) *inviteServer {
	return &inviteServer{values: v, reliable: reliable}
}

func (m *inviteServer) start(now time.Time) time.Time {
	m.tryingAt, m.endAt = now.Add(tryingAfter), now.Add(ringingLimit)
	return m.next()
}

func (m *inviteServer) next() time.Time {
	next := m.endAt
	for _, t := range [...]time.Time{m.tryingAt, m.repeatAt} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

// repeat: in Accepted the INVITE is absorbed, because the 2xx is repeated
// anyway (RFC 6026 §7.1).
func (m *inviteServer) repeat() duty {
	switch {
	case m.state == inviteProceeding && m.tryingAt.IsZero(), m.state == inviteAnswered:
		return dutySend
	}
	return dutyAbsorb
}

func (m *inviteServer) response(now time.Time, status int) (duty, time.Time) {
	if m.state != inviteProceeding {
		return dutyAbsorb, m.next()
	}
	m.tryingAt = time.Time{}
	if status < 200 {
		m.endAt = now.Add(ringingLimit)
		return dutySend, m.next()
	}
	m.state, m.endAt = inviteAnswered, now.Add(m.values.transactionTimeout()) // Timer H
	if status < 300 {
		m.state = inviteAccepted // and that was Timer L
	}
	if m.state == inviteAccepted || !m.reliable {
		m.interval = m.values.t1
		m.repeatAt = now.Add(m.interval)
	}
	return dutySend, m.next()
}

func (m *inviteServer) ack(now time.Time) (duty, time.Time) {
	switch {
	case m.state == inviteAccepted && !m.acked:
		m.acked, m.repeatAt = true, time.Time{}
		return dutyPass, m.next()
	case m.state == inviteAnswered && m.reliable: // Timer I is zero
		m.state = inviteConfirmed
		return dutyRemove, time.Time{}
	case m.state == inviteAnswered:
		m.state, m.repeatAt = inviteConfirmed, time.Time{}
		m.endAt = now.Add(m.values.t4)
	}
	return dutyAbsorb, m.next()
}

func (m *inviteServer) expire(now time.Time) (duty, time.Time) {
	switch {
	case !now.Before(m.endAt):
		return m.end()
	case !m.tryingAt.IsZero() && !now.Before(m.tryingAt):
		m.tryingAt = time.Time{}
		return dutyTrying, m.next()
	case !m.repeatAt.IsZero() && !now.Before(m.repeatAt):
		m.interval = min(2*m.interval, m.values.t2)
		m.repeatAt = now.Add(m.interval)
		return dutySend, m.next()
	}
	return dutyAbsorb, m.next()
}

func (m *inviteServer) end() (duty, time.Time) {
	switch {
	case m.state == inviteProceeding:
		return dutyDecline, m.endAt
	case m.state == inviteAccepted && !m.acked:
		return dutyUnacked | dutyRemove, time.Time{}
	}
	return dutyRemove, time.Time{}
}

// otherServer is the machine of RFC 3261 §17.2.2 as RFC 4320 §4 leaves it:
// without provisional responses, without a 408, and without any answer when the
// caller has given up.
//
//	waiting ──2xx to 6xx──► answered ──Timer J──► over
//	waiting ──64*T1──► over
type otherServer struct {
	values   timerValues
	reliable bool
	answered bool
	endAt    time.Time // when the caller gives up (Timer F), then Timer J
}

func newOtherServer(v timerValues, reliable bool) *otherServer {
	return &otherServer{values: v, reliable: reliable}
}

func (m *otherServer) start(now time.Time) time.Time {
	m.endAt = now.Add(m.values.transactionTimeout())
	return m.endAt
}

func (m *otherServer) repeat() duty {
	if m.answered {
		return dutySend
	}
	return dutyAbsorb
}

func (m *otherServer) response(now time.Time, status int) (duty, time.Time) {
	if m.answered || status < 200 || status == 408 {
		return dutyAbsorb, m.endAt
	}
	m.answered = true
	if m.reliable { // Timer J is zero
		return dutySend | dutyRemove, time.Time{}
	}
	m.endAt = now.Add(m.values.transactionTimeout())
	return dutySend, m.endAt
}

func (m *otherServer) ack(time.Time) (duty, time.Time) { return dutyAbsorb, m.endAt }

func (m *otherServer) expire(time.Time) (duty, time.Time) { return dutyRemove, time.Time{} }
