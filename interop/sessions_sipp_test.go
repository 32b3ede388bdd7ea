//go:build interop

package interop

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// sippCourse is a scenario of testdata/sipp and what a node has to do in it.
// Beside what SIPp checks, every message that it saw is judged (wire_test.go).
type sippCourse struct {
	scenario string
	// holds are the rows of docs/rfc.yaml that it holds, beside those of the
	// judge.
	holds string
	calls int
	// target is the user part that call i calls; nil calls bob.
	target    func(i int) string
	play      func(ctx context.Context, i int, s *muster.Session) error
	onRequest func(*muster.PeerRequest)
	// handler answers the challenges; empty is the DigestActor.
	handler  string
	patience time.Duration
	judge    judgement
	wire     func(t *testing.T, calls []*wireCall)
}

func (c sippCourse) String() string { return c.scenario }

func (n *callNode) courses() []sippCourse {
	return []sippCourse{
		{scenario: "401", holds: "CHA-01", calls: 20, play: talk},
		{scenario: "407_401", holds: "CHA-01 CHA-06", calls: 20, play: talk},
		{scenario: "180_407", holds: "INV-04", calls: 20, play: talk},
		{scenario: "both", holds: "CHA-01", calls: 20, play: talk},
		{scenario: "proxies", holds: "CHA-06", calls: 20, play: talk},
		{scenario: "fork", holds: "INV-02", calls: 20, play: n.talkForked},
		{scenario: "in_dialog", holds: "DLG-10 DLG-12", calls: 20, play: inDialog},
		{scenario: "cancel_early", holds: "CAN-01", calls: 10, play: n.giveUpEarly},
		{scenario: "cancel_ringing", holds: "CAN-01", calls: 20, play: giveUpRinging},
		{scenario: "cancel_crosses", holds: "CAN-03", calls: 20, play: giveUpRinging},
		{scenario: "cancel_challenged", holds: "CAN-02", calls: 5, handler: "slow", play: giveUpChallenged},
		{scenario: "422", holds: "TMR-02", calls: 10, play: talk},
		{scenario: "302", calls: 10, play: talk},
		{scenario: "refused", calls: 30, target: func(i int) string { return []string{"busy", "decline", "overload"}[i%3] }, play: refusedCall},
		{scenario: "bye", calls: 20, play: hungUpOn},
		{scenario: "reinvite", calls: 20, play: n.answered, onRequest: answerPeer},
		{scenario: "glare", holds: "DLG-14 DLG-15", calls: 5, play: glare},
		{scenario: "prack", holds: "PRK-01 PRK-02", calls: 20, play: talkEarly},
		{scenario: "timer_ours", holds: "TMR-03 TMR-04", calls: 3, play: n.refreshed, patience: 65 * time.Second},
		{scenario: "timer_theirs", holds: "TMR-03", calls: 10, play: n.refreshedByPeer},
	}
}

// TestSessionsAgainstSIPp: each scenario of a challenged call, with SIPp as the
// far end and one node for all. INV-01 INV-02 INV-04 CAN-01 CAN-02 CAN-03 DLG-01
// DLG-10 DLG-12 DLG-14 DLG-15 TMR-01 TMR-02 TMR-03 TMR-04 PRK-01 PRK-02 CHA-01
// CHA-02 CHA-03 CHA-05 CHA-06 CHA-07 TRX-04 TRX-05
func TestSessionsAgainstSIPp(t *testing.T) {
	t.Parallel()
	var n *callNode
	courses := n.courses()
	far := map[string]*SIPp{}
	var d muster.Desired
	for _, c := range courses {
		far[c.scenario] = sippFor(t, SIPpOptions{Scenario: c.scenario, Calls: c.calls, Limit: 90 * time.Second, Patience: c.patience})
		registrar := farEnd(c.scenario, far[c.scenario].Addr())
		registrar.SessionHandler = c.handler
		d.Registrars = append(d.Registrars, registrar)
		d.Profiles = append(d.Profiles, callers(2, c.scenario+"-", c.scenario)...)
	}
	d.XSPs = []actors.XSP{{Name: "slow", Authenticator: slow}}
	n = newCallNode(t, muster.Options{Desired: d})
	together(t, sippCourse.String, n.courses(), func(t *testing.T, c sippCourse) {
		n := &callNode{t, n.Node}
		s := far[c.scenario]
		n.run(campaign{count: c.calls, rate: 20, limit: 70 * time.Second, play: c.play, call: func(i int) muster.Call {
			user := "bob"
			if c.target != nil {
				user = c.target(i)
			}
			return muster.Call{
				Profile: fmt.Sprintf("%s-%d", c.scenario, i%2), Target: "sip:" + user + "@" + s.Addr(), Body: offer(i),
				Headers: []messages.Header{{Name: "Subject", Value: fmt.Sprint("call ", i)}}, OnRequest: c.onRequest,
			}
		}})
		wantDone(t, s, c.calls)
		calls := wantWire(t, s, c.judge)
		if len(calls) != c.calls {
			t.Errorf("SIPp saw %d calls, want %d", len(calls), c.calls)
		}
		for _, call := range calls {
			wantOffered(t, call)
		}
		if c.wire != nil {
			c.wire(t, calls)
		}
	})
	n.wantQuiet()
}

// wantOffered checks the body and the header of the caller on the wire.
func wantOffered(t *testing.T, call *wireCall) {
	t.Helper()
	for _, invite := range call.of("INVITE") {
		if invite.toTag != "" {
			continue
		}
		var i int
		if _, err := fmt.Sscanf(invite.header("subject"), "call %d", &i); err != nil || invite.body != string(offer(i)) {
			t.Errorf("the offer of %q arrived as %q", invite.header("subject"), invite.body)
		}
	}
}

// talkForked: the second 200 makes a dialog that is ended while the first
// lives.
func (n *callNode) talkForked(ctx context.Context, _ int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	if err := n.recorded(ctx, s, "ForkAnswered", 1); err != nil {
		return err
	}
	if err := n.recorded(ctx, s, "RequestSucceeded", 1); err != nil { // its BYE
		return err
	}
	return hangUp(ctx, s)
}

// recorded waits until the journal has so many events of a type.
func (n *callNode) recorded(ctx context.Context, s *muster.Session, eventType string, count int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		entries, err := n.SessionHistory(ctx, s.ID(), 0, 1000)
		if err != nil {
			return fmt.Errorf("waiting for %d %s: %w", count, eventType, err)
		}
		found := 0
		for _, e := range entries {
			if e.Type == eventType {
				found++
			}
		}
		if found >= count {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d %s: %w", found, count, eventType, ctx.Err())
		case <-tick.C:
		}
	}
}

// inDialog changes the session in every way there is; all of it is challenged.
func inDialog(ctx context.Context, i int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	for _, step := range []struct {
		request actors.InDialog
		want    int
	}{
		{actors.InDialog{Method: "INVITE", ContentType: "application/sdp", Body: offer(i)}, 200},
		{actors.InDialog{Method: "UPDATE", ContentType: "application/sdp", Body: offer(i)}, 200},
		{actors.InDialog{Method: "INFO", ContentType: "application/x-signal", Body: []byte("\r\n1")}, 200},
		{actors.InDialog{Method: "MESSAGE", ContentType: "text/plain", Body: []byte("hello")}, 200},
		{actors.InDialog{Method: "REFER", Headers: []messages.Header{{Name: "Refer-To", Value: "<sip:carol@example.test>"}}}, 202},
	} {
		got, err := s.Request(ctx, step.request)
		if err != nil || got.Status != step.want {
			return fmt.Errorf("%s: %+v, %w; want %d", step.request.Method, got, err, step.want)
		}
	}
	return hangUp(ctx, s)
}

// giveUpEarly ends a call once its INVITE has left and before anything came.
func (n *callNode) giveUpEarly(ctx context.Context, _ int, s *muster.Session) error {
	if err := n.recorded(ctx, s, "RequestStarted", 1); err != nil {
		return err
	}
	return hangUp(ctx, s)
}

func giveUpRinging(ctx context.Context, _ int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeProgress); err != nil {
		return err
	}
	return hangUp(ctx, s)
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

// talkEarly gets its answer in a reliable 183, and a 200 without one.
func talkEarly(ctx context.Context, _ int, s *muster.Session) error {
	e, err := next(ctx, s, session.NoticeProgress)
	if err != nil {
		return err
	}
	if e.Response.Status != 183 || len(e.Response.Dialog.Body) == 0 {
		return fmt.Errorf("progress is %d with %d bytes", e.Response.Status, len(e.Response.Dialog.Body))
	}
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	return hangUp(ctx, s)
}

// refusedCall expects what its target says.
func refusedCall(ctx context.Context, i int, s *muster.Session) error {
	want := []int{486, 603, 503}[i%3]
	e, err := next(ctx, s, session.NoticeEnded)
	if err != nil {
		return err
	}
	if e.Status != want || e.Reason == "" || e.Reason == messages.ReasonHangup {
		return fmt.Errorf("the call ended with %d (%s), want %d", e.Status, e.Reason, want)
	}
	return nil
}

func hungUpOn(ctx context.Context, _ int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	return wantEnded(ctx, s, messages.ReasonRemoteHangup)
}

// answerPeer takes what the far end asks inside the dialog.
func answerPeer(r *muster.PeerRequest) {
	reply := actors.SessionReply{Status: 200}
	if r.Method == "INVITE" {
		reply.ContentType, reply.Body = "application/sdp", []byte("v=0\r\ns=answered by the owner\r\n")
		if !strings.Contains(string(r.Dialog.Body), "s=far end\r\n") {
			reply.Status = 488
		}
	}
	_ = r.Respond(context.Background(), reply)
}

// answered waits until the far end has asked and hangs up.
func (n *callNode) answered(ctx context.Context, _ int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	if err := n.recorded(ctx, s, "PeerRequestAnswered", 2); err != nil {
		return err
	}
	return hangUp(ctx, s)
}

func glare(ctx context.Context, i int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	if got, err := s.Reinvite(ctx, "application/sdp", offer(i)); err != nil || got.Status != 200 {
		return fmt.Errorf("re-INVITE: %+v, %w", got, err)
	}
	return hangUp(ctx, s)
}

// refreshed waits for our refresh after 45 s: an UPDATE, challenged, and again.
func (n *callNode) refreshed(ctx context.Context, _ int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	v, err := s.View(ctx)
	if err != nil || v.Timer == nil || v.Timer.IntervalSeconds != 90 || v.Timer.Refresher != "us" {
		return fmt.Errorf("the session timer is %+v, %w", v.Timer, err)
	}
	if err := n.recorded(ctx, s, "RequestSucceeded", 1); err != nil {
		return err
	}
	return hangUp(ctx, s)
}

// refreshedByPeer waits for two refreshes of the far end, which the node answers
// by itself.
func (n *callNode) refreshedByPeer(ctx context.Context, _ int, s *muster.Session) error {
	if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
		return err
	}
	if err := n.recorded(ctx, s, "PeerRequestAnswered", 2); err != nil {
		return err
	}
	v, err := s.View(ctx)
	if err != nil || v.Timer == nil || v.Timer.IntervalSeconds != 90 || v.Timer.Refresher != "peer" {
		return fmt.Errorf("the session timer is %+v, %w", v.Timer, err)
	}
	return hangUp(ctx, s)
}

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
	calls := wantWire(n.t, far, judgement{})
	if len(calls) != count {
		n.t.Errorf("SIPp saw %d calls, want %d", len(calls), count)
	}
	for _, call := range calls {
		wantOffered(n.t, call)
		if invites := len(call.of("INVITE")); invites != 2 {
			n.t.Errorf("%s: %d INVITEs, want 2", call.id, invites)
		}
	}
	n.wantQuiet()
	if got := n.metric("muster_session_outcomes_total", map[string]string{"outcome": "answered"}); got != float64(count) {
		n.t.Errorf("muster_session_outcomes_total counts %v answered calls, want %d", got, count)
	}
}
