package actors

import (
	"sync"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// nonces remembers the latest nonce of each target. One that goes to profile
// after profile lets whoever chose it prepare for all of them at once (RFC 7616
// §5.11), so it is counted (S-08). Some registrars make nonces from the time
// alone: a count by itself is no attack.
type nonces struct {
	mu     sync.Mutex
	latest map[string]givenNonce
}

type givenNonce struct{ nonce, profile string }

// note tells whether a challenge's first nonce was the latest one of another
// profile.
func (n *nonces) note(registrar, profile string, e *messages.ChallengeReceived) bool {
	given := givenNonce{profile: profile}
	for _, c := range e.GetChallenges() {
		if given.nonce = challenge.NonceOf(c.GetRaw()); given.nonce != "" {
			break
		}
	}
	if given.nonce == "" {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.latest == nil {
		n.latest = map[string]givenNonce{}
	}
	before := n.latest[registrar]
	n.latest[registrar] = given
	return before.nonce == given.nonce && before.profile != profile
}
