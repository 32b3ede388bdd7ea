package profile

import (
	"slices"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// response is the decision table for a final response to REGISTER
// (RFC 3261 §8.1.3.5, §10.2, §21).
func (st *step) response(cmd *ResponseReceived) {
	r := cmd.Response
	status := uint32(r.Status)
	switch {
	case r.Status < 200:
		st.drop(messages.DropIdle)
	case r.Status < 300:
		st.success(cmd)
	case r.Status < 400:
		st.redirected(r)
	case r.Status == 401, r.Status == 407:
		st.challenged(r)
	case r.Status == 403, r.Status >= 600: // ERR-08
		st.halted(status, messages.ReasonForbidden, r.RetryAfter)
	case r.Status == 423:
		st.intervalTooBrief(r)
	case r.Status == 420:
		st.badExtension(r)
	case r.Status == 481:
		st.doesNotExist(r)
	case slices.Contains(configurationErrors, r.Status):
		st.halted(status, messages.ReasonConfiguration, r.RetryAfter)
	case slices.Contains(temporaryErrors, r.Status):
		st.failed(status, messages.ReasonBusy, r.RetryAfter)
	case r.Status < 500: // GEN-16: unknown codes act as 400
		st.failed(status, messages.ReasonRequest, r.RetryAfter)
	case r.Status == 503:
		st.failed(status, messages.ReasonUnavailable, r.RetryAfter)
	case r.Status == 513:
		st.halted(status, messages.ReasonConfiguration, r.RetryAfter)
	default: // GEN-16: as 500
		st.failed(status, messages.ReasonServer, r.RetryAfter)
	}
}

// configurationErrors are answers that the same request will always get.
var configurationErrors = []int{404, 405, 410, 413, 414, 415, 416, 421, 439, 482, 483, 484, 485, 494}

// temporaryErrors are answers that another time may not get.
var temporaryErrors = []int{408, 430, 480, 486, 487, 491}

func (st *step) success(cmd *ResponseReceived) {
	a, r := &st.State.Attempt, cmd.Response
	switch a.Purpose {
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH:
		st.record(&messages.BindingsFetched{Attempt: a.Number, Contacts: uint32(len(r.Contacts))})
		st.do(Deliver{Contacts: r.Contacts})
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER:
		st.record(&messages.BindingRemoved{Attempt: a.Number, Status: uint32(r.Status)})
	default:
		st.granted(cmd)
	}
}

// granted judges a 2xx to a registration (REG-11 to REG-17).
func (st *step) granted(cmd *ResponseReceived) {
	a, r := &st.State.Attempt, cmd.Response
	if st.policy.RequireProof && cmd.Proof != "verified" {
		st.failed(uint32(r.Status), messages.ReasonProof, -1)
		return
	}
	var granted time.Duration
	switch {
	case r.Contact == messages.ContactOurs && r.ContactExpires > 0:
		granted = time.Duration(r.ContactExpires) * time.Second
	case r.Contact == messages.ContactMissing && st.policy.Tolerate:
		granted = time.Duration(a.ExpiresSeconds) * time.Second
	default:
		// REG-13: not listed means not registered, listed with 0 means removed.
		st.failed(uint32(r.Status), messages.ReasonBindingMissing, -1)
		return
	}
	granted = min(granted, st.policy.maxGranted())
	event, e := st.room.BindingGranted()
	e.Attempt, e.Status = a.Number, uint32(r.Status)
	e.GrantedSeconds = uint32(granted / time.Second)
	e.UntilMs = messages.ToMS(st.in.Now.Add(granted))
	e.RefreshAtMs = messages.ToMS(st.in.Now.Add(refreshAfter(granted, st.policy.refreshFloor(), st.in.Jitter)))
	e.ServiceRoute, e.Proof = r.ServiceRoute, cmd.Proof
	if len(a.Answers) > 0 { // AIN-06: only for a request that had credentials
		for _, info := range r.AuthInfo {
			if info.NextNonce != "" {
				e.NextNonces = append(e.NextNonces, &messages.NextNonce{Space: info.Space, Nonce: info.NextNonce})
			}
		}
	}
	st.recordEvent(event)
}

// challenged: 401 and 407 (RFC 3261 §22.2, §22.3).
func (st *step) challenged(r *messages.SIPResponse) {
	a, status := &st.State.Attempt, uint32(r.Status)
	j, learned := challenge.JudgeAndLearn(st.challengePolicy(), st.State.Challenge, r.Challenges, a.Answers, a.Round, a.Continues)
	event, e := st.room.ChallengeReceived()
	e.Attempt, e.Status, e.Challenges = a.Number, status, j.Recorded
	st.note(event)
	st.State.challenged(e, learned) // as Apply does, which takes the challenges apart once more
	st.own = j.Verdict == challenge.Ask
	switch j.Verdict {
	case challenge.Refused, challenge.Nothing:
		st.halted(status, j.Reason, r.RetryAfter)
	case challenge.Exhausted:
		st.failed(status, j.Reason, r.RetryAfter)
	case challenge.Ask:
		if !st.stillWanted() {
			st.failed(status, messages.ReasonInterrupted, 0)
			return
		}
		st.again(a.Round+1, st.State.Challenge.Answers(a.Answers, j.Recorded))
		st.ask(status, j.Rejected)
	}
}

// challengePolicy is the registrar's. Where it names no algorithms, those are
// acceptable that whoever is asked may know: an xSP decides for itself.
func (st *step) challengePolicy() challenge.Policy {
	p := st.policy.Challenge
	if chain := st.chain(); len(p.Algorithms) == 0 && len(chain) == 1 && chain[0] == messages.DigestHandler {
		p.Algorithms = digestAlgorithms
	}
	return p
}

// digestAlgorithms are what the DigestActor computes.
var digestAlgorithms = []string{"SHA-512-256", "SHA-256", "MD5"}

// stillWanted: no retry leaves for what an operator has called off meanwhile.
func (st *step) stillWanted() bool {
	return st.State.Attempt.Purpose != messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER || st.State.Wanted()
}

// resend repeats the request of the chain as changed by the state, with the
// credentials that it had.
func (st *step) resend(status uint32) {
	a := st.State.Attempt
	if !st.stillWanted() {
		st.failed(status, messages.ReasonInterrupted, 0)
		return
	}
	var answers []*messages.NonceCount
	if st.mayAskEarly() { // else the answer was good for one request only
		answers = st.State.Challenge.Answers(a.Answers, []*messages.RecordedChallenge{})
	}
	st.again(a.Round, answers)
	if len(answers) > 0 {
		st.ask(0, false)
		return
	}
	st.do(SendRequest{Attempt: st.State.Attempt.Number})
}

// intervalTooBrief: 423 (RFC 3261 §10.2.8), before or after a challenge.
func (st *step) intervalTooBrief(r *messages.SIPResponse) {
	a := st.State.Attempt
	limit := uint32(st.policy.maxMinExpires() / time.Second)
	if a.Purpose != messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER ||
		r.MinExpires <= a.ExpiresSeconds || r.MinExpires > limit || a.Intervals >= maxIntervals {
		st.halted(423, messages.ReasonInterval, r.RetryAfter)
		return
	}
	st.record(&messages.IntervalRaised{Attempt: a.Number, MinExpiresSeconds: r.MinExpires})
	st.resend(423)
}

// badExtension: 420 (RFC 3261 §8.1.3.5): once more without the tags that the
// registrar does not support.
func (st *step) badExtension(r *messages.SIPResponse) {
	a := st.State.Attempt
	if a.Adapted || len(r.Unsupported) == 0 {
		st.halted(420, messages.ReasonConfiguration, r.RetryAfter)
		return
	}
	const most = 16
	dropped := slices.Clone(st.State.Dropped) // what an earlier chain learned still holds
	for _, tag := range r.Unsupported {
		if len(dropped) < most && !slices.Contains(dropped, tag) {
			dropped = append(dropped, tag)
		}
	}
	st.record(&messages.RequestAdapted{Attempt: a.Number, Status: 420, Dropped: dropped})
	st.resend(420)
}

// doesNotExist: 481 to a REGISTER is not foreseen, but a new Call-ID helps
// registrars that confuse it with a dialog. Once.
func (st *step) doesNotExist(r *messages.SIPResponse) {
	if st.State.Attempt.Renamed {
		st.failed(481, messages.ReasonBusy, r.RetryAfter)
		return
	}
	st.newCallID()
	st.resend(481)
}

// redirected: 3xx (RFC 3261 §8.1.3.4). Only hosts of the registrar's own
// target set are followed (S-06), each URI once, so that credentials never go
// to a host that a stranger names.
func (st *step) redirected(r *messages.SIPResponse) {
	a := st.State.Attempt
	for _, target := range r.Redirects {
		if slices.Contains(a.Targets, target) || !slices.Contains(st.policy.Targets, HostOf(target)) {
			continue
		}
		if len(a.Targets) >= st.policy.redirects() {
			break
		}
		st.record(&messages.Redirected{Attempt: a.Number, Status: uint32(r.Status), Target: target})
		st.resend(uint32(r.Status))
		return
	}
	st.failed(uint32(r.Status), messages.ReasonRedirect, r.RetryAfter)
}

// HostOf is the host that a request for a SIP URI goes to, in lower case, with
// the brackets of an IPv6 reference: that of maddr, if there is one (RFC 3261
// §19.1.1). It is "" for anything else. A sips URI never equals a sip target
// (S-15), and neither do other schemes. A user part may contain ";" and "?";
// as readers differ in where such a URI's host is, it has none here (S-06).
func HostOf(uri string) string {
	rest, ok := strings.CutPrefix(strings.ToLower(uri), "sip:")
	if !ok || strings.Count(rest, "@") > 1 {
		return ""
	}
	if user, host, found := strings.Cut(rest, "@"); found {
		if strings.ContainsAny(user, ";?") {
			return ""
		}
		rest = host
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest, params, _ := strings.Cut(rest, ";")
	if strings.Contains(params, "%") || strings.Count(params, "maddr") > 1 {
		return "" // written to be misread
	}
	for param := range strings.SplitSeq(params, ";") {
		if maddr, found := strings.CutPrefix(param, "maddr="); found {
			rest = maddr
		}
	}
	if strings.HasPrefix(rest, "[") {
		host, _, found := strings.Cut(rest, "]")
		if !found {
			return ""
		}
		return host + "]"
	}
	host, _, _ := strings.Cut(rest, ":")
	return host
}
