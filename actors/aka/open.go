package aka

import (
	"slices"

	"github.com/sipmuster/muster/messages"
)

// maxOpen bounds the vectors that are remembered of one USIM; the oldest are
// forgotten first, which costs a resynchronisation.
const maxOpen = 16

// Open is the memory of the chains of requests that are under way: which
// accepted vectors may be used once more (see the package comment). It is a
// value and is secret; the zero value remembers nothing.
type Open struct{ used []used }

// used is a vector that a request of a chain was answered with.
type used struct {
	chain  chain
	space  messages.Space
	realm  string
	nonce  string
	count  uint32
	vector Vector
}

// chain tells one sequence of challenged requests from another. A profile has
// one registration chain at a time, and each session one.
type chain struct {
	profile, session string
	purpose          messages.Purpose
}

func chainOf(q *messages.AuthChallenge) chain {
	return chain{q.GetProfileId(), q.GetSessionId(), q.GetPurpose()}
}

// goesOn tells whether a question is not the first of its chain: a later round,
// or the first round's request repeated for another reason (423, a redirect),
// which is asked about without a status.
func goesOn(q *messages.AuthChallenge) bool {
	return q.GetRound() > 1 || q.GetRound() == 1 && q.GetStatusCode() == 0
}

// asked forgets what an earlier chain used once another one begins.
func (o Open) asked(q *messages.AuthChallenge) Open {
	if goesOn(q) || len(o.used) == 0 {
		return o
	}
	c := chainOf(q)
	return Open{slices.DeleteFunc(slices.Clone(o.used), func(u used) bool { return u.chain == c })}
}

// with remembers an accepted vector.
func (o Open) with(q *messages.AuthChallenge, ch choice, count uint32, v Vector) Open {
	kept := slices.Clone(o.used)
	if n := len(kept) - maxOpen + 1; n > 0 {
		kept = slices.Delete(kept, 0, n)
	}
	return Open{append(kept, used{
		chainOf(q), ch.challenge.GetSpace(), ch.challenge.GetRealm(), ch.rawNonce(), count, v,
	})}
}

// reuse returns the vector of a nonce that this chain has answered before, for
// a higher count than before.
func (o *Open) reuse(q *messages.AuthChallenge, ch choice, count uint32) (Vector, bool) {
	if !goesOn(q) {
		return Vector{}, false
	}
	i := slices.IndexFunc(o.used, func(u used) bool {
		return u.chain == chainOf(q) && u.space == ch.challenge.GetSpace() &&
			u.realm == ch.challenge.GetRealm() && u.nonce == ch.rawNonce() && count > u.count
	})
	if i < 0 {
		return Vector{}, false
	}
	o.used = slices.Clone(o.used)
	o.used[i].count = count
	return o.used[i].vector, true
}
