package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// The invariants:
//
//	I1  folding the events gives the live state, from any snapshot
//	I2  CSeq numbers leave in order and without a gap; one that never left is
//	    given back, unless others had been taken by then
//	I3  one offer of ours at a time, none while the peer's waits (DLG-13)
//	I4  a nonce count never repeats
//	I5  no stall: whatever is open is asked, out, or waits behind a question; a
//	    deadline stands over it, and each deadline that fires changes something
//	I6  challenge rounds and repetitions are bounded
//	I7  no body and no header value is recorded
//	I8  what is over stays over: after Ended every input is dropped
//	I9  Decide is a function
//	S1  credentials go only where the profile's registrar is

// faults are the rules that a step has broken.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f faults) err() error {
	errs := make([]error, len(f))
	for i, text := range f {
		errs[i] = errors.New(text)
	}
	return errors.Join(errs...)
}

// checkFunction is I9: deciding again, from a snapshot of the state, gives the
// same, and the state that was given is as it was.
func (f *faults) checkFunction(p session.Policy, frozen []byte, given session.State, in session.Input, d session.Decision) {
	again := session.Decide(p, decode(frozen), in)
	if again.Dropped != d.Dropped || again.Chain != d.Chain || len(again.Effects) != len(d.Effects) || len(again.Events) != len(d.Events) {
		f.add("I9: %T decides differently the second time", in.Command)
		return
	}
	for i, e := range d.Effects {
		if a, b := fmt.Sprintf("%T ", e)+renderEffect(e, given), fmt.Sprintf("%T ", e)+renderEffect(again.Effects[i], given); a != b {
			f.add("I9: %T does %s, and the second time %s", in.Command, a, b)
		}
	}
	for i, e := range d.Events {
		if !bytes.Equal(wire(e), wire(again.Events[i])) {
			f.add("I9: %T records another %s the second time", in.Command, e.TypeName())
		}
	}
	if !bytes.Equal(encode(given), frozen) {
		f.add("I9: %T wrote into the state that it was given", in.Command)
	}
}

// checkDrop: what is dropped changes nothing, and so does everything once the
// session is over (I8).
func (f *faults) checkDrop(before session.State, in session.Input, d session.Decision) {
	if d.Dropped != "" && (len(d.Effects) > 0 || len(d.Events) > 0) {
		f.add("dropped (%s), yet %T records or does something", d.Dropped, in.Command)
	}
	if before.Ended && d.Dropped == "" {
		f.add("I8: %T is not dropped after the end", in.Command)
	}
	if d.Chain != 0 && d.Dropped != "" {
		f.add("dropped (%s), yet chain %d begins", d.Dropped, d.Chain)
	}
}

// checkFold is I1 for one event: it survives its encoding, and so does the
// state before it. What an operator reads of it is one bounded line.
func (f *faults) checkFold(m *machine, e *messages.SessionEvent, after session.State) {
	text := wire(e)
	var read messages.SessionEvent
	if err := read.UnmarshalVT(text); err != nil {
		f.add("I1: %s does not decode: %v", e.TypeName(), err)
		return
	}
	if !bytes.Equal(encode(session.Apply(decode(encode(m.state)), &read, m.now)), encode(after)) {
		f.add("I1: %s read back gives another state", e.TypeName())
	}
	if bytes.Contains(text, []byte(canary)) || bytes.Contains(encode(after), []byte(canary)) {
		f.add("I7: %s holds a body or the value of a header", e.TypeName())
	}
	line := session.Describe(e)
	bad := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
	if line == "" || len(line) > 2000 || slices.ContainsFunc([]rune(line), bad) || strings.Contains(line, canary) {
		f.add("%s is described as %q", e.TypeName(), line)
	}
}

// checkEvent checks one event against the state before it, which is m.state.
func (f *faults) checkEvent(m *machine, e *messages.SessionEvent, after session.State) {
	s := m.state
	switch b := e.GetEvent().(type) {
	case *messages.SessionEvent_RequestStarted:
		f.checkStarted(m, b.RequestStarted)
	case *messages.SessionEvent_ChallengeReceived:
		f.checkChallenge(m, b.ChallengeReceived)
	case *messages.SessionEvent_CredentialsRefused:
		r, ok := s.Request(b.CredentialsRefused.GetAttempt())
		switch {
		case !ok || m.host.out[r.GetAttempt()]:
			f.add("I2: the CSeq of attempt %d is given back, though it is not open or has left", b.CredentialsRefused.GetAttempt())
		case s.CSeq == r.GetCseq() && after.CSeq != s.CSeq-1:
			f.add("I2: CSeq %d never leaves and is not given back", s.CSeq)
		}
	case *messages.SessionEvent_Established:
		m.ledger.established++
		m.ledger.confirmed[b.Established.GetAttempt()] = true
		if m.ledger.established > 1 {
			f.add("established twice")
		}
	case *messages.SessionEvent_RequestSucceeded:
		if m.ledger.method[b.RequestSucceeded.GetAttempt()] == "INVITE" {
			m.ledger.confirmed[b.RequestSucceeded.GetAttempt()] = true
		}
	case *messages.SessionEvent_Ended:
		m.ledger.ended++
	}
	for _, r := range s.Requests {
		if _, open := after.Request(r.GetAttempt()); !open && !m.host.out[r.GetAttempt()] {
			m.ledger.lost[r.GetCseq()] = true
		}
	}
	if len(e.String()) > 64<<10 {
		f.add("S-31: %s is as large as %d bytes", e.TypeName(), len(e.String()))
	}
}

// checkStarted is I2, I3, I4, I6 and S1 at the moment that counts: when the
// numbers are recorded.
func (f *faults) checkStarted(m *machine, e *messages.RequestStarted) {
	s := m.state
	m.ledger.cseq[e.GetAttempt()], m.ledger.method[e.GetAttempt()] = e.GetCseq(), e.GetMethod()
	if e.GetAttempt() != s.Attempts+1 || e.GetCseq() != s.CSeq+1 || e.GetCseq() <= m.ledger.left {
		f.add("I2: attempt %d with CSeq %d follows attempt %d with CSeq %d, of which %d has left",
			e.GetAttempt(), e.GetCseq(), s.Attempts, s.CSeq, m.ledger.left)
	}
	if e.GetMethod() == "INVITE" && s.Ending {
		f.add("CAN-02: INVITE begins while the session ends")
	}
	if e.GetMethod() == "INVITE" && e.GetBranch() == "" {
		f.add("an INVITE without a branch cannot be cancelled after a restart")
	}
	if e.GetMethod() == "BYE" && !s.Established() {
		f.add("INV-05: BYE without a dialog")
	}
	if e.GetGuardAtMs() <= m.now.UnixMilli() {
		f.add("I5: attempt %d has no guard", e.GetAttempt())
	}
	if (len(e.GetAnswers()) > 0) != (e.GetHandler() != "") || (e.GetHandler() != "") != (e.GetAnswerByMs() != 0) {
		f.add("attempt %d: %d answers by handler %q until %d", e.GetAttempt(), len(e.GetAnswers()), e.GetHandler(), e.GetAnswerByMs())
	}
	if limit := orDefault(m.policy.Challenge.Rounds, 5); e.GetRound() > limit {
		f.add("I6: round %d", e.GetRound())
	}
	if e.GetAttempt()-e.GetChain() > 100 && slices.ContainsFunc(s.Requests, func(r session.Request) bool { return r.GetChain() == e.GetChain() }) {
		f.add("I6: attempt %d still belongs to chain %d", e.GetAttempt(), e.GetChain())
	}
	for _, a := range e.GetAnswers() {
		f.checkAnswer(m, e, a)
	}
}

func (f *faults) checkAnswer(m *machine, e *messages.RequestStarted, a *messages.NonceCount) {
	s := m.state
	k := realmKey{a.GetSpace(), a.GetRealm()}
	i := slices.IndexFunc(s.Challenge.Realms, func(r challenge.Realm) bool { return r.Space == k.space && r.Name == k.realm })
	if i < 0 || len(s.Challenge.Realms[i].Raws) == 0 {
		f.add("an answer for %v, which is not known", k)
		return
	}
	for _, nonce := range noncesOf(s.Challenge.Realms[i].Raws) {
		n := nonceKey{k, nonce}
		if a.GetCount() <= m.ledger.counts[n] {
			f.add("I4: count %d of %v was spent before", a.GetCount(), n)
		}
		m.ledger.counts[n] = a.GetCount()
	}
	d := e.GetDialog()
	if d == nil {
		d = s.Dialog
	}
	switch {
	case s.Spec.GetTrunkLeg():
		f.add("S1: credentials go to a trunk's peer")
	case d == nil: // the first INVITE goes to the registrar or its proxy
	case !ourHop(s, d), k.space == messages.Space_ORIGIN && !ours(s, d.GetTarget()):
		f.add("S1: credentials for %v go to %v", k, d)
	}
}

func (f *faults) checkChallenge(m *machine, e *messages.ChallengeReceived) {
	if len(e.GetChallenges()) > 16 {
		f.add("S-31: %d challenges of one response are recorded", len(e.GetChallenges()))
	}
	nonces := map[realmKey][]string{}
	for _, c := range e.GetChallenges() {
		if c.GetIgnored() != "" {
			continue
		}
		parsed, err := challenge.Parse(c.GetRaw())
		if err != nil {
			f.add("CHA-29: a malformed challenge is admitted: %q", c.GetRaw())
			continue
		}
		k := realmKey{c.GetSpace(), parsed.Realm()}
		nonces[k] = append(nonces[k], noncesOf([]string{c.GetRaw()})...)
	}
	for k, offered := range nonces {
		i := slices.IndexFunc(m.state.Challenge.Realms, func(r challenge.Realm) bool { return r.Space == k.space && r.Name == k.realm })
		if i < 0 || !slices.ContainsFunc(noncesOf(m.state.Challenge.Realms[i].Raws), func(n string) bool { return slices.Contains(offered, n) }) {
			m.ledger.retire(k)
		}
	}
}

// checkEffect checks one effect against the state after the events and what the
// host does already.
func (f *faults) checkEffect(m *machine, in session.Input, e session.Effect) {
	s := m.state
	switch e := e.(type) {
	case session.SendRequest:
		f.checkSend(m, e.Attempt)
	case session.AskCredentials:
		r, open := s.Request(e.Attempt)
		before, asked := m.host.asked[e.Attempt]
		if !open || r.GetAnswerByMs() == 0 || m.host.out[e.Attempt] || asked && before == e.Handler {
			f.add("I5: a question about attempt %d, which is not the time for", e.Attempt)
		}
		if e.Handler == "" || e.Handler != r.GetHandler() {
			f.add("handler %q is asked, %q is recorded", e.Handler, r.GetHandler())
		}
		if n := len(s.Challenge.Questions(r.GetAnswers())); n < len(r.GetAnswers()) || n == 0 {
			f.add("%d questions for %d answers", n, len(r.GetAnswers()))
		}
	case session.Cancel:
		if r, open := s.Request(e.Attempt); !open || r.GetMethod() != "INVITE" || !s.Ending || s.Established() || !m.host.out[e.Attempt] {
			f.add("CAN-01: CANCEL of attempt %d, which is no INVITE that is out", e.Attempt)
		}
	case session.ResumeInvite:
		if r, open := s.Request(e.Attempt); !open || r.GetMethod() != "INVITE" || r.GetAnswerByMs() != 0 {
			f.add("attempt %d is resumed, which is no open INVITE", e.Attempt)
		}
	case session.Acknowledge:
		if e.Attempt != s.Confirmed || e.CSeq != m.ledger.cseq[e.Attempt] || e.Dialog.GetTarget() == "" || m.ledger.method[e.Attempt] != "INVITE" {
			f.add("INV-01: ACK of attempt %d with CSeq %d to %q; confirmed is %d", e.Attempt, e.CSeq, e.Dialog.GetTarget(), s.Confirmed)
		}
		if _, answer := in.Command.(session.Answer); e.Body != answer {
			f.add("the ACK has a body: %t, after %T", e.Body, in.Command)
		}
		if e.Credentials && (s.Spec.GetTrunkLeg() || !known(e.Dialog) || !ourHop(s, e.Dialog)) {
			f.add("S1: the ACK takes credentials to %v", e.Dialog)
		}
	case session.Respond:
		if !m.host.peers[peerKey{e.Method, e.CSeq}] && !restarted(in) {
			f.add("a response to %s %d, which nobody has asked or which is answered", e.Method, e.CSeq)
		}
		if e.Status < 100 || e.Status > 699 || e.Status < 200 && !e.Owner {
			f.add("response %d", e.Status)
		}
	case session.Tell:
		f.checkTell(m, in, e)
	}
}

// restarted: what an earlier process had in hand is told to whom it may concern.
func restarted(in session.Input) bool {
	_, ok := in.Command.(session.Recovered)
	return ok
}

func (f *faults) checkSend(m *machine, attempt uint64) {
	s := m.state
	r, open := s.Request(attempt)
	if !open || r.GetAnswerByMs() != 0 || m.host.out[attempt] {
		f.add("I5: attempt %d is sent, but it is not open, waits for an answer, or is out", attempt)
		return
	}
	if r.GetCseq() <= m.ledger.left {
		f.add("I2: %s with CSeq %d leaves after %d", r.GetMethod(), r.GetCseq(), m.ledger.left)
	}
	for n := m.ledger.left + 1; n < r.GetCseq(); n++ {
		if !m.ledger.lost[n] {
			f.add("I2: %s with CSeq %d leaves before %d", r.GetMethod(), r.GetCseq(), n)
		}
	}
	if r.GetMethod() == "INVITE" && s.Ending {
		f.add("CAN-02: an INVITE leaves while the session ends")
	}
}

func (f *faults) checkTell(m *machine, in session.Input, e session.Tell) {
	s := m.state
	switch e.Notice {
	case session.NoticeSucceeded, session.NoticeFailed:
		if !m.host.chains[e.Chain] && !restarted(in) {
			f.add("told what became of chain %d, which the owner did not begin or was told before", e.Chain)
		}
	case session.NoticeEnded:
		if !s.Ended || e.Reason == "" || e.Reason != s.Reason {
			f.add("told that the session ended: %q, of %q", e.Reason, s.Reason)
		}
	case session.NoticeEstablished:
		if !s.Established() || s.Ending {
			f.add("told that the session is up: %s", s.Status())
		}
	}
}

// checkAnswered: each 2xx to an INVITE of ours gets its ACK, or waits for our
// answer to its offer (INV-01, INV-02).
func (f *faults) checkAnswered(m *machine, before session.State, cmd session.Command, d session.Decision) {
	ended := 0
	for _, e := range d.Effects {
		if tell, ok := e.(session.Tell); ok && tell.Notice == session.NoticeEnded {
			ended++
		}
	}
	if over := m.state.Ended && !before.Ended; over != (ended == 1) || m.ledger.ended > 1 {
		f.add("ended: %t, told %d times, recorded %d times", over, ended, m.ledger.ended)
	}
	c, ok := cmd.(session.Answered)
	if !ok || c.Response.Status >= 300 || m.ledger.method[c.Attempt] != "INVITE" || !m.host.out[c.Attempt] || before.Ended {
		return
	}
	tag := c.Response.Dialog.RemoteTag
	for _, e := range d.Effects {
		// Inside the dialog the tag is known, whatever a 2xx says.
		if ack, ok := e.(session.Acknowledge); ok && ack.Attempt == c.Attempt && (ack.Dialog.GetRemoteTag() == tag || before.Established()) {
			return
		}
	}
	s := m.state
	waits := !s.AnswerDueBy.IsZero() && s.Confirmed == c.Attempt && (s.Dialog.GetRemoteTag() == tag || before.Established())
	older := m.ledger.confirmed[c.Attempt] && c.Attempt != s.Confirmed
	if !waits && !older && d.Dropped != messages.DropBusy {
		f.add("INV-01: a 2xx with tag %q to attempt %d is not acknowledged (%s)", tag, c.Attempt, d.Dropped)
	}
}

// checkState is I3, I5 and what must be true of every state.
func (f *faults) checkState(m *machine, before session.State) {
	s := m.state
	offers, invites := 0, 0
	lowest := uint32(1<<32 - 1) // of the questions
	for _, r := range s.Requests {
		if r.GetAnswerByMs() != 0 {
			lowest = min(lowest, r.GetCseq())
		}
		if r.GetDialog() == nil && (r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE") {
			offers++
		}
		if r.GetMethod() == "INVITE" {
			invites++
		}
	}
	for _, r := range s.Requests {
		_, asked := m.host.asked[r.GetAttempt()]
		out := m.host.out[r.GetAttempt()]
		held := r.GetAnswerByMs() == 0 && r.GetCseq() > lowest && !asked && !out
		if asked != (r.GetAnswerByMs() != 0) || asked && out || !asked && !out && !held {
			f.add("I5: %s of attempt %d is open, asked %t, out %t", r.GetMethod(), r.GetAttempt(), asked, out)
		}
	}
	_, theirs := s.Peer("INVITE", s.RemoteCSeq)
	if offers > 1 || invites > 0 && theirs {
		f.add("I3, DLG-13: %d offers of ours are open, INVITE of the peer %t", offers, theirs)
	}
	for key := range m.host.peers {
		if _, waits := s.Peer(key.method, key.cseq); !waits {
			f.add("%s %d of the peer is never answered", key.method, key.cseq)
			delete(m.host.peers, key)
		}
	}
	if s.Exists() && !slices.Contains(append(session.Statuses(), "ended"), s.Status()) {
		f.add("status %q", s.Status())
	}
	if before.Ending && !s.Ending || before.Ended && !s.Ended || before.Exists() && !s.Exists() {
		f.add("I8: %s after %s", s.Status(), before.Status())
	}
	if len(s.Challenge.Realms) > 64 || len(s.Requests) > 40 || len(s.PeerRequests) > 9 || len(s.Early) > 16 || len(s.Forks) > 16 {
		f.add("S-31: %d realms, %d requests, %d of the peer, %d early dialogs, %d forks",
			len(s.Challenge.Realms), len(s.Requests), len(s.PeerRequests), len(s.Early), len(s.Forks))
	}
	if s.Established() && !s.Ended && s.Dialog.GetTarget() == "" {
		f.add("DLG-01: a dialog without a target")
	}
}

// checkWake is I5: a deadline stands over whatever is not at rest, and a
// deadline that has come does something.
func (f *faults) checkWake(m *machine, before session.State, cmd session.Command, d session.Decision) {
	s := m.state
	at, wakes := s.WakeAt()
	rest := s.Established() && !s.Ending && len(s.Requests) == 0 && len(s.PeerRequests) == 0 &&
		s.Retry.At.IsZero() && s.ExpiresAt.IsZero() && s.AnswerDueBy.IsZero() && s.Spec.GetHangupAfterMs() == 0
	if alive := s.Exists() && !s.Ended; alive && !wakes && !rest || !alive && wakes {
		f.add("I5: wakes %t: %s", wakes, summary(s, m.now))
	}
	if s.Ending && !s.Ended && (!wakes || at.After(s.EndingGuard)) {
		f.add("I5: the end is not guarded: %s", summary(s, m.now))
	}
	if _, fired := cmd.(session.TimerFired); !fired || !before.Exists() || before.Ended {
		return
	}
	was, ok := before.WakeAt()
	switch passed := ok && !was.After(m.now); {
	case passed && len(d.Events) == 0:
		f.add("I5: the deadline %s ago changes nothing (%s): %s", m.now.Sub(was), d.Dropped, summary(before, m.now))
	case !passed && d.Dropped != messages.DropEarly:
		f.add("a timer that is not due is not dropped: %q", d.Dropped)
	}
}

// checkReplay folds all events from nothing, and from snapshots at every version
// (of a long history, some), as the journal does (I1).
func (m *machine) checkReplay() error {
	want := encode(m.state)
	if m.state.Ended {
		want = nil
	}
	var errs []error
	for i := 0; i <= len(m.events); i += 1 + len(m.events)/32 {
		snapshot, err := session.Fold(nil, m.events[:i])
		if err == nil && i < len(m.events) {
			snapshot, err = session.Fold(snapshot, m.events[i:])
		}
		if err != nil || string(snapshot) != string(want) {
			errs = append(errs, fmt.Errorf("I1: replay with a snapshot at version %d gives another state: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// checkSilence leaves a copy alone: whatever is being set up or ended is over
// within minutes, and no deadline keeps the session busy.
func (m *machine) checkSilence() error {
	c := m.clone()
	status, from := c.state.Status(), c.now
	var errs []error
	for fired := 0; ; fired++ {
		_, more, err := c.wake()
		errs = append(errs, err)
		if !more {
			break
		}
		if fired > 60 {
			return errors.Join(append(errs, fmt.Errorf("I5: %d deadlines, and no end: %s", fired, summary(c.state, c.now)))...)
		}
	}
	took := c.now.Sub(from)
	switch status {
	case "calling", "challenged", "early", "ending":
		if !c.state.Ended || took > 10*time.Minute {
			errs = append(errs, fmt.Errorf("I5: left alone when %s, and after %s it is %s", status, took, summary(c.state, c.now)))
		}
	}
	return errors.Join(errs...)
}

// checkCrash crashes a copy and follows it. An early session ends, an
// established one goes on.
func (m *machine) checkCrash() error {
	if !m.state.Exists() || m.state.Ended {
		return nil
	}
	c := m.clone()
	was := c.state.Status()
	_, err := c.crash()
	errs := []error{err}
	is := c.state.Status()
	switch {
	case was == "established" && is != "established" && m.state.AnswerDueBy.IsZero():
		errs = append(errs, fmt.Errorf("%s after a restart: %s", is, summary(m.state, m.now)))
	case was != "established" && is != "ended" && is != "ending":
		errs = append(errs, fmt.Errorf("a session that was %s is %s after a restart", was, is))
	}
	if len(c.host.asked) > 0 && is == "ended" {
		errs = append(errs, errors.New("a question after the end"))
	}
	return errors.Join(append(errs, c.checkSilence())...)
}

// check looks at the whole of what has happened and what could happen.
func (m *machine) check() error {
	if m.light {
		return nil
	}
	return errors.Join(m.checkReplay(), m.checkSilence(), m.checkCrash())
}

// noncesOf names each nonce once and leaves out schemes without one.
func noncesOf(raws []string) []string {
	var out []string
	for _, raw := range raws {
		if parsed, err := challenge.Parse(raw); err == nil && parsed.Nonce() != "" && !slices.Contains(out, parsed.Nonce()) {
			out = append(out, parsed.Nonce())
		}
	}
	return out
}

func wire(e *messages.SessionEvent) []byte {
	b, err := e.MarshalVT()
	if err != nil {
		panic(err)
	}
	return b
}

func orDefault(v, otherwise uint32) uint32 {
	if v == 0 {
		return otherwise
	}
	return v
}
