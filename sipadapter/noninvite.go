package sipadapter

import "time"

// action is what a transaction machine asks of its table.
type action uint8

const (
	// actRetransmit: send the request again.
	actRetransmit action = 1 << iota
	// actDeliver: pass this response up.
	actDeliver
	// actAck: acknowledge this response, as the transaction of an INVITE does
	// with every one of 300 and above.
	actAck
	// actAbsorb: a repeat, count it.
	actAbsorb
	// actTimeout: report that no final response came.
	actTimeout
	// actRemove: the transaction is over.
	actRemove
)

// machine is a client transaction of RFC 3261 §17.1: it is told what happened
// and when, and says what to do and when to call again. It does nothing itself
// and is called under the lock of its shard.
type machine interface {
	// start is called when the request is about to leave.
	start(now time.Time) (next time.Time)
	// response is called for each response that belongs to the transaction.
	response(now time.Time, status int) (act action, next time.Time)
	// expire is called at next.
	expire(now time.Time) (act action, next time.Time)
}

// timerValues are the timers that everything else is derived from.
type timerValues struct{ t1, t2, t4 time.Duration }

// transactionTimeout is Timer B and Timer F.
func (v timerValues) transactionTimeout() time.Duration { return 64 * v.t1 }

// nonInvite is the machine of figure 6 in RFC 3261 §17.1.2.2.
//
//	trying ──1xx──► proceeding ──2xx to 6xx──► completed ──Timer K──► over
//	   └──────────2xx to 6xx──────────────────────▲
//	trying, proceeding ──Timer F──► over
type nonInvite struct {
	values   *timerValues
	reliable bool
	state    nonInviteState
	interval time.Duration // that Timer E runs for
	resendAt time.Time     // Timer E; zero on a reliable transport
	endAt    time.Time     // Timer F, then Timer K
}

type nonInviteState uint8

const (
	trying nonInviteState = iota
	proceeding
	completed
)

func newNonInvite(v timerValues, reliable bool) *nonInvite {
	return &nonInvite{values: &v, reliable: reliable}
}

func (m *nonInvite) start(now time.Time) time.Time {
	m.endAt = now.Add(m.values.transactionTimeout())
	if !m.reliable {
		m.interval = m.values.t1
		m.resendAt = now.Add(m.interval)
	}
	return m.next()
}

func (m *nonInvite) next() time.Time {
	if !m.resendAt.IsZero() && m.resendAt.Before(m.endAt) {
		return m.resendAt
	}
	return m.endAt
}

func (m *nonInvite) response(now time.Time, status int) (action, time.Time) {
	switch {
	case m.state == completed:
		return actAbsorb, m.next()
	case status < 200:
		// Timer E goes on as it is; its next interval is T2.
		m.state = proceeding
		return 0, m.next()
	case m.reliable: // Timer K is zero
		m.state = completed
		return actDeliver | actRemove, time.Time{}
	}
	m.state = completed
	m.resendAt = time.Time{}
	m.endAt = now.Add(m.values.t4)
	return actDeliver, m.next()
}

func (m *nonInvite) expire(now time.Time) (action, time.Time) {
	switch {
	case m.state == completed:
		return actRemove, time.Time{}
	case !now.Before(m.endAt):
		return actTimeout | actRemove, time.Time{}
	}
	m.interval = min(2*m.interval, m.values.t2)
	if m.state == proceeding {
		m.interval = m.values.t2
	}
	m.resendAt = now.Add(m.interval)
	return actRetransmit, m.next()
}
