package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// TestSessionsUnderFaults: calls in both directions while the store fails, actors
// panic, the node is killed and far ends do what they like. Afterwards nothing is
// stuck or left behind, and no CSeq number was used twice.
func TestSessionsUnderFaults(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { underFaults(t, rand.New(rand.NewPCG(seed, 4))) })
		})
	}
}

func underFaults(t *testing.T, random *rand.Rand) {
	var mu sync.Mutex
	chance := func(p float64) bool { mu.Lock(); defer mu.Unlock(); return random.Float64() < p }
	wait := func(most time.Duration) { mu.Lock(); d := rand.N(most); mu.Unlock(); time.Sleep(d) }

	w := newWorld(t, Registrar{Name: "r", URI: "sip:192.0.2.1", Rate: 50, SessionHandler: "tokens>digest"})
	w.xsps = []XSP{{Name: "tokens", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		wait(4 * time.Second)
		if chance(0.3) {
			return nil, &xsp.Refusal{Reason: "no"}
		}
		return solve(q), nil
	})}}
	w.onInvite = func(c IncomingCall) Owner {
		return &fakeOwner{on: func(n SessionNotice) {
			if n.Request == nil || n.Request.Method != "INVITE" || chance(0.2) {
				return
			}
			go func() {
				wait(3 * time.Second)
				status := 200
				if chance(0.3) {
					status = 486
				}
				_ = w.running().ReplyInSession(w.t.Context(), c.Session, SessionReply{Method: "INVITE", CSeq: n.Request.CSeq, Status: status, Body: []byte(answerSDP)})
			}()
		}}
	}
	w.ua.script(func(u *fakeUA) {
		u.invited = func(c *fakeCall) {
			wait(time.Second)
			switch {
			case chance(0.05):
				c.fail(messages.ReasonTimeout)
				return
			case chance(0.5) && !hasCredentials(c.q, "Proxy-Authorization", "example.test"):
				c.reply(180, withTag("early"))
				c.reply(407, challenging(messages.Space_PROXY, "example.test", "n-"+c.q.Branch))
				return
			}
			c.reply(180)
			select {
			case <-c.wanted:
				if chance(0.7) {
					c.reply(487)
					return
				}
			case <-time.After(time.Duration(1+len(c.q.Branch)%3) * time.Second):
			}
			if chance(0.1) {
				c.reply(503)
				return
			}
			for wait := 500 * time.Millisecond; wait < 32*time.Second; wait *= 2 {
				c.reply(200, withBody(answerSDP))
				if time.Sleep(wait); u.acked(c.q) {
					break
				}
			}
		}
		u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
			wait(2 * time.Second)
			switch {
			case chance(0.1):
				return nil
			case chance(0.3) && !hasCredentials(q, "Proxy-Authorization", "example.test"):
				return reply(407, challenging(messages.Space_PROXY, "example.test", fmt.Sprintf("n-%s-%d", q.CallID, q.CSeq)))
			}
			return reply(200)
		}
	})
	w.start()
	w.declare(4)
	time.Sleep(10 * time.Second)
	for i := range 60 {
		wait(2 * time.Second)
		switch {
		case chance(0.4):
			_, _ = w.farm.StartSession(t.Context(), SessionRequest{
				Profile: fmt.Sprintf("p%d", i%4), Target: "sip:bob@example.test", Body: []byte(offerSDP), HangupAfter: 30 * time.Second,
			})
		case chance(0.3):
			in := inviteTo(fmt.Sprintf("p%d", i%4))
			in.CallID = fmt.Sprint("in-", i)
			arrived := w.arrives(in)
			go func() {
				wait(4 * time.Second)
				if r := arrived.last(); r.Acked != nil && chance(0.8) {
					r.Acked(nil)
				} else if r.Acked != nil {
					r.Acked(&messages.SIPInbound{Method: "ACK", CSeq: in.CSeq})
				} else if r.Status < 200 {
					cancel := *in
					cancel.Method, cancel.Respond = "CANCEL", nil
					w.running().Inbound(&cancel)
				}
			}()
		case chance(0.3):
			page, _ := w.farm.Sessions(t.Context(), SessionQuery{})
			for _, s := range page.Sessions {
				if chance(0.5) {
					go func() { _, _ = w.running().EndSession(w.t.Context(), s.ID) }()
				} else if chance(0.5) {
					go func() {
						_, _ = w.running().SendInSession(w.t.Context(), s.ID, InDialog{Method: "INFO", ContentType: "a/b", Body: []byte("x")})
					}()
				}
			}
		case chance(0.3):
			w.journal.fail(fmt.Errorf("%w: for a while", ErrStoreFailed))
			wait(3 * time.Second)
			w.journal.fail(nil)
		case chance(0.3):
			page, _ := w.farm.Sessions(t.Context(), SessionQuery{})
			for _, s := range page.Sessions {
				w.journal.plant(sessionStream(s.ID))
				wait(time.Second)
			}
			w.journal.plant("")
		case chance(0.3):
			w.kill()
			w.start()
		}
	}
	time.Sleep(5 * time.Minute)
	page, err := w.farm.Sessions(t.Context(), SessionQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range page.Sessions { // inbound ones have no end of their own
		if s.State != "established" || s.Direction != "inbound" {
			t.Errorf("%s is still %s:\n%s", s.ID, s.State, w.story(s.ID))
		}
		if _, err := w.farm.EndSession(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(5 * time.Minute)
	w.wantStates(map[string]int{StateRegistered: 4})
	left := 0
	w.farm.live.Range(func(any, any) bool { left++; return true })
	w.farm.early.Range(func(any, any) bool { left++; return true })
	if left+len(w.farm.counts.profile)+w.bodies.count() != 0 {
		t.Errorf("left behind: %d sessions or calls, counts %v, %d descriptions", left, w.farm.counts.profile, w.bodies.count())
	}
	w.wantGateIdle()
	w.ua.check(t)
	w.stop()
}

// last is the latest answer to a request.
func (a *arrived) last() (r messages.SIPReply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.replies) > 0 {
		r = a.replies[len(a.replies)-1]
	}
	return r
}

// acked tells whether the 2xx to an INVITE was acknowledged.
func (u *fakeUA) acked(invite *messages.SIPRequest) bool {
	for _, ack := range u.all("ACK") {
		if ack.CallID == invite.CallID && ack.CSeq == invite.CSeq {
			return true
		}
	}
	return false
}

// check looks at all that has come: no number twice, no retry with another
// identity, no body without its type.
func (u *fakeUA) check(t *testing.T) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	last := map[string]uint32{}
	ended := map[string]bool{}
	for _, q := range u.sent {
		key := q.CallID + " " + q.FromTag
		switch {
		case q.Method == "ACK", q.Method == "CANCEL":
			continue
		case q.CSeq <= last[key]:
			t.Errorf("%s %d of %s after %d", q.Method, q.CSeq, key, last[key])
		case !strings.HasPrefix(q.From, "sip:") || q.FromTag == "" || len(q.Body) > 0 && q.ContentType == "":
			t.Errorf("malformed %+v", q)
		case ended[key] && q.Method != "BYE":
			t.Errorf("%s of %s after its BYE", q.Method, key)
		}
		last[key], ended[key] = q.CSeq, ended[key] || q.Method == "BYE"
	}
}
