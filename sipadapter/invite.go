package sipadapter

import "time"

// minTimerD is the least that Timer D runs on an unreliable transport. It does
// not shrink with T1, because the other side's T1 is not known (RFC 3261
// §17.1.1.2).
const minTimerD = 32 * time.Second

// invite is the machine of figure 5 in RFC 3261 §17.1.1.2 as figure 5 of RFC
// 6026 §8.4 changes it.
//
//	calling ──1xx──► proceeding ──300 to 699──► completed ──Timer D──► over
//	   ├─────────────300 to 699────────────────────▲
//	   └──2xx──► accepted ◄──2xx── proceeding
//	accepted ──Timer M──► over
//	calling ──Timer B──► over
//	proceeding ──64*T1 after CANCEL or Resume──► over
//
// A call may ring for as long as the caller lets it, so proceeding has no
// timer of its own.
type invite struct {
	values    timerValues
	reliable  bool
	resumed   bool // an earlier process sent the request
	state     clientState
	cancelled bool
	interval  time.Duration // that Timer A runs for
	resendAt  time.Time     // Timer A; zero when it does not run
	endAt     time.Time     // Timer B, D or M, or the end of the wait after a CANCEL
}

type clientState uint8

const (
	clientCalling clientState = iota
	clientProceeding
	clientCompleted
	clientAccepted
)

func newInvite(v timerValues, reliable, resumed bool) *invite {
	return &invite{values: v, reliable: reliable, resumed: resumed}
}

func (m *invite) start(now time.Time) time.Time {
	m.endAt = now.Add(m.values.transactionTimeout())
	switch {
	case m.resumed:
		m.state = clientProceeding
	case !m.reliable:
		m.interval = m.values.t1
		m.resendAt = now.Add(m.interval)
	}
	return m.next()
}

func (m *invite) next() time.Time {
	if !m.resendAt.IsZero() && m.resendAt.Before(m.endAt) {
		return m.resendAt
	}
	return m.endAt
}

func (m *invite) response(now time.Time, status int) (action, time.Time) {
	switch m.state {
	case clientCompleted:
		if status >= 300 {
			return actAck | actAbsorb, m.next()
		}
		return actAbsorb, m.next()
	case clientAccepted:
		if status >= 200 && status < 300 {
			return actDeliver, m.next()
		}
		return actAbsorb, m.next()
	}
	m.resendAt = time.Time{}
	switch {
	case status < 200:
		m.state = clientProceeding
		if !m.cancelled {
			m.endAt = never
		}
		return actDeliver, m.next()
	case status < 300:
		m.state = clientAccepted
		m.endAt = now.Add(m.values.transactionTimeout())
		return actDeliver, m.next()
	}
	m.state = clientCompleted
	if m.reliable { // Timer D is zero
		return actDeliver | actAck | actRemove, time.Time{}
	}
	m.endAt = now.Add(max(m.values.transactionTimeout(), minTimerD))
	return actDeliver | actAck, m.next()
}

// cancel is called when a CANCEL is wanted. It tells whether one may leave: not
// before a provisional response, not after a final one, and not twice (RFC 3261
// §9.1). From then on the transaction waits for no longer than 64*T1.
func (m *invite) cancel(now time.Time) (allowed bool, next time.Time) {
	if m.state != clientProceeding || m.cancelled {
		return false, m.next()
	}
	m.cancelled = true
	m.endAt = now.Add(m.values.transactionTimeout())
	return true, m.next()
}

func (m *invite) expire(now time.Time) (action, time.Time) {
	switch {
	case m.state == clientCompleted, m.state == clientAccepted:
		return actRemove, time.Time{}
	case !now.Before(m.endAt):
		return actTimeout | actRemove, time.Time{}
	}
	m.interval *= 2
	m.resendAt = now.Add(m.interval)
	return actRetransmit, m.next()
}
