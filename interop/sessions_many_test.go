//go:build interop

package interop

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// TestThousandCallsThroughA407: 50 a second, through a challenge each. CHA-02
// CHA-03 CHA-05 CHA-07 INV-01 DLG-01 TRX-05
func TestThousandCallsThroughA407(t *testing.T) {
	t.Parallel()
	const calls = 1000
	n, far := newSIPpNode(t, "407", calls, "")
	n.manyCalls(far, calls)
}

// TestXSPAnswersForCalls: the same, and the node does not know the passwords.
func TestXSPAnswersForCalls(t *testing.T) {
	t.Parallel()
	const calls = 200
	n, far := newSIPpNode(t, "407", calls, "own")
	n.manyCalls(far, calls)
	if got := n.metric("muster_challenges_total", map[string]string{"handler": "own", "outcome": "answered"}); got < calls {
		t.Errorf("the xSP has answered %v challenges, want %d", got, calls)
	}
	if got := n.metric("muster_challenges_total", map[string]string{"handler": "digest"}); got != 0 {
		t.Errorf("the DigestActor was asked %v times", got)
	}
}

// ownProcedure is an xSP as a Go function.
type ownProcedure struct{}

// Answer implements xsp.Authenticator.
func (ownProcedure) Answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	return answerDigest(q), nil
}

// newSIPpNode is a node with one SIPp as its registrar and far end.
func newSIPpNode(t *testing.T, scenario string, calls int, handler string) (*callNode, *SIPp) {
	t.Helper()
	far := sippFor(t, SIPpOptions{Scenario: scenario, Calls: calls, Limit: 2 * time.Minute})
	registrar := farEnd("far", far.Addr())
	registrar.SessionHandler = handler
	profiles := callers(20, "caller", "far")
	var xsps []actors.XSP
	if handler != "" {
		for i := range profiles {
			profiles[i].Password = messages.Secret{}
		}
		xsps = []actors.XSP{{Name: handler, Authenticator: ownProcedure{}}}
	}
	return newCallNode(t, muster.Options{Desired: muster.Desired{Registrars: []actors.Registrar{registrar}, Profiles: profiles, XSPs: xsps}}), far
}

// manyCalls places calls at 50 a second and judges what SIPp saw.
func (n *callNode) manyCalls(far *SIPp, count int) {
	n.t.Helper()
	n.run(campaign{count: count, rate: 50, play: talk, call: func(i int) muster.Call {
		return muster.Call{
			Profile: fmt.Sprintf("caller%d", i%20), Target: "sip:bob@" + far.Addr(), Body: offer(i),
			Headers: []messages.Header{{Name: "Subject", Value: fmt.Sprint("call ", i)}},
		}
	}})
	wantDone(n.t, far, count)
	wantCalls(n.t, wantWire(n.t, far, judgement{}), count, onceChallenged+" BYE")
	n.wantQuiet()
	if got := n.metric("muster_session_outcomes_total", map[string]string{"outcome": "answered"}); got != float64(count) {
		n.t.Errorf("muster_session_outcomes_total counts %v answered calls, want %d", got, count)
	}
}

// answerDigest answers every challenge of a question with MD5, as an embedder's
// own procedure would.
func answerDigest(q *messages.AuthChallenge) *messages.AuthAnswer {
	a := &messages.AuthAnswer{Ref: q.GetRef()}
	user := messages.UserPart(q.GetAor())
	for _, c := range q.GetChallenges() {
		p := map[string]string{
			"username": user, "realm": c.GetRealm(), "nonce": c.GetParams()["nonce"], "uri": q.GetRequestUri(),
			"qop": "auth", "cnonce": q.GetRef()[:8], "nc": fmt.Sprintf("%08x", c.GetNonceCount()),
		}
		name := "Authorization"
		if c.GetSpace() == messages.Space_PROXY {
			name = "Proxy-Authorization"
		}
		a.Answered = append(a.Answered, c.GetIndex())
		a.Mutations = append(a.Mutations, &messages.HeaderMutation{
			Op: messages.Op_SET, Name: name,
			Value: fmt.Sprintf(`Digest username=%q, realm=%q, nonce=%q, uri=%q, response=%q, algorithm=MD5, cnonce=%q, qop=auth, nc=%s`,
				user, p["realm"], p["nonce"], p["uri"], digestResponse(p, q.GetMethod(), Password(user)), p["cnonce"], p["nc"]),
		})
	}
	return a
}

// slowAnswers is an xSP that answers when it is told to.
type slowAnswers struct {
	mu     sync.Mutex
	asked  map[string]chan struct{} // by session, closed when the question is there
	answer map[string]chan struct{} // closed when the answer may go
}

var slow = &slowAnswers{asked: map[string]chan struct{}{}, answer: map[string]chan struct{}{}}

// of are the two channels of a session.
func (x *slowAnswers) of(id string) (asked, answer chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asked[id] == nil {
		x.asked[id], x.answer[id] = make(chan struct{}), make(chan struct{})
	}
	return x.asked[id], x.answer[id]
}

// Answer implements xsp.Authenticator.
func (x *slowAnswers) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	asked, answer := x.of(q.GetSessionId())
	close(asked)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-answer:
		return answerDigest(q), nil
	}
}

// giveUpChallenged ends a call while its xSP computes an answer, which then
// comes too late.
func giveUpChallenged(ctx context.Context, _ int, s *muster.Session) error {
	asked, answer := slow.of(s.ID())
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-asked:
	}
	defer close(answer)
	return hangUp(ctx, s)
}
