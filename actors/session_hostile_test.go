package actors

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// TestS01_TheAckOfADialogThatLeavesHomeCarriesNoCredentials: the far end's
// Contact is where the ACK goes when no proxy recorded a route.
func TestS01_TheAckOfADialogThatLeavesHomeCarriesNoCredentials(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				if !hasCredentials(c.q, "Proxy-Authorization", "example.test") {
					c.reply(407, challenging(messages.Space_PROXY, "example.test", "n1"))
					return
				}
				c.reply(200, withBody(answerSDP), func(r *messages.SIPResponse) { r.Dialog.RouteSet = nil })
			}
		})
		w.call(nil)
		time.Sleep(time.Second)
		a := w.ua.all("ACK")[0]
		if a.NextHop != farTarget {
			w.t.Fatalf("ACK to %s", a.NextHop)
		}
		if len(a.Mutations) != 0 {
			w.t.Errorf("the ACK takes a digest response to %s", a.NextHop)
		}
	})
}

// TestS01_AContactWithMaddrTeachesNoTarget: the request goes to the maddr, whoever
// answers it there is not the registrar.
func TestS01_AContactWithMaddrTeachesNoTarget(t *testing.T) {
	const evil = "198.51.100.66:5060"
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(200, withBody(answerSDP), func(r *messages.SIPResponse) {
					r.Dialog.RouteSet, r.Dialog.Target = nil, "sip:bob@192.0.2.1:5060;maddr=198.51.100.66"
				})
			}
			u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
				return reply(200, from(evil))
			}
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		// What the far end answers to our first request in the dialog.
		if _, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"}); err != nil {
			w.t.Fatal(err)
		}
		r, _ := w.farm.registrar("r")
		for _, at := range w.farm.targets.of(r.config) {
			if at == evil {
				w.t.Errorf("%s counts as the registrar", at)
			}
		}
		// From now on it may be anybody's peer, and challenge.
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(200, withBody(answerSDP), func(r *messages.SIPResponse) {
					r.Dialog.RouteSet, r.Dialog.Target = nil, "sip:bob@"+evil
				})
			}
			u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
				if q.Method == "INFO" && len(q.Mutations) == 0 {
					return reply(407, from(evil), challenging(messages.Space_PROXY, "example.test", "attacker"))
				}
				return reply(200, from(evil))
			}
		})
		id = w.call(nil)
		time.Sleep(time.Second)
		_, _ = w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"})
		for _, q := range w.ua.all("INFO") {
			if hasCredentials(q, "Proxy-Authorization", "example.test") {
				w.t.Errorf("a digest response over the attacker's nonce goes to %s", q.NextHop)
			}
		}
	})
}

// TestINV02_AForkThatAnswersAfterTheCall: for 64*T1 every 2xx is acknowledged
// and its dialog ended (RFC 3261 §13.2.2.4), also when the call was short.
func TestINV02_AForkThatAnswersAfterTheCall(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(200, withBody(answerSDP))
				time.Sleep(3 * time.Second)
				c.reply(200, withBody(answerSDP), withTag("fork"))
			}
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		w.wantMethods("INVITE", "ACK", "BYE", "ACK", "BYE")
	})
}

// TestAByeThatCouldNotBeRecorded still ends the session: the peer, which got a
// final response, is gone.
func TestAByeThatCouldNotBeRecorded(t *testing.T) {
	calls(t, Registrar{Sessions: SessionLimits{Expires: -1}}, nil, func(w *world) {
		owner := &fakeOwner{}
		id := w.call(owner)
		time.Sleep(time.Second)
		bye := w.inside(id, "BYE", 1)
		w.journal.fail(fmt.Errorf("%w: disk full", ErrStoreFailed))
		in := w.arrives(bye)
		time.Sleep(time.Second)
		w.journal.fail(nil)
		time.Sleep(24 * time.Hour)
		w.t.Logf("the BYE was answered %v", in.statuses())
		w.wantSession(id, "ended", messages.ReasonRemoteHangup)
	})
}

// TestTheOwnerOfACallThatCouldNotBeRecordedIsTold that it is over.
func TestTheOwnerOfACallThatCouldNotBeRecordedIsTold(t *testing.T) {
	owner := &fakeOwner{}
	takenBy(t, owner, func(w *world, call func() IncomingCall) {
		w.journal.fail(fmt.Errorf("%w: disk full", ErrStoreFailed))
		in := w.arrives(inviteTo("p0"))
		time.Sleep(time.Second)
		w.journal.fail(nil)
		time.Sleep(time.Minute)
		w.t.Logf("the INVITE was answered %v", in.statuses())
		wantTold(w.t, owner, "ended")
	})
}

// TestNoInviteBeforeTheAckOfOurs: RFC 3261 §14.1, an INVITE server
// transaction that is not confirmed is ongoing.
func TestNoInviteBeforeTheAckOfOurs(t *testing.T) {
	owner := &fakeOwner{}
	takenBy(t, owner, func(w *world, call func() IncomingCall) {
		in := w.arrives(inviteTo("p0"))
		id := call().Session
		if err := w.farm.ReplyInSession(w.t.Context(), id, SessionReply{Method: "INVITE", CSeq: 7, Status: 200, Body: []byte(answerSDP)}); err != nil {
			w.t.Fatal(err)
		}
		go func() {
			_, _ = w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INVITE", Body: []byte(offerSDP)})
		}()
		time.Sleep(time.Second)
		w.wantMethods()
		in.final().Acked(w.inside(id, "ACK", 7))
	})
}

// TestNoTransactionOutlivesItsSession: an INVITE that rings has no timer of its
// own in the adapter, so whoever forgets it has to cancel it.
func TestNoTransactionOutlivesItsSession(t *testing.T) {
	for name, end := range map[string]func(w *world, id string){
		"the peer hangs up": func(w *world, id string) { w.arrives(w.inside(id, "BYE", 1)) },
		"we hang up": func(w *world, id string) {
			if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
				w.t.Error(err)
			}
		},
		"the guard": func(*world, string) { time.Sleep(5 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			calls(t, Registrar{}, nil, func(w *world) {
				w.ua.script(func(u *fakeUA) {
					u.invited = func(c *fakeCall) {
						if c.q.ToTag != "" {
							c.reply(100) // and nothing more, ever
							return
						}
						c.reply(200, withBody(answerSDP))
					}
				})
				id := w.call(nil)
				time.Sleep(time.Second)
				go func() {
					_, _ = w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INVITE", Body: []byte(offerSDP)})
				}()
				time.Sleep(time.Second)
				end(w, id)
				time.Sleep(5 * time.Minute)
				if _, running := w.farm.session(id); running {
					w.t.Fatal("the session goes on")
				}
				w.ua.mu.Lock()
				defer w.ua.mu.Unlock()
				for _, c := range w.ua.calls {
					if c.q.ToTag != "" && !c.over && !c.wants {
						w.t.Error("the re-INVITE is open for ever")
					}
				}
			})
		})
	}
}
