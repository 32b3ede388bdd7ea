package machinetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// Event renders an event in one line. Times are relative to now.
func Event(e *messages.ProfileEvent, now time.Time) string {
	return e.TypeName() + "{" + strings.TrimSpace(eventBody(e, now)) + "}"
}

func eventBody(e *messages.ProfileEvent, now time.Time) string {
	switch b := e.GetEvent().(type) {
	case *messages.ProfileEvent_Added:
		state := "enabled"
		if !b.Added.GetEnabled() {
			state = "disabled"
		}
		return words(spec(b.Added.GetSpec()), state, b.Added.GetSource(), b.Added.GetRow())
	case *messages.ProfileEvent_Changed:
		return words(spec(b.Changed.GetSpec()), b.Changed.GetSource(), b.Changed.GetRow())
	case *messages.ProfileEvent_Removed:
		if b.Removed.GetByOperator() {
			return "by operator"
		}
	case *messages.ProfileEvent_Forgotten:
		return b.Forgotten.GetReason()
	case *messages.ProfileEvent_CallIdChosen:
		return strings.TrimLeft(b.CallIdChosen.GetCallId(), "0")
	case *messages.ProfileEvent_AttemptStarted:
		return attempt(b.AttemptStarted)
	case *messages.ProfileEvent_ChallengeReceived:
		c := b.ChallengeReceived
		list := make([]string, 0, len(c.GetChallenges()))
		for _, r := range c.GetChallenges() {
			list = append(list, recorded(r))
		}
		return words(fmt.Sprint(c.GetAttempt(), " ", c.GetStatus()), strings.Join(list, ", "))
	case *messages.ProfileEvent_CredentialsSupplied:
		c := b.CredentialsSupplied
		return supplied(c)
	case *messages.ProfileEvent_CredentialsDeclined:
		c := b.CredentialsDeclined
		return words(fmt.Sprint(c.GetAttempt()), c.GetHandler(), c.GetReason(), detail(c.GetDetail()), "next "+c.GetNext())
	case *messages.ProfileEvent_CredentialsRefused:
		c := b.CredentialsRefused
		return words(fmt.Sprint(c.GetAttempt()), c.GetHandler(), c.GetReason(), detail(c.GetDetail()))
	case *messages.ProfileEvent_SecuritySet:
		return fmt.Sprintf("registration=%s session=%s", b.SecuritySet.GetRegistrationHandler(), b.SecuritySet.GetSessionHandler())
	case *messages.ProfileEvent_BindingGranted:
		return granted(b.BindingGranted, now)
	case *messages.ProfileEvent_BindingRemoved:
		return fmt.Sprint(b.BindingRemoved.GetAttempt(), " ", b.BindingRemoved.GetStatus())
	case *messages.ProfileEvent_BindingLapsed:
		if b.BindingLapsed.GetInDoubt() {
			return "in doubt"
		}
	case *messages.ProfileEvent_BindingsFetched:
		return fmt.Sprint(b.BindingsFetched.GetAttempt(), " contacts=", b.BindingsFetched.GetContacts())
	case *messages.ProfileEvent_AttemptFailed:
		f := b.AttemptFailed
		return words(fmt.Sprint(f.GetAttempt(), " ", f.GetStatus()), f.GetReason(), "retry", when(f.GetRetryAtMs(), now))
	case *messages.ProfileEvent_AttemptInterrupted:
		f := b.AttemptInterrupted
		return words(fmt.Sprint(f.GetAttempt()), "retry", when(f.GetRetryAtMs(), now))
	case *messages.ProfileEvent_Halted:
		f := b.Halted
		return words(fmt.Sprint(f.GetAttempt(), " ", f.GetStatus()), f.GetReason(), "retry", when(f.GetRetryAtMs(), now))
	case *messages.ProfileEvent_IntervalRaised:
		return fmt.Sprint(b.IntervalRaised.GetAttempt(), " min=", b.IntervalRaised.GetMinExpiresSeconds())
	case *messages.ProfileEvent_Redirected:
		return fmt.Sprint(b.Redirected.GetAttempt(), " ", b.Redirected.GetStatus(), " ", b.Redirected.GetTarget())
	case *messages.ProfileEvent_RequestAdapted:
		a := b.RequestAdapted
		return fmt.Sprint(a.GetAttempt(), " ", a.GetStatus(), " without ", strings.Join(a.GetDropped(), ","))
	}
	return ""
}

func supplied(c *messages.CredentialsSupplied) string {
	out := fmt.Sprintf("%d %s %s", c.GetAttempt(), c.GetHandler(), time.Duration(c.GetElapsedMs())*time.Millisecond)
	for _, u := range c.GetUnanswered() {
		out += fmt.Sprintf(" not %s/%s", Space(u.GetSpace()), u.GetRealm())
	}
	if c.GetPreemptive() {
		out += " preemptive"
	}
	if c.GetContinues() {
		out += " continues"
	}
	return out
}

func detail(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%q", text)
}

func spec(s *messages.ProfileSpec) string {
	out := words(s.GetAor(), s.GetRegistrar())
	for _, kv := range [][2]string{
		{"username", s.GetUsername()},
		{"contact", s.GetContactUser()},
		{"handler", s.GetRegistrationHandler()},
		{"session", s.GetSessionHandler()},
	} {
		if kv[1] != "" && kv[1] != "digest" {
			out += " " + kv[0] + "=" + kv[1]
		}
	}
	if s.GetExpiresSeconds() > 0 {
		out += fmt.Sprint(" expires=", s.GetExpiresSeconds())
	}
	if !s.GetRegister() {
		out += " register=false"
	}
	return out
}

func attempt(e *messages.AttemptStarted) string {
	out := fmt.Sprintf("%d %s cseq=%d", e.GetAttempt(), Purpose(e.GetPurpose()), e.GetCseq())
	if e.GetExpiresSeconds() > 0 {
		out += fmt.Sprint(" expires=", e.GetExpiresSeconds())
	}
	if e.GetRound() > 0 {
		out += fmt.Sprint(" round=", e.GetRound())
	}
	for _, a := range e.GetAnswers() {
		out += fmt.Sprintf(" %s/%s#%d", Space(a.GetSpace()), a.GetRealm(), a.GetCount())
	}
	if e.GetHandler() != "" {
		out += " by " + e.GetHandler()
	}
	return out
}

func recorded(r *messages.RecordedChallenge) string {
	out := Challenge(r.GetSpace(), r.GetRaw())
	if r.GetIgnored() != "" {
		out += " ignored " + r.GetIgnored()
	}
	return out
}

func granted(g *messages.BindingGranted, now time.Time) string {
	out := fmt.Sprintf("%d %d for %s refresh %s", g.GetAttempt(), g.GetStatus(),
		Short(time.Duration(g.GetGrantedSeconds())*time.Second), when(g.GetRefreshAtMs(), now))
	if len(g.GetServiceRoute()) > 0 {
		out += " service-route=" + strings.Join(g.GetServiceRoute(), ",")
	}
	for _, n := range g.GetNextNonces() {
		out += " nextnonce=" + Space(n.GetSpace()) + "/" + n.GetNonce()
	}
	if g.GetProof() != "" {
		out += " proof=" + g.GetProof()
	}
	return out
}

// Challenge renders a challenge as space/realm, algorithm and nonce.
func Challenge(space messages.Space, raw string) string {
	p, err := challenge.Parse(raw)
	if err != nil {
		return Space(space) + " malformed"
	}
	algorithm := p.Scheme
	if p.IsDigest() {
		algorithm = challenge.CanonicalAlgorithm(p.Algorithm())
	}
	out := words(Space(space)+"/"+p.Realm(), algorithm, p.Nonce())
	if p.Stale() {
		out += " stale"
	}
	return out
}

// Effect renders an effect. The questions of AskCredentials are derived from
// the state, as the host does.
func Effect(e profile.Effect, s profile.State) string {
	switch e := e.(type) {
	case profile.SendRequest:
		return fmt.Sprintf("SendRequest{%d}", e.Attempt)
	case profile.AskCredentials:
		head := fmt.Sprint(e.Attempt, " ", e.Handler)
		if e.Status != 0 {
			head += fmt.Sprint(" ", e.Status)
		}
		if e.Rejected {
			head += " rejected"
		}
		var list []string
		for _, q := range s.Challenge.Questions(s.Attempt.Answers) {
			list = append(list, fmt.Sprintf("%s #%d", Challenge(q.GetSpace(), q.GetRaw()), q.GetNonceCount()))
		}
		return fmt.Sprintf("AskCredentials{%s: %s}", head, strings.Join(list, ", "))
	case profile.Deliver:
		return fmt.Sprintf("Deliver{%d contacts}", len(e.Contacts))
	}
	return fmt.Sprintf("%T", e)
}

// Summary implements Conversation.
func (m *Machine) Summary() string { return Summary(m.State, m.Now) }

// Summary renders what an operator would want to know of a state: its status,
// what it waits for, why, and what the registrar holds.
func Summary(s profile.State, now time.Time) string {
	if !s.Exists() {
		if s.Gone && s.Source != "" {
			return "gone, tombstone " + words(s.Source, s.Row)
		}
		return "gone"
	}
	out := s.Status()
	if purpose, at, ok := s.Due(); s.Attempt.Open {
		out += ", guard " + when(s.Attempt.GuardAt.UnixMilli(), now)
		if by := s.Attempt.AnswerBy; !by.IsZero() {
			out += ", answer by " + s.Attempt.Handler + " " + when(by.UnixMilli(), now)
		}
	} else if ok {
		in := "now"
		if at.After(now) {
			in = "in " + Short(at.Sub(now))
		}
		out += ", " + Purpose(purpose) + " " + in
	}
	if s.Reason != "" {
		out += fmt.Sprintf(", %d %s", s.LastStatus, s.Reason)
	}
	for _, n := range []struct {
		name  string
		count uint32
	}{{"failures", s.Failures}, {"halts", s.Halts}, {"unproven", s.Unproven}} {
		if n.count > 0 {
			out += fmt.Sprintf(", %s %d", n.name, n.count)
		}
	}
	if !s.Binding.Until.IsZero() {
		out += ", bound, ends " + when(s.Binding.Until.UnixMilli(), now)
	}
	if !s.Binding.MaybeUntil.IsZero() {
		out += ", maybe bound, ends " + when(s.Binding.MaybeUntil.UnixMilli(), now)
	}
	if len(s.Binding.ServiceRoute) > 0 {
		out += ", via " + strings.Join(s.Binding.ServiceRoute, " ")
	}
	return out
}

// Space is the short name of a protection space.
func Space(s messages.Space) string {
	switch s {
	case messages.Space_ORIGIN:
		return "origin"
	case messages.Space_PROXY:
		return "proxy"
	}
	return "?"
}

// Purpose is the last word of a purpose's name.
func Purpose(p messages.AttemptPurpose) string {
	return strings.TrimPrefix(p.String(), "ATTEMPT_PURPOSE_")
}

// Short renders a duration without its zero parts.
func Short(d time.Duration) string {
	text := d.Round(time.Millisecond).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func when(ms int64, now time.Time) string {
	switch d := time.UnixMilli(ms).Sub(now); {
	case ms == 0:
		return "never"
	case d < 0:
		return Short(-d) + " ago"
	default:
		return "in " + Short(d)
	}
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
