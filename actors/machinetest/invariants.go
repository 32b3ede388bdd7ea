package machinetest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

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
func (f *faults) checkFunction(p profile.Policy, frozen []byte, given profile.State, in profile.Input, d profile.Decision) {
	again := profile.Decide(p, decode(frozen), in)
	f.checkSame("I9: %T %s the second time", in, &again, &d)
	if !bytes.Equal(encode(given), frozen) {
		f.add("I9: %T wrote into the state that it was given", in.Command)
	}
}

// checkDecider is I9 for memory that was used before: a decision in it is the
// same, and leaves alone the state of the decision that was there.
func (f *faults) checkDecider(u *usedMemory, p profile.Policy, given profile.State, in profile.Input, d profile.Decision) {
	switch cmd := in.Command.(type) {
	case profile.ResponseReceived:
		in.Command = &cmd
	case profile.CredentialsOffered:
		in.Command = &cmd
	}
	again := u.decider.Decide(&p, &given, &in)
	f.checkSame("I9: %T %s in used memory", in, again, &d)
	if u.frozen != nil && !bytes.Equal(encode(u.before), u.frozen) {
		f.add("I9: %T wrote into the state of the decision before", in.Command)
	}
	u.before, u.frozen = again.State, encode(again.State)
	if !bytes.Equal(u.frozen, encode(d.State)) {
		f.add("I9: %T leads to another state in used memory", in.Command)
	}
}

// usedMemory is a Decider, and the state that it led to last.
type usedMemory struct {
	decider profile.Decider
	before  profile.State
	frozen  []byte
}

func (f *faults) checkSame(format string, in profile.Input, again, d *profile.Decision) {
	if again.Dropped != d.Dropped || !slices.EqualFunc(again.Effects, d.Effects, func(a, b profile.Effect) bool { return reflect.DeepEqual(a, b) }) ||
		len(again.Events) != len(d.Events) {
		f.add(format, in.Command, "decides differently")
		return
	}
	for i, e := range d.Events {
		if !bytes.Equal(wire(e), wire(again.Events[i])) {
			f.add(format, in.Command, "records another "+e.TypeName())
		}
	}
}

// checkDrop: what is dropped changes nothing. Only a Declare may both be
// refused for now and record the removal that it waits for.
func (f *faults) checkDrop(cmd profile.Command, d profile.Decision) {
	if d.Dropped == "" {
		return
	}
	if _, declares := cmd.(profile.Declare); len(d.Effects) > 0 || len(d.Events) > 0 && !declares {
		f.add("dropped (%s), yet %T records or does something", d.Dropped, cmd)
	}
}

// checkFold is I1 for one event: it survives its encoding, and so does the
// state before it. What an operator reads of it is one bounded line.
func (f *faults) checkFold(before profile.State, e *messages.ProfileEvent, after profile.State) {
	var read messages.ProfileEvent
	if err := read.UnmarshalVT(wire(e)); err != nil {
		f.add("I1: %s does not decode: %v", e.TypeName(), err)
		return
	}
	if !bytes.Equal(encode(profile.Apply(decode(encode(before)), &read)), encode(after)) {
		f.add("I1: %s read back gives another state", e.TypeName())
	}
	line := profile.Describe(e)
	bad := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
	if line == "" || len(line) > 2000 || slices.ContainsFunc([]rune(line), bad) {
		f.add("%s is described as %q", e.TypeName(), line)
	}
}

// checkEvent checks one event against the state before it, which is m.State.
func (f *faults) checkEvent(m *Machine, e *messages.ProfileEvent, after profile.State) {
	switch b := e.GetEvent().(type) {
	case *messages.ProfileEvent_Added:
		m.ledger = newLedger()
	case *messages.ProfileEvent_Changed:
		if old := m.State.Spec; old.AOR != after.Spec.AOR || old.Registrar != after.Spec.Registrar {
			clear(m.ledger.counts)
		}
	case *messages.ProfileEvent_ChallengeReceived:
		f.checkChallenge(m, b.ChallengeReceived)
	case *messages.ProfileEvent_AttemptStarted:
		f.checkAttempt(m, b.AttemptStarted)
	case *messages.ProfileEvent_CredentialsSupplied:
		for _, u := range b.CredentialsSupplied.GetUnanswered() {
			if k := (realmKey{u.GetSpace(), u.GetRealm()}); m.ledger.answers[k] > 0 {
				m.ledger.answers[k]-- // it was asked in vain
			}
		}
	case *messages.ProfileEvent_CredentialsRefused:
		if m.sent == b.CredentialsRefused.GetAttempt() {
			f.add("I2: the CSeq of a request that left is given back")
		}
	case *messages.ProfileEvent_BindingGranted:
		for _, n := range b.BindingGranted.GetNextNonces() {
			for _, r := range m.State.Challenge.Realms {
				if k := (realmKey{r.Space, r.Name}); r.Space == n.GetSpace() && !slices.Contains(noncesOf(r.Raws), n.GetNonce()) {
					m.ledger.retire(k)
				}
			}
		}
	}
}

func (f *faults) checkChallenge(m *Machine, e *messages.ChallengeReceived) {
	if len(e.GetChallenges()) > 8 {
		f.add("S-31: %d challenges of one response are recorded", len(e.GetChallenges()))
	}
	clear(m.ledger.asking)
	nonces := map[realmKey][]string{}
	for _, c := range e.GetChallenges() {
		parsed, err := challenge.Parse(c.GetRaw())
		if err != nil && c.GetIgnored() == "" {
			f.add("CHA-29: a malformed challenge is admitted: %q", c.GetRaw())
		}
		if c.GetIgnored() == "" {
			k := realmKey{c.GetSpace(), parsed.Realm()}
			nonces[k] = append(nonces[k], noncesOf([]string{c.GetRaw()})...)
			m.ledger.asking[k] = true
		}
	}
	for k, offered := range nonces {
		known := func(r challenge.Realm) bool { return r.Space == k.space && r.Name == k.realm }
		i := slices.IndexFunc(m.State.Challenge.Realms, known)
		if i < 0 || !slices.ContainsFunc(noncesOf(m.State.Challenge.Realms[i].Raws), func(n string) bool { return slices.Contains(offered, n) }) {
			m.ledger.retire(k)
		}
	}
}

// checkAttempt is I2, I4 and I6 at the moment that counts: when the numbers are
// recorded.
func (f *faults) checkAttempt(m *Machine, e *messages.AttemptStarted) {
	s := m.State
	if e.GetAttempt() != s.Attempt.Number+1 {
		f.add("attempt %d follows %d", e.GetAttempt(), s.Attempt.Number)
	}
	if e.GetCseq() != s.CSeq+1 || e.GetCseq() > 1<<31-1 || e.GetCseq() <= m.ledger.left[s.CallID] {
		f.add("I2: CSeq %d after %d, of which %d has left", e.GetCseq(), s.CSeq, m.ledger.left[s.CallID])
	}
	if s.CallID == "" || s.FromTag == "" {
		f.add("GEN-03, GEN-04: no Call-ID or no From tag")
	}
	if !s.Attempt.Open {
		clear(m.ledger.answers)
		clear(m.ledger.asking)
		if e.GetRound() != 0 {
			f.add("CHA-13: a chain begins with round %d", e.GetRound())
		}
	}
	if e.GetRound() > orDefault(m.Policy.Challenge.Rounds, 5) {
		f.add("I6: round %d", e.GetRound())
	}
	if (len(e.GetAnswers()) > 0) != (e.GetHandler() != "") {
		f.add("%d answers by handler %q", len(e.GetAnswers()), e.GetHandler())
	}
	for _, a := range e.GetAnswers() {
		f.checkAnswer(m, a)
	}
	clear(m.ledger.asking)
}

func (f *faults) checkAnswer(m *Machine, a *messages.NonceCount) {
	k := realmKey{a.GetSpace(), a.GetRealm()}
	known := m.State.Challenge
	i := slices.IndexFunc(known.Realms, func(r challenge.Realm) bool { return r.Space == k.space && r.Name == k.realm })
	if i < 0 || len(known.Realms[i].Raws) == 0 {
		f.add("an answer for %s/%s, which is not known", Space(k.space), k.realm)
		return
	}
	for _, nonce := range noncesOf(known.Realms[i].Raws) {
		n := nonceKey{k, nonce}
		if a.GetCount() <= m.ledger.counts[n] {
			f.add("I4: count %d of %s/%s nonce %q was spent before", a.GetCount(), Space(k.space), k.realm, nonce)
		}
		m.ledger.counts[n] = a.GetCount()
	}
	if realms := m.Policy.Challenge.Realms; len(realms) > 0 && !slices.Contains(realms, k.realm) {
		f.add("S-01: realm %q is answered, which is not configured", k.realm)
	} else if len(realms) == 0 && known.HasPins() && !known.Realms[i].Pinned {
		f.add("S-02: realm %q is answered, which is not the pinned one", k.realm)
	}
	if m.ledger.asking[k] {
		m.ledger.answers[k]++
		if m.ledger.answers[k] > orDefault(m.Policy.Challenge.RealmAnswers, 3) {
			f.add("I6: %d answers to the challenges of %s/%s in one chain", m.ledger.answers[k], Space(k.space), k.realm)
		}
	}
}

// checkOutstanding is REG-06: a request that is out is given up only when it
// was answered, lost, or guarded.
func (f *faults) checkOutstanding(m *Machine, before profile.State, cmd profile.Command) {
	n := before.Attempt.Number
	if !before.Attempt.Open || m.State.Attempt.Open && m.State.Attempt.Number == n {
		return
	}
	ended := false
	switch c := cmd.(type) {
	case profile.ResponseReceived:
		ended = c.Attempt == n
	case profile.RequestFailed:
		ended = c.Attempt == n
	case profile.CredentialsWithheld:
		ended = c.Attempt == n
	case profile.CredentialsOffered: // called off before it left
		ended = c.Attempt == n && m.asked == n && !before.Wanted()
	case profile.TimerFired:
		by := before.Attempt.AnswerBy
		ended = !m.Now.Before(before.Attempt.GuardAt) || m.asked == n && !by.IsZero() && !m.Now.Before(by)
	case profile.Recovered:
		ended = true
	}
	if !ended {
		f.add("REG-06: %T ends attempt %d, which is out", cmd, n)
	}
}

// checkEffect is I3, and that effects serve the open attempt.
func (f *faults) checkEffect(m *Machine, e profile.Effect) {
	s := m.State
	switch e := e.(type) {
	case profile.SendRequest:
		if e.Attempt != s.Attempt.Number || !s.Attempt.Open || m.sent != 0 {
			f.add("I3: request of attempt %d, while %d is open and %d is out", e.Attempt, s.Attempt.Number, m.sent)
		}
		if s.CSeq <= m.ledger.left[s.CallID] {
			f.add("I2: CSeq %d leaves again", s.CSeq)
		}
		if len(s.Attempt.Answers) > 0 && m.asked != e.Attempt {
			f.add("I3: a request that answers leaves without an answer")
		}
	case profile.AskCredentials:
		declined := m.asked == e.Attempt && e.Handler != m.handler
		if e.Attempt != s.Attempt.Number || !s.Attempt.Open || m.sent != 0 || m.asked != 0 && !declined {
			f.add("I3: question for attempt %d, while %d is open, %d is out and %d is asked", e.Attempt, s.Attempt.Number, m.sent, m.asked)
		}
		if e.Handler == "" || e.Handler != s.Attempt.Handler {
			f.add("handler %q is asked, %q is recorded", e.Handler, s.Attempt.Handler)
		}
		if digest := e.Handler == "digest"; digest != s.Attempt.AnswerBy.IsZero() {
			f.add("I5: %q is asked with the deadline %v", e.Handler, s.Attempt.AnswerBy)
		}
		questions := s.Challenge.Questions(s.Attempt.Answers)
		for i, q := range questions {
			if q.GetIndex() != uint32(i) || q.GetNonceCount() == 0 {
				f.add("question %d is numbered %d, count %d", i, q.GetIndex(), q.GetNonceCount())
			}
		}
		if len(questions) < len(s.Attempt.Answers) || len(s.Attempt.Answers) == 0 {
			f.add("%d questions for %d answers", len(questions), len(s.Attempt.Answers))
		}
	}
}

// checkState is I5 and what must be true of every state.
func (f *faults) checkState(m *Machine, cmd profile.Command) {
	s := m.State
	at, wakes := s.WakeAt()
	_, due, ok := s.Due()
	switch {
	case s.Attempt.Open:
		if by := s.Attempt.AnswerBy; !by.IsZero() && (m.sent != 0 || at.After(by)) {
			f.add("I5: an answer is waited for until %v, while %d is out", by, m.sent)
		}
		if !wakes || at.After(s.Attempt.GuardAt) {
			f.add("I5: attempt %d is open without a guard", s.Attempt.Number)
		}
		if m.asked != s.Attempt.Number && m.sent != s.Attempt.Number {
			f.add("I5: attempt %d is open with no question and no request out", s.Attempt.Number)
		}
	case s.Removing && !s.MayBeBound() && !s.Gone:
		f.add("REG-20: nothing is left to withdraw, and the profile is not forgotten")
	case s.Wanted() && !ok, s.MayBeBound() && s.Exists() && !wakes:
		f.add("I5: stalled: %s", Summary(s, m.Now))
	case ok && due.After(m.Now.Add(8*24*time.Hour)):
		f.add("I5: next attempt in %s", due.Sub(m.Now))
	}
	if s.Bound() && !s.Gone && !(ok && due.IsZero()) && at.After(s.Binding.Until) {
		f.add("I5: the binding ends unnoticed")
	}
	if _, timer := cmd.(profile.TimerFired); timer {
		again := profile.Decide(m.Policy, s, profile.Input{Now: m.Now, Command: cmd})
		if len(again.Events) > 0 {
			f.add("I5: the timer leaves work for another timer")
		}
		if s.Status() == "registered" && !s.Binding.Until.After(m.Now) {
			f.add("registered, but the binding ended %s ago", m.Now.Sub(s.Binding.Until))
		}
	}
	if (s.Status() == "") == s.Exists() {
		f.add("status %q of a profile that exists: %t", s.Status(), s.Exists())
	}
	if len(s.Challenge.Realms) > 64 || len(s.Dropped) > 16 || len(s.Attempt.Targets) > max(m.Policy.Redirects, 5) {
		f.add("unbounded: %d realms, %d option tags, %d targets", len(s.Challenge.Realms), len(s.Dropped), len(s.Attempt.Targets))
	}
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

func wire(e *messages.ProfileEvent) []byte {
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
