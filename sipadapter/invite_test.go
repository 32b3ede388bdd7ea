package sipadapter

import (
	"testing"
	"time"
)

// machineStep is one thing that happens to an INVITE machine.
type machineStep struct {
	at   time.Duration // since the start
	do   int           // a status code, or one of the below
	act  action
	next time.Duration // since the start; -1 means never
}

const (
	stepExpire = -1
	stepCancel = -2 // allowed
	stepDenied = -3 // a CANCEL that must not leave
)

// The rows hold what RFC 3261 §17.1.1.2 and RFC 6026 §8.4 say about each state.
func TestInviteMachine(t *testing.T) {
	const (
		s       = time.Second
		half    = s / 2
		deliver = actDeliver
		ackOnce = actDeliver | actAck
		ackMore = actAck | actAbsorb
	)
	usual := timerValues{defaultT1, defaultT2, defaultT4}
	cases := []struct {
		name              string
		reliable, resumed bool
		values            timerValues
		start             time.Duration // the first deadline
		steps             []machineStep
	}{
		{"TRX-03 Timers A and B", false, false, usual, half, []machineStep{
			{half, stepExpire, actRetransmit, 3 * half},
			{3 * half, stepExpire, actRetransmit, 7 * half},
			{7 * half, stepExpire, actRetransmit, 15 * half},
			{15 * half, stepExpire, actRetransmit, 31 * half},
			{31 * half, stepExpire, actRetransmit, 63 * half},
			{63 * half, stepExpire, actRetransmit, 32 * s},
			{32 * s, stepExpire, actTimeout | actRemove, 0},
		}},
		{"TRX-03 no Timer A on a stream", true, false, usual, 32 * s, []machineStep{
			{32 * s, stepExpire, actTimeout | actRemove, 0},
		}},
		{"TRX-03 a 1xx ends Timers A and B", false, false, usual, half, []machineStep{
			{s / 4, 100, deliver, -1},
			{time.Minute, 180, deliver, -1},
			{time.Hour, 199, deliver, -1},
			{2 * time.Hour, 200, deliver, 2*time.Hour + 32*s},
		}},
		{"TRX-04 Timer D", false, false, usual, half, []machineStep{
			{s / 4, 486, ackOnce, s/4 + 32*s},
			{s, 486, ackMore, s/4 + 32*s},
			{2 * s, 603, ackMore, s/4 + 32*s},
			{s/4 + 32*s, stepExpire, actRemove, 0},
		}},
		{"TRX-04 Timer D does not shrink with T1", false, false, timerValues{s / 10, s, s}, s / 10, []machineStep{
			{s / 20, 300, ackOnce, s/20 + 32*s},
		}},
		{"TRX-04 Timer D grows with T1", false, false, timerValues{s, 4 * s, 5 * s}, s, []machineStep{
			{half, 699, ackOnce, half + 64*s},
		}},
		{"TRX-04 Timer D is zero on a stream", true, false, usual, 32 * s, []machineStep{
			{s, 180, deliver, -1},
			{2 * s, 407, ackOnce | actRemove, 0},
		}},
		{"INV-03 after a refusal nothing else counts", false, false, usual, half, []machineStep{
			{s / 4, 407, ackOnce, s/4 + 32*s},
			{s, 180, actAbsorb, s/4 + 32*s},
			{2 * s, 200, actAbsorb, s/4 + 32*s},
			{3 * s, stepDenied, 0, s/4 + 32*s},
		}},
		{"TRX-06 Timer M", false, false, usual, half, []machineStep{
			{s / 4, 200, deliver, s/4 + 32*s},
			{s, 200, deliver, s/4 + 32*s},
			{2 * s, 299, deliver, s/4 + 32*s},
			{3 * s, 180, actAbsorb, s/4 + 32*s},
			{4 * s, 486, actAbsorb, s/4 + 32*s},
			{5 * s, stepDenied, 0, s/4 + 32*s},
			{s/4 + 32*s, stepExpire, actRemove, 0},
		}},
		{"TRX-06 Timer M on a stream", true, false, usual, 32 * s, []machineStep{
			{s, 200, deliver, 33 * s},
			{33 * s, stepExpire, actRemove, 0},
		}},
		{"CAN-01 not before a 1xx", false, false, usual, half, []machineStep{
			{s / 4, stepDenied, 0, half},
			{half, stepExpire, actRetransmit, 3 * half},
		}},
		{"CAN-03 64*T1 after the CANCEL", false, false, usual, half, []machineStep{
			{s / 4, 183, deliver, -1},
			{s, stepCancel, 0, 33 * s},
			{2 * s, stepDenied, 0, 33 * s},
			{3 * s, 180, deliver, 33 * s},
			{33 * s, stepExpire, actTimeout | actRemove, 0},
		}},
		{"CAN-03 a final response after the CANCEL", false, false, usual, half, []machineStep{
			{s / 4, 183, deliver, -1},
			{s, stepCancel, 0, 33 * s},
			{2 * s, 487, ackOnce, 34 * s},
		}},
		{"CAN-03 a 2xx that crosses the CANCEL", false, false, usual, half, []machineStep{
			{s / 4, 183, deliver, -1},
			{s, stepCancel, 0, 33 * s},
			{2 * s, 200, deliver, 34 * s},
		}},
		{"resumed and silent", false, true, usual, 32 * s, []machineStep{
			{32 * s, stepExpire, actTimeout | actRemove, 0},
		}},
		{"resumed and cancelled", false, true, usual, 32 * s, []machineStep{
			{s, stepCancel, 0, 33 * s},
			{33 * s, stepExpire, actTimeout | actRemove, 0},
		}},
		{"resumed and ringing", false, true, usual, 32 * s, []machineStep{
			{s, 180, deliver, -1},
			{time.Minute, 200, deliver, time.Minute + 32*s},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			base := time.Unix(0, 0)
			m := newInvite(c.values, c.reliable, c.resumed)
			if next := m.start(base); !next.Equal(base.Add(c.start)) {
				t.Fatalf("first deadline %v, want %v", next.Sub(base), c.start)
			}
			for i, step := range c.steps {
				now := base.Add(step.at)
				var act action
				var next time.Time
				switch step.do {
				case stepExpire:
					act, next = m.expire(now)
				case stepCancel, stepDenied:
					var allowed bool
					allowed, next = m.cancel(now)
					if allowed != (step.do == stepCancel) {
						t.Errorf("step %d: a CANCEL may leave: %v", i, allowed)
					}
				default:
					act, next = m.response(now, step.do)
				}
				want := base.Add(step.next)
				if step.next < 0 {
					want = never
				}
				if act&actRemove != 0 {
					want = next // it is not called again
				}
				if act != step.act || !next.Equal(want) {
					t.Errorf("step %d: action %b, next %v; want %b, %v", i, act, next.Sub(base), step.act, want.Sub(base))
				}
			}
		})
	}
}
