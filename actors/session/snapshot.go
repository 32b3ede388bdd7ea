package session

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
		return nil, fmt.Errorf("encode session state: %w", err)
	}
	return b, nil
}

// Unmarshal decodes a snapshot. nil decodes to the zero State.
func Unmarshal(b []byte) (State, error) {
	if b == nil {
		return State{}, nil
	}
	var p messages.SessionState
	if err := p.UnmarshalVT(b); err != nil {
		return State{}, fmt.Errorf("decode session state: %w", err)
	}
	return fromProto(&p), nil
}

// Fold applies recorded events to a snapshot: what the journal's checkpointer
// does with the events that it is about to trim. An unknown event type is an
// error, and the stream must not be trimmed. A session that is over leaves
// nothing behind (nil).
func Fold(snapshot []byte, events []*messages.Envelope) ([]byte, error) {
	s, err := Unmarshal(snapshot)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.GetSession().TypeName() == "" {
			return nil, fmt.Errorf("stream %q version %d: %w", e.GetStream(), e.GetVersion(), messages.ErrUnknownEvent)
		}
		s = Apply(s, e.GetSession(), time.Unix(0, e.GetAtUnixNano()))
	}
	if s.Ended {
		return nil, nil
	}
	return Marshal(s)
}

func (s State) proto() *messages.SessionState {
	p := &messages.SessionState{
		Spec: s.Spec, Body: s.Body, CallId: s.CallID, LocalTag: s.LocalTag, Cseq: s.CSeq, RemoteCseq: s.RemoteCSeq,
		Attempts: s.Attempts, Dialog: s.Dialog, Target: s.Target, Source: s.Source, EarlyHandler: s.EarlyHandler,
		Confirmed: s.Confirmed, ConfirmedCseq: s.ConfirmedCSeq, AnswerDueByMs: messages.ToMS(s.AnswerDueBy), Forks: s.Forks,
		Timer: s.Timer, MinSe: s.MinSE, Intervals: s.Intervals, IntervalSeconds: uint32(s.Interval / time.Second),
		Refresher: s.Refresher, RefreshAtMs: messages.ToMS(s.RefreshAt), ExpiresAtMs: messages.ToMS(s.ExpiresAt),
		Redirects: s.Redirects, Referred: s.Referred, Ending: s.Ending, EndingGuardMs: messages.ToMS(s.EndingGuard),
		Ended: s.Ended, Reason: string(s.Reason), LastStatus: s.LastStatus, AdmitByMs: messages.ToMS(s.AdmitBy),
		RingUntilMs: messages.ToMS(s.RingUntil), StartedMs: messages.ToMS(s.StartedAt), EstablishedMs: messages.ToMS(s.EstablishedAt), EndedMs: messages.ToMS(s.EndedAt),
	}
	for _, e := range s.Early {
		p.Early = append(p.Early, &messages.EarlyState{Dialog: e.Dialog, Rseq: e.RSeq, Status: e.Status})
	}
	for _, r := range s.Requests {
		p.Requests = append(p.Requests, &messages.RequestState{
			Started: r.RequestStarted, Status: r.Status, Progressed: r.Progressed, Cancelled: r.Cancelled, Continues: r.Continues,
		})
	}
	for _, r := range s.PeerRequests {
		p.PeerRequests = append(p.PeerRequests, &messages.PeerRequestState{
			Method: r.Method, Cseq: r.CSeq, AnswerByMs: messages.ToMS(r.AnswerBy), Timer: r.Timer, Target: r.Target,
		})
	}
	p.Realms = s.Challenge.Proto()
	if r := s.Retry; r != (Retry{}) {
		p.Retry = &messages.RetryState{
			AtMs: messages.ToMS(r.At), Method: r.Method, Body: r.Body, Refresh: r.Refresh, Chain: r.Chain, Count: r.Count,
		}
	}
	return p
}

func fromProto(p *messages.SessionState) State {
	s := State{
		Spec: p.GetSpec(), Body: p.GetBody(), CallID: p.GetCallId(), LocalTag: p.GetLocalTag(), CSeq: p.GetCseq(),
		RemoteCSeq: p.GetRemoteCseq(), Attempts: p.GetAttempts(), Dialog: p.GetDialog(), Target: p.GetTarget(),
		Source: p.GetSource(), EarlyHandler: p.GetEarlyHandler(), Confirmed: p.GetConfirmed(), ConfirmedCSeq: p.GetConfirmedCseq(),
		AnswerDueBy: messages.FromMS(p.GetAnswerDueByMs()), Forks: p.GetForks(), Timer: p.GetTimer(), MinSE: p.GetMinSe(),
		Intervals: p.GetIntervals(), Interval: time.Duration(p.GetIntervalSeconds()) * time.Second, Refresher: p.GetRefresher(),
		RefreshAt: messages.FromMS(p.GetRefreshAtMs()), ExpiresAt: messages.FromMS(p.GetExpiresAtMs()), Redirects: p.GetRedirects(),
		Referred: p.GetReferred(), Ending: p.GetEnding(), EndingGuard: messages.FromMS(p.GetEndingGuardMs()), Ended: p.GetEnded(),
		Reason: messages.Reason(p.GetReason()), LastStatus: p.GetLastStatus(), AdmitBy: messages.FromMS(p.GetAdmitByMs()),
		RingUntil: messages.FromMS(p.GetRingUntilMs()), StartedAt: messages.FromMS(p.GetStartedMs()),
		EstablishedAt: messages.FromMS(p.GetEstablishedMs()), EndedAt: messages.FromMS(p.GetEndedMs()),
	}
	for _, e := range p.GetEarly() {
		s.Early = append(s.Early, Early{Dialog: e.GetDialog(), RSeq: e.GetRseq(), Status: e.GetStatus()})
	}
	for _, r := range p.GetRequests() {
		s.Requests = append(s.Requests, Request{
			RequestStarted: r.GetStarted(), Status: r.GetStatus(), Progressed: r.GetProgressed(),
			Cancelled: r.GetCancelled(), Continues: r.GetContinues(),
		})
	}
	for _, r := range p.GetPeerRequests() {
		s.PeerRequests = append(s.PeerRequests, PeerRequest{
			Method: r.GetMethod(), CSeq: r.GetCseq(), AnswerBy: messages.FromMS(r.GetAnswerByMs()), Timer: r.GetTimer(), Target: r.GetTarget(),
		})
	}
	s.Challenge = challenge.FromProto(p.GetRealms())
	if r := p.GetRetry(); r != nil {
		s.Retry = Retry{At: messages.FromMS(r.GetAtMs()), Method: r.GetMethod(), Body: r.GetBody(), Refresh: r.GetRefresh(), Chain: r.GetChain(), Count: r.GetCount()}
	}
	return s
}
