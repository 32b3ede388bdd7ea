package profile

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Words packs the states of profiles that have nothing to do, each into one
// short string. A packed state lives in memory only, so its form may change
// with every release; what lasts is a snapshot.
type Words struct {
	// Texts shares what many profiles have in common, such as the registrar's
	// name and the challenge around its nonce; nil shares nothing. What belongs
	// to one profile (its AOR, Call-ID, nonces) is never offered to it.
	Texts Texts
}

// Texts numbers the texts that recur. What it numbered once it must know as
// long as it is used.
type Texts interface {
	// Number is false for a text that is not shared. owner is the profile that
	// the text stands in.
	Number(text, owner string) (n uint64, ok bool)
	// Text is the inverse of Number.
	Text(n uint64) string
}

// packedHead is room for the three numbers in front of what codec writes.
const packedHead = 3 * binary.MaxVarintLen64

// Pack encodes a state and its version. id is the profile's id: what equals it
// is not stored again.
func (w *Words) Pack(id string, version uint64, s *State) string {
	var c codec
	c.texts, c.id, c.end = w.Texts, id, packedHead
	c.state(s)
	var numbers [packedHead]byte
	head := binary.AppendUvarint(numbers[:0], version)
	head = binary.AppendUvarint(head, c.present)
	head = binary.AppendUvarint(head, uint64(c.made))
	start := packedHead - len(head)
	copy(c.room[start:], head)
	if len(c.more) > 0 {
		return string(c.room[start:c.end]) + string(c.more)
	}
	return string(c.room[start:c.end])
}

// Unpack is the inverse of Pack for the same id. The strings of the state may
// be parts of packed.
func (w *Words) Unpack(id, packed string) (s State, version uint64) {
	version = w.UnpackInto(id, packed, &s)
	return s, version
}

// UnpackInto is Unpack into a state that the caller has.
func (w *Words) UnpackInto(id, packed string, s *State) (version uint64) {
	*s = State{}
	var c codec
	c.texts, c.id, c.in, c.reading = w.Texts, id, packed, true
	version = c.uvarint()
	c.present = c.uvarint()
	c.text.Grow(int(c.uvarint()))
	c.state(s)
	return version
}

// state passes over every field, once to pack and once to unpack: what is
// usual comes first, because the bits of what is present cost least there.
func (c *codec) state(s *State) {
	c.flag(&s.Spec.Register)
	c.flag(&s.Proven)
	c.own(&s.Spec.AOR)
	c.own(&s.Spec.Username)
	c.shared(&s.Spec.Registrar)
	c.shared(&s.Spec.RegistrationHandler)
	c.shared(&s.Spec.SessionHandler)
	c.shared(&s.Source)
	c.own(&s.Row)
	c.own(&s.CallID)
	c.own(&s.FromTag)
	c.number(&s.CSeq)
	c.number(&s.LastStatus)
	c.time(&s.Binding.Until)
	c.time(&s.NextAt)
	c.time(&s.Attempt.GuardAt)
	c.seconds(&s.Binding.Granted)
	c.realms(&s.Challenge.Realms)
	c.attempt(&s.Attempt, s.Challenge.Realms)

	c.own(&s.Spec.ContactUser)
	c.seconds(&s.Spec.Expires)
	c.sharedList(&s.Binding.ServiceRoute)
	c.number(&s.MinSeconds)
	c.shared(&s.EarlyHandler)
	c.flag(&s.Disabled)
	c.flag(&s.Halted)
	c.number(&s.Halts)
	c.number(&s.Failures)
	c.number(&s.Unproven)
	c.shared((*string)(&s.Reason))
	c.time(&s.Binding.MaybeUntil)
	c.sharedList(&s.Dropped)
	c.flag(&s.RefreshWanted)
	c.flag(&s.Removing)
	c.flag(&s.Gone)
	c.flag(&s.Attempt.Open)
	c.time(&s.Attempt.AnswerBy)
	c.flag(&s.Attempt.Continues)
	c.number(&s.Attempt.Intervals)
	c.flag(&s.Attempt.Renamed)
	c.flag(&s.Attempt.Adapted)
	c.sharedList(&s.Attempt.Targets)
}

// attempt passes over the fields that the last attempt of a registered profile
// has as well.
func (c *codec) attempt(a *Attempt, realms []challenge.Realm) {
	c.bigNumber(&a.Number)
	purpose := uint32(a.Purpose)
	c.number(&purpose)
	if c.reading {
		a.Purpose = messages.AttemptPurpose(purpose)
	}
	c.number(&a.Round)
	c.number(&a.ExpiresSeconds)
	c.shared(&a.Handler)
	c.answers(&a.Answers, realms)
}

const (
	realmPinned = 1 << iota
	realmCached
	realmSpace // the lowest bit of the space
)

func (c *codec) realms(list *[]challenge.Realm) {
	n := len(*list)
	if !c.counted(&n) {
		return
	}
	if c.reading {
		*list = c.readRealms(n)
		return
	}
	for i := range *list {
		r := &(*list)[i]
		flags := uint64(uint32(r.Space)) * realmSpace
		if r.Pinned {
			flags |= realmPinned
		}
		if r.Cached {
			flags |= realmCached
		}
		c.putUvarint(flags)
		c.putText(r.Name, true)
		c.putUvarint(uint64(r.Count))
		c.putUvarint(uint64(r.Answered))
		c.putUvarint(uint64(r.Strongest))
		c.putUvarint(uint64(len(r.Raws)))
		for _, raw := range r.Raws {
			c.putChallenge(raw)
		}
	}
}

func (c *codec) readRealms(n int) []challenge.Realm {
	var list []challenge.Realm
	var raws []string
	if n == 1 { // the usual state, in one piece of memory
		room := new(struct {
			realm  [1]challenge.Realm
			raw    [1]string
			answer [1]*messages.NonceCount
			count  messages.NonceCount
		})
		room.answer[0] = &room.count
		list, raws, c.answer = room.realm[:], room.raw[:], room.answer[:]
	} else {
		list = make([]challenge.Realm, n)
	}
	for i := range list {
		r := &list[i]
		flags := c.uvarint()
		r.Pinned, r.Cached = flags&realmPinned != 0, flags&realmCached != 0
		r.Space = messages.Space(int32(flags / realmSpace))
		r.Name = c.readText()
		r.Count, r.Answered, r.Strongest = uint32(c.uvarint()), uint32(c.uvarint()), uint32(c.uvarint())
		switch n := int(c.uvarint()); {
		case n == 0:
			continue
		case n == len(raws):
			r.Raws = raws
		default:
			r.Raws = make([]string, n)
		}
		for j := range r.Raws {
			r.Raws[j] = c.readChallenge()
		}
	}
	return list
}

// answers names a realm that is known by its place: place 0 stands for one
// that is not.
func (c *codec) answers(list *[]*messages.NonceCount, realms []challenge.Realm) {
	n := len(*list)
	if !c.counted(&n) {
		return
	}
	if c.reading {
		*list = c.readAnswers(n, realms)
		return
	}
	for _, a := range *list {
		place := 1 + slices.IndexFunc(realms, func(r challenge.Realm) bool {
			return r.Space == a.GetSpace() && r.Name == a.GetRealm()
		})
		c.putUvarint(uint64(place))
		if place == 0 {
			c.putUvarint(uint64(uint32(a.GetSpace())))
			c.putText(a.GetRealm(), true)
		}
		c.putUvarint(uint64(a.GetCount()))
	}
}

func (c *codec) readAnswers(n int, realms []challenge.Realm) []*messages.NonceCount {
	list := c.answer
	if n != len(list) {
		list = messages.NewNonceCounts(n)
	}
	for _, a := range list {
		if place := c.uvarint(); place > 0 {
			a.Space, a.Realm = realms[place-1].Space, realms[place-1].Name
		} else {
			a.Space, a.Realm = messages.Space(int32(c.uvarint())), c.readText()
		}
		a.Count = uint32(c.uvarint())
	}
	return list
}

func (c *codec) time(t *time.Time) {
	if c.reading {
		if c.bit() {
			c.last += c.varint()
			*t = messages.FromMS(c.last)
		}
		return
	}
	ms := messages.ToMS(*t)
	if c.putBit(ms != 0) {
		c.putVarint(ms - c.last)
		c.last = ms
	}
}

func (c *codec) seconds(d *time.Duration) {
	n := uint64(*d / time.Second)
	c.bigNumber(&n)
	if c.reading {
		*d = time.Duration(n) * time.Second
	}
}
