package session_test

import (
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// TestEveryRuleCatchesItsFault plants one fault per rule: a check that never
// fails proves nothing.
func TestEveryRuleCatchesItsFault(t *testing.T) {
	const challenge = "response 407\n Proxy-Authenticate: a n1"
	up := []string{"start", "admitted", challenge, "offer", "response 200"}
	started := func(m *machine, change func(*messages.RequestStarted)) faults {
		e := &messages.RequestStarted{
			Attempt: m.state.Attempts + 1, Chain: m.state.Attempts + 1, Method: "INFO", Cseq: m.state.CSeq + 1, GuardAtMs: m.now.UnixMilli() + 1,
		}
		change(e)
		var f faults
		f.checkStarted(m, e)
		return f
	}
	answering := func(realm string, count uint32, d *messages.Dialog) func(*messages.RequestStarted) {
		return func(e *messages.RequestStarted) {
			e.Answers = []*messages.NonceCount{{Space: messages.Space_PROXY, Realm: realm, Count: count}}
			e.Handler, e.AnswerByMs, e.Dialog = "digest", 1, d
		}
	}
	effect := func(m *machine, e session.Effect) (f faults) {
		f.checkEffect(m, session.Input{Command: session.TimerFired{}}, e)
		return f
	}
	for _, tt := range []struct {
		want  string
		after []string
		plant func(m *machine) faults
	}{
		{"", up, func(m *machine) faults { return started(m, func(*messages.RequestStarted) {}) }},
		{"I2: attempt 3 with CSeq 4", up, func(m *machine) faults { return started(m, func(e *messages.RequestStarted) { e.Cseq = 4 }) }},
		{"CAN-02: INVITE begins", append(up, "end"), func(m *machine) faults {
			return started(m, func(e *messages.RequestStarted) { e.Method, e.Branch = "INVITE", "x" })
		}},
		{"without a branch", up, func(m *machine) faults { return started(m, func(e *messages.RequestStarted) { e.Method = "INVITE" }) }},
		{"INV-05: BYE", []string{"start", "admitted"}, func(m *machine) faults { return started(m, func(e *messages.RequestStarted) { e.Method = "BYE" }) }},
		{"I5: attempt 3 has no guard", up, func(m *machine) faults { return started(m, func(e *messages.RequestStarted) { e.GuardAtMs = 0 }) }},
		{"I6: round 6", up, func(m *machine) faults { return started(m, func(e *messages.RequestStarted) { e.Round = 6 }) }},
		{"", up, func(m *machine) faults { return started(m, answering("a", 2, nil)) }},
		{"I4: count 1", up, func(m *machine) faults { return started(m, answering("a", 1, nil)) }},
		{"an answer for", up, func(m *machine) faults { return started(m, answering("b", 1, nil)) }},
		{"S1: credentials for", up, func(m *machine) faults { return started(m, answering("a", 2, &messages.Dialog{Target: farContact})) }},
		{"S1: credentials go to a trunk", []string{"start trunk", "admitted"}, func(m *machine) faults {
			m.state.Challenge = m.state.Challenge.Learned([]*messages.RecordedChallenge{challenges(messages.Space_PROXY, "a n1")[0]})
			return started(m, answering("a", 1, nil))
		}},
		{"I2: INFO with CSeq 3 leaves after 9", append(up, "send INFO", "offer"), func(m *machine) faults {
			m.ledger.left = 9
			clear(m.host.out)
			return effect(m, session.SendRequest{Attempt: 3})
		}},
		{"I2: INFO with CSeq 3 leaves before 2", append(up, "send INFO", "offer"), func(m *machine) faults {
			m.ledger.left = 1
			clear(m.host.out)
			return effect(m, session.SendRequest{Attempt: 3})
		}},
		{"I5: attempt 3 is sent", append(up, "send INFO", "offer"), func(m *machine) faults { return effect(m, session.SendRequest{Attempt: 3}) }},
		{"I5: a question about", up, func(m *machine) faults { return effect(m, session.AskCredentials{Attempt: 2, Handler: "digest"}) }},
		{"CAN-01: CANCEL", up, func(m *machine) faults { return effect(m, session.Cancel{Attempt: 2}) }},
		{"is resumed", up, func(m *machine) faults { return effect(m, session.ResumeInvite{Attempt: 2}) }},
		{"INV-01: ACK of attempt 1", up, func(m *machine) faults {
			return effect(m, session.Acknowledge{Attempt: 1, CSeq: 1, Dialog: m.state.Dialog})
		}},
		{"S1: the ACK takes", up, func(m *machine) faults {
			return effect(m, session.Acknowledge{Attempt: 2, CSeq: 2, Credentials: true, Dialog: &messages.Dialog{Target: farContact}})
		}},
		{"the ACK has a body", up, func(m *machine) faults {
			return effect(m, session.Acknowledge{Attempt: 2, CSeq: 2, Body: true, Dialog: m.state.Dialog})
		}},
		{"nobody has asked", up, func(m *machine) faults { return effect(m, session.Respond{Method: "INFO", CSeq: 3, Status: 200}) }},
		{"did not begin", up, func(m *machine) faults { return effect(m, session.Tell{Notice: session.NoticeFailed, Chain: 9}) }},
		{"told that the session ended", up, func(m *machine) faults { return effect(m, session.Tell{Notice: session.NoticeEnded}) }},
		{"told that the session is up", append(up, "end"), func(m *machine) faults { return effect(m, session.Tell{Notice: session.NoticeEstablished}) }},
		{"I5: INFO of attempt 3 is open", append(up, "send INFO", "offer"), func(m *machine) (f faults) {
			clear(m.host.out)
			f.checkState(m, m.state)
			return f
		}},
		{"I3, DLG-13: 2 offers", append(up, "send INVITE", "offer"), func(m *machine) (f faults) {
			m.state.Requests = append(m.state.Requests, m.state.Requests[0])
			f.checkState(m, m.state)
			return f
		}},
		{"is never answered", up, func(m *machine) (f faults) {
			m.host.peers[peerKey{"INFO", 3}] = true
			f.checkState(m, m.state)
			return f
		}},
		{"I8: established after ending", up, func(m *machine) (f faults) {
			before := m.state
			before.Ending = true
			f.checkState(m, before)
			return f
		}},
		{"I8: session.Answer is not dropped", up, func(m *machine) (f faults) {
			f.checkDrop(session.State{Ended: true}, session.Input{Command: session.Answer{}}, session.Decision{})
			return f
		}},
		{"dropped (stale), yet", up, func(m *machine) (f faults) {
			d := session.Decision{Dropped: messages.DropStale, Effects: []session.Effect{session.Admit{}}}
			f.checkDrop(m.state, session.Input{Command: session.Answer{}}, d)
			return f
		}},
		{"I7: SessionEnding", up, func(m *machine) (f faults) {
			e := messages.NewSessionEvent(&messages.SessionEnding{Reason: canary})
			f.checkFold(m, e, session.Apply(m.state, e, m.now))
			return f
		}},
		{"I1: SessionEnding read back", up, func(m *machine) (f faults) {
			f.checkFold(m, messages.NewSessionEvent(&messages.SessionEnding{}), m.state)
			return f
		}},
		{"I9: session.Answer decides differently", up, func(m *machine) (f faults) {
			f.checkFunction(m.policy, encode(m.state), m.state, session.Input{Command: session.Answer{}}, session.Decision{})
			return f
		}},
		{"I9: session.Answer wrote", up, func(m *machine) (f faults) {
			in := session.Input{Command: session.Answer{}}
			d := session.Decide(m.policy, m.state, in)
			given := m.state
			given.CSeq++
			f.checkFunction(m.policy, encode(m.state), given, in, d)
			return f
		}},
		{"I5: wakes false", append(up, "send INFO", "offer"), func(m *machine) (f faults) {
			m.state.Requests[0].GuardAtMs = 0
			f.checkWake(m, m.state, session.Answer{}, session.Decision{})
			return f
		}},
		{"I5: the deadline", append(up, "send INFO", "offer", "advance 5m"), func(m *machine) (f faults) {
			f.checkWake(m, m.state, session.TimerFired{}, session.Decision{})
			return f
		}},
		{"not dropped", up, func(m *machine) (f faults) {
			f.checkWake(m, m.state, session.TimerFired{}, session.Decision{})
			return f
		}},
		{"INV-01: a 2xx", up, func(m *machine) (f faults) {
			r := &messages.SIPResponse{Status: 200, Dialog: &messages.DialogInfo{RemoteTag: "b1"}}
			f.checkAnswered(m, m.state, session.Answered{Attempt: 2, Response: r}, session.Decision{})
			return f
		}},
		{"ended: true, told 0 times", append(up, "peer BYE 1"), func(m *machine) (f faults) {
			f.checkAnswered(m, session.State{}, session.Answer{}, session.Decision{})
			return f
		}},
	} {
		w := newWorld(t)
		w.do(tt.after...)
		switch err := tt.plant(w.machine).err(); {
		case tt.want == "" && err != nil:
			t.Errorf("nothing is wrong, and it says %v", err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q is not caught: %v", tt.want, err)
		}
	}
}

// TestReplayIsChecked and TestSilenceIsChecked do the same for what looks at the
// whole.
func TestReplayIsChecked(t *testing.T) {
	w := newWorld(t)
	w.do("start", "admitted", "response 200")
	w.state.CSeq++
	if err := w.checkReplay(); err == nil {
		t.Error("another state is not noticed")
	}
}

func TestSilenceIsChecked(t *testing.T) {
	w := newWorld(t)
	w.do("start", "admitted")
	w.policy.RingLimit = 0
	w.state.Requests[0].GuardAtMs = w.now.AddDate(0, 0, 1).UnixMilli()
	if err := w.checkSilence(); err == nil {
		t.Error("a call that rings for a day is not noticed")
	}
}
