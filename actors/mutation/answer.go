package mutation

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sipmuster/muster/messages"
)

var (
	errNothing = errors.New("the answer changes nothing")
	errUnnamed = errors.New("the answer has no credentials and does not list the challenges that it answers")
)

// Checked is what an accepted answer amounts to.
type Checked struct {
	// Headers are the names that it changes, as SIP spells them, sorted, each
	// once.
	Headers []string
	// Unanswered holds the first challenge of each space and realm of the
	// question for which the request would carry no credentials.
	Unanswered []*messages.Challenge
}

// CheckAnswer weighs an authenticator's answer to a question as a whole, before
// anything is written (S-45). extra lists the headers that its configuration
// lets it change besides Authorization and Proxy-Authorization.
//
// What counts is the request that the mutations would leave: credentials that a
// later SET or REMOVE takes away again answer nothing. An answer without
// credentials is one if it sets a listed header and lists the challenges that
// this answers. The ref is not looked at.
func CheckAnswer(q *messages.AuthChallenge, a *messages.AuthAnswer, extra []string) (Checked, error) {
	if err := Check(a.GetMutations(), extra); err != nil {
		return Checked{}, err
	}
	listed, err := listedBy(q.GetChallenges(), a.GetAnswered())
	if err != nil {
		return Checked{}, err
	}
	w := weighing{asked: q.GetChallenges(), listed: listed}
	for i, m := range a.GetMutations() {
		if err := w.add(m); err != nil {
			return Checked{}, fmt.Errorf("mutation %d: header %s %w", i, spelled(Canonical(m.GetName())), err)
		}
	}
	switch {
	case len(w.answered) > 0:
	case len(w.custom) == 0:
		return Checked{}, errNothing
	case len(listed) == 0:
		return Checked{}, errUnnamed
	default:
		w.answered = listed
	}
	return Checked{Headers: w.headers(), Unanswered: w.unanswered()}, nil
}

// listedBy finds the challenges that an answer says it answers.
func listedBy(asked []*messages.Challenge, indices []uint32) ([]*messages.Challenge, error) {
	if len(indices) > len(asked) {
		return nil, fmt.Errorf("lists %d challenges as answered, %d were asked", len(indices), len(asked))
	}
	var listed []*messages.Challenge
	for _, index := range indices {
		i := slices.IndexFunc(asked, func(c *messages.Challenge) bool { return c.GetIndex() == index })
		if i < 0 {
			return nil, fmt.Errorf("lists challenge %d as answered, which was not asked", index)
		}
		listed = append(listed, asked[i])
	}
	return listed, nil
}

// weighing goes through the mutations of an answer in order.
type weighing struct {
	asked, listed []*messages.Challenge
	names         []string // canonical, of every header that is changed
	// seen are the challenges that any credentials of the answer belong to;
	// answered are those whose credentials are still in the request.
	seen, answered []*messages.Challenge
	custom         []string // other headers that are still in the request
}

// add takes a mutation that Check accepts.
func (w *weighing) add(m *messages.HeaderMutation) error {
	name := Canonical(m.GetName())
	w.names = append(w.names, name)
	if !isCredentials(name) {
		if m.GetOp() == messages.Op_REMOVE {
			w.custom = slices.DeleteFunc(w.custom, func(c string) bool { return c == name })
		} else {
			w.custom = append(w.custom, name)
		}
		return nil
	}
	here := func(c *messages.Challenge) bool { return c.GetSpace() == space(name) }
	if m.GetOp() != messages.Op_ADD {
		w.answered = slices.DeleteFunc(w.answered, here)
	}
	if m.GetOp() == messages.Op_REMOVE {
		return nil
	}
	c, err := parse(m.GetValue())
	if err != nil {
		return err
	}
	found, err := belongs(c, only(w.asked, here), only(w.listed, here))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(c *messages.Challenge) bool { return holdsRealm(w.seen, c) }) {
		return errTwice
	}
	w.seen = append(w.seen, found...)
	w.answered = append(w.answered, found...)
	return nil
}

func (w *weighing) headers() []string {
	names := make([]string, 0, len(w.names))
	for _, name := range w.names {
		names = append(names, spelled(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (w *weighing) unanswered() []*messages.Challenge {
	var out []*messages.Challenge
	for _, c := range w.asked {
		if !holdsRealm(w.answered, c) && !holdsRealm(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// holdsRealm tells whether one of the challenges is of the space and realm of
// c: 401 and 407 are separate spaces even when their realms are equal (RFC 3261
// §22.2, §22.3).
func holdsRealm(list []*messages.Challenge, c *messages.Challenge) bool {
	return slices.ContainsFunc(list, func(x *messages.Challenge) bool {
		return x.GetSpace() == c.GetSpace() && x.GetRealm() == c.GetRealm()
	})
}
