package profile

import (
	"fmt"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Marshal encodes a state as a snapshot.
func Marshal(s State) ([]byte, error) {
	// The parts stand side by side in one place, which the encoder only reads.
	var (
		p       messages.ProfileState
		spec    messages.ProfileSpec
		attempt messages.AttemptState
	)
	s.Spec.fill(&spec)
	s.Attempt.fill(&attempt)
	s.fill(&p)
	p.Spec, p.Attempt = &spec, &attempt
	b, err := p.MarshalVT()
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
// declared leaves a tombstone. Snapshot does the same with the state that the
// events have led to.
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
	return Snapshot(s)
}

// Snapshot encodes what a checkpoint keeps of a state: nil for a profile that
// leaves nothing behind.
func Snapshot(s State) ([]byte, error) {
	if s.Gone && s.Source != "file" {
		return nil, nil
	}
	return Marshal(s)
}

// fill sets everything but the spec and the attempt.
func (s *State) fill(p *messages.ProfileState) {
	p.Source, p.Row = s.Source, s.Row
	p.Disabled, p.Removing, p.Gone = s.Disabled, s.Removing, s.Gone
	p.CallId, p.FromTag, p.Cseq = s.CallID, s.FromTag, s.CSeq
	p.BoundUntilMs = messages.ToMS(s.Binding.Until)
	p.GrantedSeconds = uint32(s.Binding.Granted / time.Second)
	p.MaybeUntilMs = messages.ToMS(s.Binding.MaybeUntil)
	p.ServiceRoute = s.Binding.ServiceRoute
	p.EarlyHandler = s.EarlyHandler
	p.MinSeconds, p.NextAtMs = s.MinSeconds, messages.ToMS(s.NextAt)
	p.Failures, p.Halts, p.Halted = s.Failures, s.Halts, s.Halted
	p.LastStatus, p.Reason = s.LastStatus, string(s.Reason)
	p.Proven, p.Unproven = s.Proven, s.Unproven
	p.RefreshWanted, p.Dropped = s.RefreshWanted, s.Dropped
	p.Realms = s.Challenge.Proto()
}

func (a *Attempt) fill(p *messages.AttemptState) {
	p.Number, p.Open, p.Purpose, p.Round = a.Number, a.Open, a.Purpose, a.Round
	p.ExpiresSeconds, p.Answers, p.Handler = a.ExpiresSeconds, a.Answers, a.Handler
	p.GuardAtMs, p.AnswerByMs = messages.ToMS(a.GuardAt), messages.ToMS(a.AnswerBy)
	p.Intervals, p.Renamed, p.Adapted = a.Intervals, a.Renamed, a.Adapted
	p.Targets, p.Continues = a.Targets, a.Continues
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
