package sipadapter

import (
	"testing"
	"time"
)

// step is one thing that happens to a server transaction, and what it asks for.
type step struct {
	at   float64 // seconds
	what string  // "repeat", "ack", "expire" or a status
	want duty
	next float64 // seconds; -1: none
}

// statuses are those that the steps use.
var statuses = map[string]int{"100": 100, "180": 180, "200": 200, "302": 302, "408": 408, "486": 486}

func play(t *testing.T, m serverMachine, first float64, steps []step) {
	t.Helper()
	base := time.Unix(1_000_000, 0)
	moment := func(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }
	if next := m.start(base); !next.Equal(moment(first)) {
		t.Errorf("first deadline after %v, want %vs", next.Sub(base), first)
	}
	for i, s := range steps {
		var got duty
		var next time.Time
		switch s.what {
		case "repeat":
			if got = m.repeat(); got != s.want {
				t.Errorf("step %d %+v: duty %b", i, s, got)
			}
			continue
		case "ack":
			got, next = m.ack(moment(s.at))
		case "expire":
			got, next = m.expire(moment(s.at))
		default:
			got, next = m.response(moment(s.at), statuses[s.what])
		}
		if got != s.want {
			t.Errorf("step %d %+v: duty %b", i, s, got)
		}
		if s.next < 0 != next.IsZero() || s.next >= 0 && !next.Equal(moment(s.next)) {
			t.Errorf("step %d %+v: next after %v", i, s, next.Sub(base))
		}
	}
}

// The machine of RFC 3261 §17.2.1 and RFC 6026 §7.1, in seconds.
func TestInviteServerMachine(t *testing.T) {
	values := timerValues{defaultT1, defaultT2, defaultT4}
	const limit = 180.0
	for name, c := range map[string]struct {
		reliable bool
		steps    []step
	}{
		"100 after 200 ms": {false, []step{
			{0.1, "repeat", dutyAbsorb, 0},
			{0.2, "expire", dutyTrying, limit},
			{0.5, "repeat", dutySend, 0},
			{1, "180", dutySend, 1 + limit},
			{2, "repeat", dutySend, 0},
			{60, "180", dutySend, 60 + limit},
			{60 + limit, "expire", dutyDecline, 60 + limit},
			{60 + limit, "486", dutySend, 60.5 + limit},
		}},
		"an early response makes the 100 needless": {false, []step{
			{0.1, "100", dutySend, 0.1 + limit},
			{0.2, "expire", dutyAbsorb, 0.1 + limit},
		}},
		"timer G and H": {false, []step{
			{0, "486", dutySend, 0.5},
			{0.2, "repeat", dutySend, 0},
			{0.2, "200", dutyAbsorb, 0.5},
			{0.5, "expire", dutySend, 1.5},
			{1.5, "expire", dutySend, 3.5},
			{3.5, "expire", dutySend, 7.5},
			{7.5, "expire", dutySend, 11.5},
			{11.5, "expire", dutySend, 15.5},
			{15.5, "expire", dutySend, 19.5},
			{31.5, "expire", dutySend, 32},
			{32, "expire", dutyRemove, -1},
		}},
		"timer I": {false, []step{
			{0, "302", dutySend, 0.5},
			{1, "ack", dutyAbsorb, 6},
			{2, "repeat", dutyAbsorb, 0},
			{3, "ack", dutyAbsorb, 6},
			{6, "expire", dutyRemove, -1},
		}},
		"a refusal over TCP is not repeated": {true, []step{
			{0, "486", dutySend, 32},
			{1, "repeat", dutySend, 0},
			{2, "ack", dutyRemove, -1},
		}},
		"timer H over TCP": {true, []step{
			{0, "486", dutySend, 32},
			{32, "expire", dutyRemove, -1},
		}},
		"2xx until the ACK, and timer L": {false, []step{
			{0, "180", dutySend, limit},
			{10, "200", dutySend, 10.5},
			{10.1, "repeat", dutyAbsorb, 0},
			{10.5, "expire", dutySend, 11.5},
			{11.5, "expire", dutySend, 13.5},
			{12, "ack", dutyPass, 42},
			{13, "ack", dutyAbsorb, 42},
			{14, "repeat", dutyAbsorb, 0},
			{42, "expire", dutyRemove, -1},
		}},
		"2xx without ACK, over TCP as well": {true, []step{
			{0, "200", dutySend, 0.5},
			{0.5, "expire", dutySend, 1.5},
			{1.5, "expire", dutySend, 3.5},
			{3.5, "expire", dutySend, 7.5},
			{7.5, "expire", dutySend, 11.5},
			{27.5, "expire", dutySend, 31.5},
			{31.5, "expire", dutySend, 32},
			{32, "expire", dutyUnacked | dutyRemove, -1},
		}},
		"an ACK for nothing": {false, []step{{0.1, "ack", dutyAbsorb, 0.2}}},
	} {
		t.Run(name, func(t *testing.T) { play(t, newInviteServer(values, c.reliable), 0.2, c.steps) })
	}
}

// The machine of RFC 3261 §17.2.2. TRX-11: neither 1xx nor 408 leaves it, and
// nothing after the caller has given up.
func TestTRX11_OtherServerMachine(t *testing.T) {
	values := timerValues{defaultT1, defaultT2, defaultT4}
	for name, c := range map[string]struct {
		reliable bool
		steps    []step
	}{
		"timer J": {false, []step{
			{0, "repeat", dutyAbsorb, 0},
			{1, "100", dutyAbsorb, 32},
			{1, "180", dutyAbsorb, 32},
			{1, "408", dutyAbsorb, 32},
			{2, "200", dutySend, 34},
			{3, "repeat", dutySend, 0},
			{4, "486", dutyAbsorb, 34},
			{5, "ack", dutyAbsorb, 34},
			{34, "expire", dutyRemove, -1},
		}},
		"reliable":       {true, []step{{1, "486", dutySend | dutyRemove, -1}}},
		"never answered": {false, []step{{32, "expire", dutyRemove, -1}}},
	} {
		t.Run(name, func(t *testing.T) { play(t, newOtherServer(values, c.reliable), 32, c.steps) })
	}
}
