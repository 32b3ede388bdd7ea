package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Apply folds one event, recorded at that time, into the state. It is total and
// silent: no validation, no clock, no policy. An event without a known type
// panics; the codec has refused it before.
func Apply(s State, event *messages.SessionEvent, at time.Time) State {
	at = at.UTC().Truncate(time.Millisecond) // as the snapshot keeps it
	switch e := event.GetEvent().(type) {
	case *messages.SessionEvent_Started:
		b := e.Started
		return State{
			Spec: b.GetSpec(), Body: b.GetBody(), CallID: b.GetCallId(), LocalTag: b.GetLocalTag(),
			AdmitBy: messages.FromMS(b.GetAdmitByMs()), StartedAt: at,
		}
	case *messages.SessionEvent_Received:
		return applyReceived(e.Received, at)
	case *messages.SessionEvent_RequestStarted:
		return applyRequestStarted(s, e.RequestStarted)
	case *messages.SessionEvent_ChallengeReceived:
		b := e.ChallengeReceived
		s.LastStatus = b.GetStatus()
		s.Challenge = s.Challenge.Learned(b.GetChallenges())
		return s.changed(b.GetAttempt(), func(r Request) Request { r.Status = b.GetStatus(); return r })
	case *messages.SessionEvent_CredentialsSupplied:
		return applySupplied(s, e.CredentialsSupplied)
	case *messages.SessionEvent_CredentialsDeclined:
		b := e.CredentialsDeclined
		return s.changed(b.GetAttempt(), func(r Request) Request {
			return r.with(func(q *messages.RequestStarted) { q.Handler, q.AnswerByMs = b.GetNext(), b.GetAnswerByMs() })
		})
	case *messages.SessionEvent_CredentialsRefused:
		return applyRefused(s, e.CredentialsRefused)
	case *messages.SessionEvent_ProgressReceived:
		return applyProgress(s, e.ProgressReceived)
	case *messages.SessionEvent_Established:
		return applyEstablished(s, e.Established, at)
	case *messages.SessionEvent_RequestSucceeded:
		return applySucceeded(s, e.RequestSucceeded)
	case *messages.SessionEvent_RequestFailed:
		return applyFailed(s, e.RequestFailed)
	case *messages.SessionEvent_IntervalRaised:
		b := e.IntervalRaised
		s.MinSE, s.Intervals, s.LastStatus = max(s.MinSE, b.GetMinSe()), s.Intervals+1, 422
		return s.changed(b.GetAttempt(), func(r Request) Request { r.Status = 422; return r })
	case *messages.SessionEvent_ForkAnswered:
		s.Forks = append(slices.Clone(s.Forks), e.ForkAnswered.GetDialog().GetRemoteTag())
	case *messages.SessionEvent_PeerRequestReceived:
		b := e.PeerRequestReceived
		s.RemoteCSeq = max(s.RemoteCSeq, b.GetCseq())
		s.PeerRequests = append(slices.Clone(s.PeerRequests), PeerRequest{
			Method: b.GetMethod(), CSeq: b.GetCseq(), AnswerBy: messages.FromMS(b.GetAnswerByMs()),
			Timer: b.GetTimer(), Target: b.GetTarget(),
		})
	case *messages.SessionEvent_PeerRequestAnswered:
		return applyPeerAnswered(s, e.PeerRequestAnswered)
	case *messages.SessionEvent_Redirected:
		s.Target, s.LastStatus = e.Redirected.GetTarget(), e.Redirected.GetStatus()
		s.Redirects++
		return s.changed(e.Redirected.GetAttempt(), func(r Request) Request { r.Status = e.Redirected.GetStatus(); return r })
	case *messages.SessionEvent_Ending:
		s.Ending, s.EndingGuard = true, messages.FromMS(e.Ending.GetGuardAtMs())
		s.Reason, s.Retry, s.AdmitBy = messages.Reason(e.Ending.GetReason()), Retry{}, time.Time{}
		for _, r := range s.Requests {
			if r.GetMethod() == "INVITE" && !s.Established() {
				s = s.changed(r.GetAttempt(), func(r Request) Request { r.Cancelled = true; return r })
			}
		}
	case *messages.SessionEvent_Ended:
		return applyEnded(s, e.Ended, at)
	case *messages.SessionEvent_Interrupted:
		gone := e.Interrupted.GetAttempts()
		s.Requests = slices.DeleteFunc(slices.Clone(s.Requests), func(r Request) bool { return slices.Contains(gone, r.GetAttempt()) })
		s.PeerRequests = nil // so are those that the peer waits for
		if s.Established() {
			s.Early = nil // of a re-INVITE
		}
		if !s.Retry.Refresh {
			s.Retry = Retry{} // nobody remembers what it offers
		}
	case *messages.SessionEvent_OfferAnswered:
		s.AnswerDueBy = time.Time{}
	default:
		panic(fmt.Sprintf("session: apply: unknown event %T", e))
	}
	return s
}

// changed returns the state with f applied to an open request.
func (s State) changed(attempt uint64, f func(Request) Request) State {
	s.Requests = slices.Clone(s.Requests)
	for i, r := range s.Requests {
		if r.GetAttempt() == attempt {
			s.Requests[i] = f(r)
		}
	}
	return s
}

// closed returns the state without an open request.
func (s State) closed(attempt uint64) State {
	s.Requests = slices.DeleteFunc(slices.Clone(s.Requests), func(r Request) bool { return r.GetAttempt() == attempt })
	return s
}

func applyReceived(e *messages.SessionReceived, at time.Time) State {
	return State{
		Spec: e.GetSpec(), Body: e.GetBody(), CallID: e.GetCallId(), LocalTag: e.GetLocalTag(),
		Dialog: e.GetDialog(), RemoteCSeq: e.GetRemoteCseq(), Source: e.GetSource(),
		RingUntil: messages.FromMS(e.GetRingUntilMs()), Timer: e.GetTimer(), StartedAt: at,
		PeerRequests: []PeerRequest{{Method: "INVITE", CSeq: e.GetRemoteCseq(), Timer: e.GetTimer()}},
	}
}

// applyRequestStarted: the first request of a chain, or the next one, which
// takes the place of the one before.
func applyRequestStarted(s State, e *messages.RequestStarted) State {
	r := Request{RequestStarted: e}
	i := slices.IndexFunc(s.Requests, func(r Request) bool { return r.GetChain() == e.GetChain() })
	s.Requests = slices.Clone(s.Requests)
	if i < 0 {
		s.Challenge = s.Challenge.ChainStarted()
	} else {
		before := s.Requests[i]
		r.Status = before.Status
		s.Challenge = s.challenges(before).Passed(before.GetAnswers(), e.GetRound() == before.GetRound())
		s.Requests = slices.Delete(s.Requests, i, i+1)
		if e.GetMethod() == "INVITE" {
			s.Early = nil // INV-04; and RSeq begins anew (RFC 3262 §3)
		}
	}
	s.Attempts, s.CSeq, s.AdmitBy = e.GetAttempt(), e.GetCseq(), time.Time{}
	s.Requests = append(s.Requests, r)
	s.Challenge = s.Challenge.Spent(e.GetAnswers())
	s.Referred = s.Referred || e.GetMethod() == "REFER"
	if e.GetRefresh() {
		s.RefreshAt = time.Time{}
	}
	if e.GetChain() == s.Retry.Chain {
		s.Retry.At = time.Time{}
	}
	return s
}

// applySupplied: the request is about to leave with credentials.
func applySupplied(s State, e *messages.CredentialsSupplied) State {
	if e.GetAttempt() == s.Attempts {
		s.Challenge = s.Challenge.Withheld(e.GetUnanswered())
	}
	if e.GetPreemptive() {
		s.EarlyHandler = e.GetHandler()
	} else if s.EarlyHandler == e.GetHandler() {
		s.EarlyHandler = ""
	}
	return s.changed(e.GetAttempt(), func(r Request) Request {
		r.Continues = e.GetContinues()
		return r.with(func(q *messages.RequestStarted) {
			q.AnswerByMs = 0
			q.Answers = slices.DeleteFunc(slices.Clone(q.GetAnswers()), func(c *messages.NonceCount) bool {
				return holds(e.GetUnanswered(), c.GetSpace(), c.GetRealm())
			})
		})
	})
}

// applyRefused: the request never leaves. Its CSeq number goes to the next one,
// so that the peer sees no gap (RFC 3261 §12.2.1.1).
func applyRefused(s State, e *messages.CredentialsRefused) State {
	r, ok := s.Request(e.GetAttempt())
	if !ok {
		return s
	}
	if s.CSeq == r.GetCseq() {
		s.CSeq--
	}
	if e.GetAttempt() == s.Attempts {
		s.Challenge = s.Challenge.Withheld(r.GetAnswers())
	}
	return s.changed(e.GetAttempt(), func(r Request) Request {
		return r.with(func(q *messages.RequestStarted) { q.AnswerByMs, q.Answers = 0, nil })
	})
}

func applyProgress(s State, e *messages.ProgressReceived) State {
	if e.GetSource() != "" && !s.Established() {
		s.Source = e.GetSource()
	}
	if tag := e.GetDialog().GetRemoteTag(); tag != "" {
		next := Early{Dialog: e.GetDialog(), RSeq: e.GetRseq(), Status: e.GetStatus()}
		i := slices.IndexFunc(s.Early, func(x Early) bool { return x.Dialog.GetRemoteTag() == tag })
		s.Early = slices.Clone(s.Early)
		if i < 0 {
			s.Early = append(s.Early, next)
		} else {
			next.RSeq = max(next.RSeq, s.Early[i].RSeq)
			s.Early[i] = next
		}
	}
	return s.changed(e.GetAttempt(), func(r Request) Request { r.Progressed = true; return r })
}

func applyEstablished(s State, e *messages.SessionEstablished, at time.Time) State {
	tag := e.GetDialog().GetRemoteTag()
	if slices.ContainsFunc(s.Early, func(x Early) bool { return x.Dialog.GetRemoteTag() != tag }) {
		s.RemoteCSeq = 0 // it may be that of another branch
	}
	s.Dialog, s.Timer, s.Early, s.RingUntil = e.GetDialog(), e.GetTimer(), nil, time.Time{}
	s.EstablishedAt, s.LastStatus = at, e.GetStatus()
	if e.GetSource() != "" {
		s.Source = e.GetSource()
	}
	s = s.timed(e.GetIntervalSeconds(), e.GetRefresher(), e.GetRefreshAtMs(), e.GetExpiresAtMs())
	if r, ok := s.Request(e.GetAttempt()); ok {
		s.Confirmed, s.ConfirmedCSeq = e.GetAttempt(), r.GetCseq()
		s.AnswerDueBy = messages.FromMS(e.GetAnswerDueByMs())
		s.Challenge = s.accepted(r)
		return s.closed(e.GetAttempt())
	}
	s.PeerRequests = withoutInvite(s.PeerRequests)
	return s
}

func withoutInvite(list []PeerRequest) []PeerRequest {
	return slices.DeleteFunc(slices.Clone(list), func(r PeerRequest) bool { return r.Method == "INVITE" })
}

// timed returns the state with another session timer.
func (s State) timed(seconds uint32, ours bool, refreshAt, expiresAt int64) State {
	s.Interval, s.Refresher = time.Duration(seconds)*time.Second, ours
	s.RefreshAt, s.ExpiresAt = messages.FromMS(refreshAt), messages.FromMS(expiresAt)
	return s
}

func applySucceeded(s State, e *messages.RequestSucceeded) State {
	r, ok := s.Request(e.GetAttempt())
	if !ok {
		return s
	}
	s.LastStatus = e.GetStatus()
	s.Challenge = s.accepted(r)
	s = s.closed(e.GetAttempt())
	if s.Retry.Chain == r.GetChain() {
		s.Retry = Retry{}
	}
	switch {
	case r.GetDialog() != nil:
		return s
	case r.GetMethod() == "INVITE":
		s.Confirmed, s.ConfirmedCSeq = e.GetAttempt(), r.GetCseq()
		s.AnswerDueBy, s.Early = messages.FromMS(e.GetAnswerDueByMs()), nil
	case r.GetMethod() != "UPDATE":
		return s
	}
	if target := e.GetTarget(); target != "" {
		s.Dialog = &messages.Dialog{RemoteTag: s.Dialog.GetRemoteTag(), Target: target, RouteSet: s.Dialog.GetRouteSet()}
	}
	s.Timer = e.GetTimer()
	return s.timed(e.GetIntervalSeconds(), e.GetRefresher(), e.GetRefreshAtMs(), e.GetExpiresAtMs())
}

func applyFailed(s State, e *messages.RequestFailed) State {
	r, ok := s.Request(e.GetAttempt())
	if !ok {
		return s
	}
	if e.GetStatus() != 0 {
		s.LastStatus = e.GetStatus()
	}
	s = s.closed(e.GetAttempt())
	if r.GetMethod() == "INVITE" {
		s.Early = nil // INV-03
	}
	switch {
	case e.GetRetryAtMs() != 0:
		count := uint32(1)
		if s.Retry.Chain == r.GetChain() {
			count += s.Retry.Count
		}
		s.Retry = Retry{
			At: messages.FromMS(e.GetRetryAtMs()), Method: r.GetMethod(), Body: r.GetBody(),
			Refresh: r.GetRefresh(), Chain: r.GetChain(), Count: count,
		}
	case s.Retry.Chain == r.GetChain():
		s.Retry = Retry{}
	}
	return s
}

func applyPeerAnswered(s State, e *messages.PeerRequestAnswered) State {
	r, ok := s.Peer(e.GetMethod(), e.GetCseq())
	if !ok {
		return s
	}
	s.PeerRequests = slices.DeleteFunc(slices.Clone(s.PeerRequests), func(x PeerRequest) bool {
		return x.Method == e.GetMethod() && x.CSeq == e.GetCseq()
	})
	if e.GetStatus() >= 300 || e.GetMethod() != "INVITE" && e.GetMethod() != "UPDATE" {
		return s
	}
	if r.Target != "" && s.Dialog != nil {
		s.Dialog = &messages.Dialog{RemoteTag: s.Dialog.GetRemoteTag(), Target: r.Target, RouteSet: s.Dialog.GetRouteSet()}
	}
	s.Timer = r.Timer
	return s.timed(e.GetIntervalSeconds(), e.GetRefresher(), e.GetRefreshAtMs(), e.GetExpiresAtMs())
}

func applyEnded(s State, e *messages.SessionEnded, at time.Time) State {
	s.Ended, s.EndedAt, s.Reason = true, at, messages.Reason(e.GetReason())
	if e.GetStatus() != 0 {
		s.LastStatus = e.GetStatus()
	}
	s.Requests, s.PeerRequests, s.Early, s.Retry = nil, nil, nil, Retry{}
	return s
}
