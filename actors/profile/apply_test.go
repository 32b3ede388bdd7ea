package profile_test

import (
	"testing"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

func eventNames() []string { return messages.ProfileEventTypes() }

func TestApplyPanicsOnAnUnknownEvent(t *testing.T) {
	for name, e := range map[string]*messages.ProfileEvent{"nil": nil, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic: an unknown event must stop the stream")
				}
			}()
			profile.Apply(profile.State{}, e)
		})
	}
}

// TestApplyIsTotal folds every event into a state that knows nothing: it must
// not panic, whatever the journal holds.
func TestApplyIsTotal(t *testing.T) {
	for _, body := range []any{
		&messages.ProfileAdded{}, &messages.ProfileChanged{}, &messages.ProfileEnabled{}, &messages.ProfileDisabled{},
		&messages.ProfileRemoved{}, &messages.ProfileForgotten{}, &messages.CredentialsReplaced{}, &messages.RefreshRequested{},
		&messages.CallIDChosen{}, &messages.AttemptStarted{Answers: []*messages.NonceCount{{Realm: "a", Count: 1}}},
		&messages.ChallengeReceived{Challenges: []*messages.RecordedChallenge{{}, {Raw: "x"}}}, &messages.CredentialsSupplied{},
		&messages.CredentialsRefused{}, &messages.BindingGranted{NextNonces: []*messages.NextNonce{{}}}, &messages.BindingRemoved{},
		&messages.BindingLapsed{}, &messages.BindingsFetched{}, &messages.AttemptFailed{}, &messages.AttemptInterrupted{},
		&messages.ProfileHalted{}, &messages.IntervalRaised{}, &messages.Redirected{}, &messages.RequestAdapted{},
	} {
		e := messages.NewProfileEvent(body)
		for _, s := range []profile.State{{}, {Attempt: profile.Attempt{Open: true}}} {
			s = profile.Apply(s, e)
			if _, err := profile.Marshal(s); err != nil {
				t.Errorf("%s: %v", e.TypeName(), err)
			}
		}
		if profile.Describe(e) == "" {
			t.Errorf("%s has no description", e.TypeName())
		}
	}
}

func TestApplyLeavesTheStateBeforeAlone(t *testing.T) {
	w := newWorld(t, profile.Policy{Targets: []string{"one.example.test"}})
	w.do("declare", "slot", "response 302\n Contact: sip:1@one.example.test")
	before := w.State
	first := profile.Apply(before, messages.NewProfileEvent(&messages.Redirected{Target: "sip:2@one.example.test"}))
	second := profile.Apply(before, messages.NewProfileEvent(&messages.Redirected{Target: "sip:3@one.example.test"}))
	if first.Attempt.Targets[1] != "sip:2@one.example.test" || second.Attempt.Targets[1] != "sip:3@one.example.test" {
		t.Errorf("two futures of one state share memory: %q, %q", first.Attempt.Targets, second.Attempt.Targets)
	}
}
