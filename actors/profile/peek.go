package profile

import (
	"fmt"

	"github.com/sipmuster/muster/messages"
)

// Peek unpacks into s what one looks at in a million states: who a profile is,
// where its declaration came from, what it wants and when. It leaves out what
// only the next attempt needs: Call-ID, From tag, the challenges, every list, and
// of the attempt all but what an open one waits for and its round. What remains is
// as Unpack gives it, so that Exists, Due, WakeAt, LapseAt and Status are too.
func (w *Words) Peek(id, packed string, s *State) {
	*s = State{}
	var c peeker
	c.texts, c.id, c.in, c.reading = w.Texts, id, packed, true
	c.skipNumber() // the version
	c.present = c.uvarint()
	c.skipNumber() // how much text there is to make
	c.peek(s)
}

// peeker is a codec that may pass over what nobody asked for.
type peeker struct {
	codec
	// tokenAt is where the token stands that codec.token would be.
	tokenAt int
}

// peek passes over the fields in the order of codec.state.
func (c *peeker) peek(s *State) {
	c.flag(&s.Spec.Register)
	c.flag(&s.Proven)
	c.own(&s.Spec.AOR)
	c.own(&s.Spec.Username)
	c.shared(&s.Spec.Registrar)
	c.shared(&s.Spec.RegistrationHandler)
	c.shared(&s.Spec.SessionHandler)
	c.shared(&s.Source)
	c.own(&s.Row)
	c.skip(c.skipText) // the Call-ID
	c.skip(c.skipText) // the From tag
	c.number(&s.CSeq)
	c.number(&s.LastStatus)
	c.time(&s.Binding.Until)
	c.time(&s.NextAt)
	c.time(&s.Attempt.GuardAt)
	c.seconds(&s.Binding.Granted)
	const aside = 1 + 6 // the bits of the challenges and of the attempt
	if c.present>>(c.bits+aside) == 0 {
		return // as in most states, nothing comes behind those
	}
	c.skipList(c.skipRealm)
	c.skip(c.skipNumber) // the attempt's number
	c.skip(c.skipNumber) // its purpose
	c.number(&s.Attempt.Round)
	c.skip(c.skipNumber) // what it asks for
	c.skip(c.skipText)   // who answers
	c.skipList(c.skipAnswer)

	c.late(&s.Spec.ContactUser)
	c.seconds(&s.Spec.Expires)
	c.skipList(c.skipText) // the service route
	c.number(&s.MinSeconds)
	c.late(&s.EarlyHandler)
	c.flag(&s.Disabled)
	c.flag(&s.Halted)
	c.number(&s.Halts)
	c.number(&s.Failures)
	c.number(&s.Unproven)
	c.late((*string)(&s.Reason))
	c.time(&s.Binding.MaybeUntil)
	c.skipList(c.skipText) // the option tags that were dropped
	c.flag(&s.RefreshWanted)
	c.flag(&s.Removing)
	c.flag(&s.Gone)
	c.flag(&s.Attempt.Open)
	c.time(&s.Attempt.AnswerBy)
	if !s.Attempt.Open {
		s.Attempt.Round = 0
	}
}

// again is a text that is the last token, in one byte.
const again = otherToken<<formBits | formOther

// late passes over a text behind the challenges, which may be one of their
// tokens again.
func (c *peeker) late(s *string) {
	if !c.bit() {
		return
	}
	if c.in[c.at] == again {
		next := c.at + 1
		c.at = c.tokenAt
		*s = c.readText()
		c.at = next
		return
	}
	*s = c.readText()
}

// skip passes over an optional field.
func (c *peeker) skip(content func()) {
	if c.bit() {
		content()
	}
}

// skipList passes over a list.
func (c *peeker) skipList(element func()) {
	if c.bit() {
		for range c.uvarint() {
			element()
		}
	}
}

func (c *peeker) skipNumber() { c.uvarint() }

func (c *peeker) skipText() {
	head := c.uvarint()
	n := int(head >> formBits)
	switch head & formMask {
	case formInline, formHex:
		c.at += n
	case formOther:
		if n >= otherBase64 {
			c.at += 3 * (n - otherBase64)
		}
	}
}

func (c *peeker) skipRealm() {
	c.skipNumber() // flags
	c.skipText()   // the realm
	for range 3 {
		c.skipNumber() // counts, and the strongest algorithm
	}
	for range c.uvarint() {
		c.skipChallenge()
	}
}

func (c *peeker) skipChallenge() {
	tokens := c.uvarint()
	for range tokens {
		c.skipText() // what stands before it
		if c.in[c.at] != again {
			c.tokenAt = c.at
		}
		c.skipText()
	}
	c.skipText() // the rest
}

func (c *peeker) skipAnswer() {
	if c.uvarint() == 0 { // no realm that is known
		c.skipNumber() // the space
		c.skipText()   // the realm
	}
	c.skipNumber() // the count
}

// Snapshots decodes one snapshot after another in the same memory.
type Snapshots struct {
	state   messages.ProfileState
	spec    messages.ProfileSpec
	attempt messages.AttemptState
}

// Unmarshal is the function Unmarshal, with less garbage.
func (r *Snapshots) Unmarshal(b []byte) (State, error) {
	r.spec, r.attempt = messages.ProfileSpec{}, messages.AttemptState{}
	r.state = messages.ProfileState{Spec: &r.spec, Attempt: &r.attempt}
	if err := r.state.UnmarshalVT(b); err != nil {
		return State{}, fmt.Errorf("decode profile state: %w", err)
	}
	return fromProto(&r.state), nil
}
