//go:build interop

package interop

import (
	"context"
	"fmt"
	"strings"
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
	calls    int
	// requests are those of the node, in order.
	requests string
	play     func(ctx context.Context, i int, s *muster.Session) error
	// target is the user part that call i calls; nil calls bob.
	target    func(i int) string
	onRequest func(*muster.PeerRequest)
	// handler answers the challenges; empty is the DigestActor.
	handler  string
	patience time.Duration
}

func (c sippCourse) String() string { return c.scenario }

const (
	onceChallenged  = "INVITE ACK INVITE ACK"
	twiceChallenged = onceChallenged + " INVITE ACK"
)

func (n *callNode) courses() []sippCourse {
	return []sippCourse{
		{scenario: "401", calls: 20, requests: onceChallenged + " BYE", play: talk},                                // CHA-01
		{scenario: "407_401", calls: 20, requests: twiceChallenged + " BYE", play: talk},                           // CHA-01 CHA-06
		{scenario: "180_407", calls: 20, requests: onceChallenged + " BYE", play: talk},                            // INV-04
		{scenario: "both", calls: 20, requests: onceChallenged + " BYE", play: talk},                               // CHA-01
		{scenario: "proxies", calls: 20, requests: twiceChallenged + " INVITE ACK BYE", play: talk},                // CHA-06
		{scenario: "fork", calls: 20, requests: onceChallenged + " ACK BYE BYE", play: n.talkForked},               // INV-02
		{scenario: "cancel_early", calls: 10, requests: "INVITE CANCEL ACK", play: n.giveUpEarly},                  // CAN-01
		{scenario: "cancel_ringing", calls: 20, requests: "INVITE ACK INVITE CANCEL ACK", play: giveUpRinging},     // CAN-01
		{scenario: "cancel_crosses", calls: 20, requests: "INVITE ACK INVITE CANCEL ACK BYE", play: giveUpRinging}, // CAN-03
		{scenario: "cancel_challenged", calls: 5, requests: "INVITE ACK", play: giveUpChallenged, handler: "slow"}, // CAN-02
		{scenario: "422", calls: 10, requests: twiceChallenged + " BYE", play: talk},                               // TMR-02
		{scenario: "302", calls: 10, requests: twiceChallenged + " BYE", play: talk},
		{scenario: "bye", calls: 20, requests: onceChallenged, play: hungUpOn},
		{scenario: "reinvite", calls: 20, requests: "INVITE ACK BYE", play: n.answered, onRequest: answerPeer},
		{scenario: "glare", calls: 5, requests: twiceChallenged + " BYE", play: glare},                     // DLG-14 DLG-15
		{scenario: "prack", calls: 20, requests: "INVITE ACK INVITE PRACK PRACK ACK BYE", play: talkEarly}, // PRK-01 PRK-02
		{scenario: "timer_theirs", calls: 10, requests: "INVITE ACK BYE", play: n.refreshedByPeer},         // TMR-03
		{ // TMR-03 TMR-04
			scenario: "timer_ours", calls: 3, requests: "INVITE ACK UPDATE UPDATE BYE", play: n.refreshed, patience: 65 * time.Second,
		},
		{ // DLG-10 DLG-12
			scenario: "in_dialog", calls: 20, play: inDialog,
			requests: onceChallenged + " " + onceChallenged + " UPDATE UPDATE INFO INFO MESSAGE MESSAGE REFER REFER BYE BYE",
		},
		{
			scenario: "refused", calls: 30, requests: onceChallenged, play: refusedCall,
			target: func(i int) string { return []string{"busy", "decline", "overload"}[i%3] },
		},
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
		wantCalls(t, wantWire(t, s, judgement{}), c.calls, c.requests)
	})
	n.wantQuiet()
}

// wantCalls checks how many calls there were, which requests each had, and that
// the body and the header of the caller were on the wire as he gave them.
func wantCalls(t *testing.T, calls []*wireCall, count int, requests string) {
	t.Helper()
	if len(calls) != count {
		t.Errorf("SIPp saw %d calls, want %d", len(calls), count)
	}
	for _, call := range calls {
		wantOffered(t, call)
		if got := call.sequence(); got != requests {
			t.Errorf("%s: the requests were %s, want %s", call.id, got, requests)
		}
	}
}

// wantOffered checks the INVITEs outside the dialog.
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
