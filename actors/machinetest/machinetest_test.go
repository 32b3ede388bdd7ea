package machinetest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// at takes a machine through script commands that break no rule.
func at(t *testing.T, lines ...string) *Machine {
	t.Helper()
	m := New(profile.Policy{})
	for _, line := range lines {
		if _, err := m.Do(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return m
}

const (
	challenged = "response 401\n WWW-Authenticate: Digest realm=\"a\", nonce=\"n1\""
	accepted   = "response 200\n Contact: ours;expires=3600"
)

// started is an attempt that the machine could record next.
func started(m *Machine, change func(*messages.AttemptStarted)) *messages.ProfileEvent {
	e := &messages.AttemptStarted{
		Attempt: m.State.Attempt.Number + 1, Cseq: m.State.CSeq + 1, Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER,
	}
	change(e)
	return messages.NewProfileEvent(e)
}

// forgetful numbers every text and knows none.
type forgetful struct{}

func (forgetful) Number(_, _ string) (uint64, bool) { return 0, true }
func (forgetful) Text(uint64) string                { return "" }

// TestEveryRuleCatchesItsFault plants one fault per rule: a check that never
// fails proves nothing.
func TestEveryRuleCatchesItsFault(t *testing.T) {
	asked := []string{"declare", "slot", challenged}
	sent := []string{"declare", "slot", challenged, "offer"}
	event := func(m *Machine, e *messages.ProfileEvent) faults {
		var f faults
		f.checkEvent(m, e, profile.Apply(m.State, e))
		return f
	}
	answer := func(realm string, count uint32) func(*messages.AttemptStarted) {
		return func(e *messages.AttemptStarted) {
			e.Answers, e.Handler = []*messages.NonceCount{{Space: messages.Space_ORIGIN, Realm: realm, Count: count}}, "digest"
		}
	}
	for _, tt := range []struct {
		want  string
		after []string
		plant func(m *Machine) faults
	}{
		{"I1: ProfileDisabled read back", asked, func(m *Machine) (f faults) {
			f.checkFold(m.State, messages.NewProfileEvent(&messages.ProfileDisabled{}), m.State)
			return f
		}},
		{"I1: packed under the id", asked, func(m *Machine) (f faults) {
			m.Words.Texts = forgetful{}
			f.checkPacked(m, m.State)
			return f
		}},
		{"I1: profile.Enable promises another state", asked, func(m *Machine) (f faults) {
			f.checkPromise(profile.Enable{}, profile.Decision{}, m.State)
			return f
		}},
		{"I2: CSeq 2 after 2", asked, func(m *Machine) faults {
			return event(m, started(m, func(e *messages.AttemptStarted) { e.Cseq = m.State.CSeq }))
		}},
		{"I2: the CSeq of a request that left is given back", sent, func(m *Machine) faults {
			return event(m, messages.NewProfileEvent(&messages.CredentialsRefused{Attempt: m.sent}))
		}},
		{"I2: CSeq 2 leaves again", sent, func(m *Machine) (f faults) {
			f.checkEffect(m, profile.SendRequest{Attempt: m.State.Attempt.Number})
			return f
		}},
		{"I3: request of attempt 1", asked, func(m *Machine) (f faults) {
			f.checkEffect(m, profile.SendRequest{Attempt: 1})
			return f
		}},
		{"I3: question for attempt 2", asked, func(m *Machine) (f faults) {
			f.checkEffect(m, profile.AskCredentials{Attempt: 2, Handler: "digest"})
			return f
		}},
		{"I4: count 1 of origin/a", sent, func(m *Machine) faults { return event(m, started(m, answer("a", 1))) }},
		{"an answer for origin/b, which is not known", sent, func(m *Machine) faults { return event(m, started(m, answer("b", 1))) }},
		{"S-01: realm \"a\" is answered", sent, func(m *Machine) faults {
			m.Policy.Challenge.Realms = []string{"b"}
			return event(m, started(m, answer("a", 2)))
		}},
		{"I5: attempt 2 is open with no question", asked, func(m *Machine) (f faults) {
			m.asked = 0
			f.checkState(m, profile.TimerFired{})
			return f
		}},
		{"I5: stalled", append(sent, "response 403"), func(m *Machine) (f faults) {
			m.State.NextAt = profile.State{}.NextAt // which only an operator ends
			f.checkState(m, profile.Enable{})
			return f
		}},
		{"I5: next attempt in", append(sent, "response 403"), func(m *Machine) (f faults) {
			m.State.NextAt = m.Now.AddDate(1, 0, 0)
			f.checkState(m, profile.Enable{})
			return f
		}},
		{"I6: round 6", sent, func(m *Machine) faults {
			return event(m, started(m, func(e *messages.AttemptStarted) { e.Round = 6 }))
		}},
		{"I6: 4 answers", sent, func(m *Machine) faults {
			k := realmKey{messages.Space_ORIGIN, "a"}
			m.ledger.asking[k], m.ledger.answers[k] = true, 3
			return event(m, started(m, answer("a", 2)))
		}},
		{"I9: profile.Enable decides differently", asked, func(m *Machine) (f faults) {
			in := profile.Input{Now: m.Now, Command: profile.Enable{}}
			f.checkFunction(m.Policy, encode(m.State), m.State, in, profile.Decision{Dropped: messages.DropBusy})
			return f
		}},
		{"I9: profile.Enable wrote into the state", asked, func(m *Machine) (f faults) {
			in := profile.Input{Now: m.Now, Command: profile.Enable{}}
			f.checkFunction(m.Policy, encode(m.State), profile.State{}, in, profile.Decide(m.Policy, m.State, in))
			return f
		}},
		{"REG-06: profile.Refresh ends attempt 2", sent, func(m *Machine) (f faults) {
			before := m.State
			m.State.Attempt.Open = false
			f.checkOutstanding(m, before, profile.Refresh{})
			return f
		}},
		{"REG-20: nothing is left", append(sent, accepted, "remove"), func(m *Machine) (f faults) {
			m.State.Binding = profile.Binding{}
			f.checkState(m, profile.Enable{})
			return f
		}},
		{"registered, but the binding ended 1h0m0s ago", append(sent, accepted), func(m *Machine) (f faults) {
			m.State.Binding.Until = m.Now.Add(-3600e9)
			f.checkState(m, profile.TimerFired{})
			return f
		}},
		{"S-31: 9 challenges", sent, func(m *Machine) faults {
			e := &messages.ChallengeReceived{Challenges: make([]*messages.RecordedChallenge, 9)}
			for i := range e.Challenges {
				e.Challenges[i] = &messages.RecordedChallenge{Ignored: "x"}
			}
			return event(m, messages.NewProfileEvent(e))
		}},
		{"CHA-29: a malformed challenge", sent, func(m *Machine) faults {
			return event(m, messages.NewProfileEvent(&messages.ChallengeReceived{Challenges: []*messages.RecordedChallenge{{Raw: "?"}}}))
		}},
		{"unbounded: 65 realms", sent, func(m *Machine) (f faults) {
			m.State.Challenge.Realms = make([]challenge.Realm, 65)
			f.checkState(m, profile.Enable{})
			return f
		}},
		{"dropped (busy), yet profile.Enable", asked, func(m *Machine) (f faults) {
			f.checkDrop(profile.Enable{}, profile.Decision{Dropped: messages.DropBusy, Effects: []profile.Effect{profile.SendRequest{}}})
			return f
		}},
	} {
		t.Run(tt.want, func(t *testing.T) {
			if got := tt.plant(at(t, tt.after...)).err(); got == nil || !strings.Contains(got.Error(), tt.want) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestParseScript(t *testing.T) {
	const text = "# A title. REG-05\n\nslot\nresponse 401\n  A: b\n----\nrecorded  x\nis        y\n\n# more\n\njitter 0\n----\nis        z\n\n# the end\n"
	blocks, tail, err := parseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{line: 3, lead: []string{"# A title. REG-05", ""}, commands: []string{"slot", "response 401\n  A: b"}, want: "recorded  x\nis        y\n"},
		{line: 12, lead: []string{"", "# more", ""}, commands: []string{"jitter 0"}, want: "is        z\n"},
	}
	if diff := cmp.Diff(want, blocks, cmp.AllowUnexported(block{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var out strings.Builder
	for _, b := range blocks {
		writeBlock(&out, b, b.want)
	}
	if got := out.String() + strings.Join(tail, "\n") + "\n"; got != text {
		t.Errorf("written back (-want +got)\n%s", cmp.Diff(text, got))
	}
	for name, text := range map[string]string{
		"a command without ----": "slot\n\nslot\n----\n", "no ---- at all": "slot\n", "---- without a command": "----\n", "continues nothing": "  x\n----\n",
	} {
		if _, _, err := parseScript(text); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestDoRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, line := range []string{
		"dance", "policy x=1", "policy expires=x", "declare colour=red", "declare expires=soon", "response", "response 200\n no header",
		"response 200\n X: y", "response 423\n Min-Expires: long", "advance", "jitter x", "given {", "withhold x soon", "2 times dance",
	} {
		if _, err := at(t, "declare").Do(line); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
}

func TestShort(t *testing.T) {
	for text, want := range map[string]string{"1h0m0s": "1h", "1h0m1s": "1h0m1s", "2m0s": "2m", "20s": "20s", "10s": "10s", "100h0m0s": "100h"} {
		m := at(t)
		if _, err := m.Do("advance " + text); err != nil || Short(m.Now.Sub(Start)) != want {
			t.Errorf("%s is %s, want %s (%v)", text, Short(m.Now.Sub(Start)), want, err)
		}
	}
}
