package profile

import (
	"fmt"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Marshal encodes a state as a snapshot.
func Marshal(s State) ([]byte, error) {
	b, err := s.proto().MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode profile state: %w", err)
	}
	return b, nil
}

// Unmarshal decodes a snapshot. nil decodes to the zero State.
func Unmarshal(b []byte) (State, error) {
	var p messages.ProfileState
	if err := p.UnmarshalVT(b); err != nil {
		return State{}, fmt.Errorf("decode profile state: %w", err)
	}
	return fromProto(&p), nil
}

// Fold applies recorded events to a snapshot: what the journal's checkpointer
// does with the events that it is about to trim. An unknown event type is an
// error, and the stream must not be trimmed. A profile that is forgotten and
// was declared by the API leaves nothing behind (nil); one that a file
// declared leaves a tombstone.
func Fold(snapshot []byte, events []*messages.Envelope) ([]byte, error) {
	s, err := Unmarshal(snapshot)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.GetProfile().TypeName() == "" {
			return nil, fmt.Errorf("stream %q version %d: %w", e.GetStream(), e.GetVersion(), messages.ErrUnknownEvent)
		}
		s = Apply(s, e.GetProfile())
	}
	if s.Gone && s.Source != "file" {
		return nil, nil
	}
	return Marshal(s)
}

func (s State) proto() *messages.ProfileState {
	a := s.Attempt
	p := &messages.ProfileState{
		Spec: s.Spec.proto(), Source: s.Source, Row: s.Row,
		Disabled: s.Disabled, Removing: s.Removing, Gone: s.Gone,
		CallId: s.CallID, FromTag: s.FromTag, Cseq: s.CSeq,
		BoundUntilMs:   messages.ToMS(s.Binding.Until),
		GrantedSeconds: uint32(s.Binding.Granted / time.Second),
		MaybeUntilMs:   messages.ToMS(s.Binding.MaybeUntil),
		ServiceRoute:   s.Binding.ServiceRoute,
		Attempt: &messages.AttemptState{
			Number: a.Number, Open: a.Open, Purpose: a.Purpose, Round: a.Round,
			ExpiresSeconds: a.ExpiresSeconds, Answers: a.Answers, Handler: a.Handler,
			GuardAtMs: messages.ToMS(a.GuardAt), Intervals: a.Intervals, Renamed: a.Renamed,
			Adapted: a.Adapted, Targets: a.Targets,
			AnswerByMs: messages.ToMS(a.AnswerBy), Continues: a.Continues,
		},
		EarlyHandler: s.EarlyHandler,
		MinSeconds:   s.MinSeconds, NextAtMs: messages.ToMS(s.NextAt), Failures: s.Failures,
		Halts: s.Halts, Halted: s.Halted, LastStatus: s.LastStatus, Reason: string(s.Reason),
		Proven: s.Proven, Unproven: s.Unproven, RefreshWanted: s.RefreshWanted, Dropped: s.Dropped,
	}
	p.Realms = s.Challenge.Proto()
	return p
}

func fromProto(p *messages.ProfileState) State {
	a := p.GetAttempt()
	s := State{
		Spec: specFrom(p.GetSpec()), Source: p.GetSource(), Row: p.GetRow(),
		Disabled: p.GetDisabled(), Removing: p.GetRemoving(), Gone: p.GetGone(),
		CallID: p.GetCallId(), FromTag: p.GetFromTag(), CSeq: p.GetCseq(),
		Binding: Binding{
			Until: messages.FromMS(p.GetBoundUntilMs()), Granted: time.Duration(p.GetGrantedSeconds()) * time.Second,
			MaybeUntil: messages.FromMS(p.GetMaybeUntilMs()), ServiceRoute: p.GetServiceRoute(),
		},
		Attempt: Attempt{
			Number: a.GetNumber(), Open: a.GetOpen(), Purpose: a.GetPurpose(), Round: a.GetRound(),
			ExpiresSeconds: a.GetExpiresSeconds(), Answers: a.GetAnswers(), Handler: a.GetHandler(),
			GuardAt: messages.FromMS(a.GetGuardAtMs()), Intervals: a.GetIntervals(), Renamed: a.GetRenamed(),
			Adapted: a.GetAdapted(), Targets: a.GetTargets(),
			AnswerBy: messages.FromMS(a.GetAnswerByMs()), Continues: a.GetContinues(),
		},
		EarlyHandler: p.GetEarlyHandler(),
		MinSeconds:   p.GetMinSeconds(), NextAt: messages.FromMS(p.GetNextAtMs()), Failures: p.GetFailures(),
		Halts: p.GetHalts(), Halted: p.GetHalted(), LastStatus: p.GetLastStatus(),
		Reason: messages.Reason(p.GetReason()), Proven: p.GetProven(), Unproven: p.GetUnproven(),
		RefreshWanted: p.GetRefreshWanted(), Dropped: p.GetDropped(),
	}
	s.Challenge = challenge.FromProto(p.GetRealms())
	return s
}
