package session_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// renderEvent renders an event in one line. Times are relative to now.
func renderEvent(e *messages.SessionEvent, now time.Time) string {
	return e.TypeName() + "{" + strings.TrimSpace(eventBody(e, now)) + "}"
}

func eventBody(e *messages.SessionEvent, now time.Time) string {
	switch b := e.GetEvent().(type) {
	case *messages.SessionEvent_Started:
		s := b.Started
		return words(s.GetSpec().GetAor(), "to", s.GetSpec().GetPeer(), mark("body", s.GetBody()), "admit", when(s.GetAdmitByMs(), now))
	case *messages.SessionEvent_Received:
		r := b.Received
		return words("cseq="+fmt.Sprint(r.GetRemoteCseq()), dialog(r.GetDialog()), mark("body", r.GetBody()), timer(r.GetTimer()), "ring", when(r.GetRingUntilMs(), now))
	case *messages.SessionEvent_RequestStarted:
		return started(b.RequestStarted)
	case *messages.SessionEvent_ChallengeReceived:
		c := b.ChallengeReceived
		list := make([]string, 0, len(c.GetChallenges()))
		for _, r := range c.GetChallenges() {
			text := machinetest.Challenge(r.GetSpace(), r.GetRaw())
			if r.GetIgnored() != "" {
				text += " ignored " + r.GetIgnored()
			}
			list = append(list, text)
		}
		return words(fmt.Sprint(c.GetAttempt(), " ", c.GetStatus()), strings.Join(list, ", "))
	case *messages.SessionEvent_CredentialsSupplied:
		c := b.CredentialsSupplied
		out := fmt.Sprint(c.GetAttempt(), " ", c.GetHandler())
		for _, u := range c.GetUnanswered() {
			out += " not " + machinetest.Space(u.GetSpace()) + "/" + u.GetRealm()
		}
		return words(out, mark("preemptive", c.GetPreemptive()), mark("continues", c.GetContinues()))
	case *messages.SessionEvent_CredentialsDeclined:
		c := b.CredentialsDeclined
		return words(fmt.Sprint(c.GetAttempt()), c.GetHandler(), c.GetReason(), "next", c.GetNext())
	case *messages.SessionEvent_CredentialsRefused:
		c := b.CredentialsRefused
		return words(fmt.Sprint(c.GetAttempt()), c.GetHandler(), c.GetReason())
	case *messages.SessionEvent_ProgressReceived:
		p := b.ProgressReceived
		return words(fmt.Sprint(p.GetAttempt(), " ", p.GetStatus()), dialog(p.GetDialog()), number("rseq", p.GetRseq()))
	}
	return eventInDialog(e, now)
}

func eventInDialog(e *messages.SessionEvent, now time.Time) string {
	switch b := e.GetEvent().(type) {
	case *messages.SessionEvent_Established:
		s := b.Established
		head := fmt.Sprint(s.GetStatus())
		if s.GetAttempt() > 0 {
			head = fmt.Sprint(s.GetAttempt(), " ", s.GetStatus())
		}
		return words(head, dialog(s.GetDialog()), interval(s, now), due("answer", s.GetAnswerDueByMs(), now))
	case *messages.SessionEvent_RequestSucceeded:
		s := b.RequestSucceeded
		target := ""
		if s.GetTarget() != "" {
			target = "target=" + s.GetTarget()
		}
		return words(fmt.Sprint(s.GetAttempt(), " ", s.GetStatus()), target, interval(s, now), due("answer", s.GetAnswerDueByMs(), now))
	case *messages.SessionEvent_RequestFailed:
		f := b.RequestFailed
		return words(fmt.Sprint(f.GetAttempt(), " ", f.GetStatus()), f.GetReason(), due("again", f.GetRetryAtMs(), now), mark("refused", f.GetRefused()))
	case *messages.SessionEvent_IntervalRaised:
		return fmt.Sprint(b.IntervalRaised.GetAttempt(), " min-se=", b.IntervalRaised.GetMinSe())
	case *messages.SessionEvent_ForkAnswered:
		return words(fmt.Sprint(b.ForkAnswered.GetAttempt()), dialog(b.ForkAnswered.GetDialog()))
	case *messages.SessionEvent_PeerRequestReceived:
		r := b.PeerRequestReceived
		target := ""
		if r.GetTarget() != "" {
			target = "target=" + r.GetTarget()
		}
		return words(r.GetMethod(), fmt.Sprint(r.GetCseq()), target, timer(r.GetTimer()), due("answer", r.GetAnswerByMs(), now))
	case *messages.SessionEvent_PeerRequestAnswered:
		r := b.PeerRequestAnswered
		return words(r.GetMethod(), fmt.Sprint(r.GetCseq(), " ", r.GetStatus()), interval(r, now))
	case *messages.SessionEvent_Redirected:
		return words(fmt.Sprint(b.Redirected.GetAttempt(), " ", b.Redirected.GetStatus()), b.Redirected.GetTarget())
	case *messages.SessionEvent_Ending:
		return words(b.Ending.GetReason(), "guard", when(b.Ending.GetGuardAtMs(), now))
	case *messages.SessionEvent_Ended:
		return words(fmt.Sprint(b.Ended.GetStatus()), b.Ended.GetReason())
	case *messages.SessionEvent_Interrupted:
		return strings.Trim(fmt.Sprint(b.Interrupted.GetAttempts()), "[]")
	case *messages.SessionEvent_OfferAnswered:
		return fmt.Sprint(b.OfferAnswered.GetAttempt())
	}
	return ""
}

func started(r *messages.RequestStarted) string {
	out := fmt.Sprintf("%d %s cseq=%d", r.GetAttempt(), r.GetMethod(), r.GetCseq())
	if r.GetChain() != r.GetAttempt() {
		out += fmt.Sprint(" chain=", r.GetChain())
	}
	out = words(out, number("round", r.GetRound()), dialog(r.GetDialog()), number("rseq", r.GetRseq()), number("rack", r.GetRackCseq()),
		mark("body", r.GetBody()), mark("refresh", r.GetRefresh()), number("se", r.GetSessionExpires()), number("min-se", r.GetMinSe()))
	if r.GetTarget() != "" {
		out += " target=" + r.GetTarget()
	}
	for _, a := range r.GetAnswers() {
		out += fmt.Sprintf(" %s/%s#%d", machinetest.Space(a.GetSpace()), a.GetRealm(), a.GetCount())
	}
	if r.GetHandler() != "" {
		out += " by " + r.GetHandler()
	}
	return out
}

// negotiated is what the three events about a session timer have in common.
type negotiated interface {
	GetIntervalSeconds() uint32
	GetRefresher() bool
	GetRefreshAtMs() int64
	GetExpiresAtMs() int64
}

func interval(n negotiated, now time.Time) string {
	if n.GetIntervalSeconds() == 0 {
		return ""
	}
	return words("timer", machinetest.Short(time.Duration(n.GetIntervalSeconds())*time.Second),
		due("refresh", n.GetRefreshAtMs(), now), due("expires", n.GetExpiresAtMs(), now))
}

func timer(t *messages.PeerTimer) string {
	out := words(number("se", t.GetSessionExpires()), number("min-se", t.GetMinSe()), t.GetRefresher(),
		mark("supported", t.GetSupported()), mark("update", t.GetUpdate()))
	if out == "" {
		return ""
	}
	return "(" + out + ")"
}

// dialog renders what differs from the one that scripts have by default.
func dialog(d *messages.Dialog) string {
	if d == nil {
		return ""
	}
	out := "<" + d.GetRemoteTag()
	if d.GetTarget() != farContact {
		out += " at " + d.GetTarget()
	}
	if routes := strings.Join(d.GetRouteSet(), ", "); routes != ownRoute {
		out += " via " + routes
	}
	return out + ">"
}

func renderEffect(e session.Effect, s session.State) string {
	switch e := e.(type) {
	case session.Admit:
		return "Admit{}"
	case session.SendRequest:
		return fmt.Sprintf("SendRequest{%d}", e.Attempt)
	case session.ResumeInvite:
		return fmt.Sprintf("ResumeInvite{%d}", e.Attempt)
	case session.Cancel:
		return fmt.Sprintf("Cancel{%d}", e.Attempt)
	case session.Acknowledge:
		return "Acknowledge{" + words(fmt.Sprint(e.Attempt), "cseq="+fmt.Sprint(e.CSeq), dialog(e.Dialog), mark("credentials", e.Credentials), mark("body", e.Body)) + "}"
	case session.AskCredentials:
		head := fmt.Sprint(e.Attempt, " ", e.Handler)
		if e.Status != 0 {
			head += fmt.Sprint(" ", e.Status)
		}
		r, _ := s.Request(e.Attempt)
		var list []string
		for _, q := range s.Challenge.Questions(r.GetAnswers()) {
			list = append(list, fmt.Sprintf("%s #%d", machinetest.Challenge(q.GetSpace(), q.GetRaw()), q.GetNonceCount()))
		}
		return "AskCredentials{" + words(head, mark("rejected", e.Rejected)) + ": " + strings.Join(list, ", ") + "}"
	case session.Respond:
		out := fmt.Sprint(e.Method, " ", e.CSeq, " ", e.Status)
		for _, h := range e.Headers {
			out += fmt.Sprintf(" %s:%s", h.Name, h.Value)
		}
		return "Respond{" + words(out, mark("described", e.Described), mark("owner", e.Owner)) + "}"
	case session.Tell:
		return "Tell{" + words(e.Notice.String(), number("chain", uint32(e.Chain)), number("status", e.Status), string(e.Reason)) + "}"
	}
	return fmt.Sprintf("%T", e)
}

// Summary implements machinetest.Conversation.
func (m *machine) Summary() string { return summary(m.state, m.now) }

// summary renders what an operator would want to know of a state.
func summary(s session.State, now time.Time) string {
	if !s.Exists() {
		return "nothing"
	}
	out := []string{s.Status()}
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s.Reason != "" {
		add("%s", s.Reason)
	}
	add("cseq %d", s.CSeq)
	if s.RemoteCSeq != 0 {
		add("peer's %d", s.RemoteCSeq)
	}
	if s.LastStatus != 0 {
		add("last %d", s.LastStatus)
	}
	if s.Dialog != nil {
		add("%s", dialog(s.Dialog))
	}
	for _, e := range s.Early {
		add("early %s", words(dialog(e.Dialog), fmt.Sprint(e.Status), number("rseq", e.RSeq)))
	}
	for _, r := range s.Requests {
		add("%s", words(fmt.Sprintf("%s#%d", r.GetMethod(), r.GetAttempt()), asking(r, now), mark("cancelled", r.Cancelled)))
	}
	for _, r := range s.PeerRequests {
		add("peer %s %d", r.Method, r.CSeq)
	}
	if s.Interval > 0 {
		add("%s", words("timer", machinetest.Short(s.Interval), due("refresh", ms(s.RefreshAt), now), due("expires", ms(s.ExpiresAt), now)))
	}
	if !s.Retry.At.IsZero() {
		add("again %s %s", s.Retry.Method, when(ms(s.Retry.At), now))
	}
	if at, ok := s.WakeAt(); ok {
		add("wakes %s", when(ms(at), now))
	} else {
		add("sleeps")
	}
	return strings.Join(out, ", ")
}

func asking(r session.Request, now time.Time) string {
	if r.GetAnswerByMs() == 0 {
		return ""
	}
	return "asked " + r.GetHandler() + " " + when(r.GetAnswerByMs(), now)
}

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func due(what string, at int64, now time.Time) string {
	if at == 0 {
		return ""
	}
	return what + " " + when(at, now)
}

func when(at int64, now time.Time) string {
	switch d := time.UnixMilli(at).Sub(now.Truncate(time.Millisecond)); {
	case at == 0:
		return "never"
	case d < 0:
		return machinetest.Short(-d) + " ago"
	case d == 0:
		return "now"
	default:
		return "in " + machinetest.Short(d)
	}
}

func mark(name string, on bool) string {
	if on {
		return name
	}
	return ""
}

func number(name string, n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(name, "=", n)
}

// words joins what is not empty.
func words(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, " ")
}
