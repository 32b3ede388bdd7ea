package actors

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// calls runs a test in a world with p0, which is registered.
func calls(t *testing.T, config Registrar, prepare func(*world), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		config.Name, config.URI = "r", "sip:192.0.2.1"
		w := newWorld(t, config)
		if prepare != nil {
			prepare(w)
		}
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		test(w)
		w.registrar.check()
		w.stop()
	})
}

// TestCHA02_AChallengedCall: a 407 after a 180, answered; the ACK carries the
// credentials of its INVITE, the BYE the next number.
func TestCHA02_AChallengedCall(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(100)
				if !hasCredentials(c.q, "Proxy-Authorization", "example.test") {
					c.reply(180, withTag("early"))
					c.reply(407, challenging(messages.Space_PROXY, "example.test", "n1"))
					return
				}
				c.reply(180)
				time.Sleep(time.Second)
				c.reply(200, withBody(answerSDP))
			}
		})
		owner := &fakeOwner{}
		id := w.call(owner)
		time.Sleep(5 * time.Second)
		v := w.wantSession(id, "established", "")
		if v.Body != answerSDP || v.Dialog.RemoteTag != "far" || v.Dialog.LocalTag != id {
			w.t.Errorf("view: %+v", v)
		}
		invites, acks := w.ua.all("INVITE"), w.ua.all("ACK")
		w.wantMethods("INVITE", "INVITE", "ACK")
		first, second := invites[0], invites[1]
		if first.CallID != second.CallID || first.FromTag != second.FromTag || second.ToTag != "" ||
			second.CSeq != first.CSeq+1 || string(second.Body) != offerSDP || second.Branch == first.Branch {
			w.t.Errorf("CHA-02, CHA-03, CHA-05: the retry is not the same request with the next number:\n%+v\n%+v", first, second)
		}
		if a := acks[0]; a.CSeq != second.CSeq || !hasSameCredentials(a, second) || a.RequestURI != farTarget ||
			a.NextHop != "sip:192.0.2.1;lr" || a.ToTag != "far" {
			w.t.Errorf("INV-01, CHA-07: ACK %+v", a)
		}
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		v = w.wantSession(id, "ended", messages.ReasonHangup)
		if bye := w.ua.all("BYE")[0]; bye.CSeq != second.CSeq+1 || bye.RequestURI != farTarget || bye.ToTag != "far" {
			w.t.Errorf("DLG-01: BYE %+v", bye)
		}
		if v.EndedAt == nil || w.bodies.count() != 0 {
			w.t.Errorf("ended at %v, %d descriptions kept", v.EndedAt, w.bodies.count())
		}
		wantTold(w.t, owner, "progress", "progress", "established", "ended")
		w.wantGateIdle()
	})
}

// hasSameCredentials compares what two requests carry.
func hasSameCredentials(a, b *messages.SIPRequest) bool {
	if len(a.Mutations) == 0 || len(a.Mutations) != len(b.Mutations) {
		return false
	}
	for i := range a.Mutations {
		if a.Mutations[i].GetValue() != b.Mutations[i].GetValue() {
			return false
		}
	}
	return true
}

// TestCHA01_TwoChallengersAndAnXSP: 401 and 407 in one response, then a 407 of
// another proxy; the last request has the credentials of all three realms.
func TestCHA01_TwoChallengersAndAnXSP(t *testing.T) {
	calls(t, Registrar{SessionHandler: "tokens"}, func(w *world) {
		w.xsps = []XSP{{Name: "tokens", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			if q.GetPurpose() != messages.Purpose_SESSION || q.GetSessionId() == "" || q.GetMethod() != "INVITE" ||
				q.GetRequestUri() != "sip:bob@example.test" {
				w.t.Errorf("question %v", q)
			}
			return solve(q), nil
		})}}
		w.config.Realms = []string{"example.test", "a", "b"}
	}, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				has := func(header, realm string) bool { return hasCredentials(c.q, header, realm) }
				switch {
				case !has("Authorization", "example.test"), !has("Proxy-Authorization", "a"):
					c.reply(401, challenging(messages.Space_ORIGIN, "example.test", "n1"), challenging(messages.Space_PROXY, "a", "n2"))
				case !has("Proxy-Authorization", "b"):
					c.reply(407, challenging(messages.Space_PROXY, "b", "n3"))
				default:
					c.reply(200, withBody(answerSDP))
				}
			}
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		w.wantSession(id, "established", "")
		w.wantMethods("INVITE", "INVITE", "INVITE", "ACK")
		if n := len(w.ua.all("ACK")[0].Mutations); n != 3 {
			w.t.Errorf("CHA-06: the ACK has %d credentials, want 3", n)
		}
		if n := w.observer.asked("tokens", outcomeAnswered); n != 2 {
			w.t.Errorf("the xSP answered %d questions, want 2", n)
		}
	})
}

// TestCAN02_NoRetryLeaves: hung up while an xSP thinks about the challenge, and
// while the answered request waits for the registrar's pace.
func TestCAN02_NoRetryLeaves(t *testing.T) {
	t.Run("asking", func(t *testing.T) {
		calls(t, Registrar{SessionHandler: "slow"}, func(w *world) {
			w.xsps = []XSP{{Name: "slow", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
				time.Sleep(2 * time.Second)
				return solve(q), nil
			})}}
		}, func(w *world) {
			w.ua.script(func(u *fakeUA) {
				u.invited = func(c *fakeCall) { c.reply(407, challenging(messages.Space_PROXY, "example.test", "n")) }
			})
			owner := &fakeOwner{}
			id := w.call(owner)
			time.Sleep(time.Second)
			w.wantSession(id, "challenged", "")
			if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
				w.t.Fatal(err)
			}
			w.wantSession(id, "ended", messages.ReasonHangup)
			time.Sleep(10 * time.Second)
			w.wantMethods("INVITE")
			wantTold(w.t, owner, "ended")
			if n := w.observer.asked("slow", outcomeLate); n != 0 {
				w.t.Errorf("the xSP's actor counted %d late answers, want none: it was in time", n)
			}
			w.wantGateIdle()
		})
	})
	t.Run("waiting for its turn", func(t *testing.T) {
		calls(t, Registrar{Rate: 1}, nil, func(w *world) {
			w.ua.script(func(u *fakeUA) {
				u.invited = func(c *fakeCall) { c.reply(407, challenging(messages.Space_PROXY, "example.test", "n")) }
			})
			id := w.call(nil)
			time.Sleep(300 * time.Millisecond)
			w.wantMethods("INVITE")
			if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
				w.t.Fatal(err)
			}
			w.wantSession(id, "ended", messages.ReasonHangup)
			time.Sleep(time.Minute)
			w.wantMethods("INVITE")
			w.wantGateIdle()
		})
	})
}

// TestCAN01_HungUpWhileItRings: CANCEL, 487, and nothing more.
func TestCAN01_HungUpWhileItRings(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) { u.invited = (*fakeCall).rings })
		owner := &fakeOwner{}
		id := w.call(owner)
		time.Sleep(time.Second)
		w.wantSession(id, "early", "")
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(id, "ended", messages.ReasonHangup)
		w.wantMethods("INVITE", "CANCEL")
		wantTold(w.t, owner, "progress", "ended")
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Errorf("ending it again: %v", err)
		}
		w.wantGateIdle()
	})
}

// TestXSPOneProfileAsksTogether: a registration and two calls of one profile ask
// one xSP at once; their questions wait for each other, and all are answered.
func TestXSPOneProfileAsksTogether(t *testing.T) {
	var most, out atomic.Int32
	calls(t, Registrar{RegistrationHandler: "tokens", SessionHandler: "tokens", Rate: -1}, func(w *world) {
		w.xsps = []XSP{{Name: "tokens", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			most.Store(max(most.Load(), out.Add(1)))
			defer out.Add(-1)
			time.Sleep(500 * time.Millisecond)
			a := solve(q)
			a.Preemptive = false
			return a, nil
		})}}
	}, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				if !hasCredentials(c.q, "Proxy-Authorization", "example.test") {
					c.reply(407, challenging(messages.Space_PROXY, "example.test", "n-"+c.q.CallID))
					return
				}
				c.reply(200, withBody(answerSDP))
			}
		})
		before := w.observer.asked("tokens", outcomeAnswered)
		if _, err := w.farm.Do(w.t.Context(), "p0", profile.Refresh{}); err != nil {
			w.t.Fatal(err)
		}
		ids := []string{w.call(nil), w.call(nil)}
		time.Sleep(2 * time.Second)
		for _, id := range ids {
			w.wantSession(id, "established", "")
		}
		w.wantStates(map[string]int{StateRegistered: 1})
		if n := w.observer.asked("tokens", outcomeAnswered) - before; n != 3 || most.Load() != 1 {
			w.t.Errorf("%d answers, at most %d at once; want 3, one at a time", n, most.Load())
		}
	})
}

// TestS01_TheFarEndsChallengeGetsNothing: a BYE that goes straight to the far
// end is challenged with the registrar's realm.
func TestS01_TheFarEndsChallengeGetsNothing(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(200, withBody(answerSDP), func(r *messages.SIPResponse) { r.Dialog.RouteSet = nil })
			}
			u.asked = func(*messages.SIPRequest) *messages.SIPResponse {
				return reply(401, challenging(messages.Space_ORIGIN, "example.test", "n"), from("198.51.100.9:5062"))
			}
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(id, "ended", messages.ReasonHangup)
		w.wantMethods("INVITE", "ACK", "BYE")
		if w.observer.refused() != 1 || w.observer.asked("digest", outcomeAnswered) != 1 {
			w.t.Errorf("%d challenges withheld, %d answered; want 1 and the registration's", w.observer.refused(), w.observer.asked("digest", outcomeAnswered))
		}
	})
}

// TestDLG10_InsideTheDialog: a re-INVITE through a challenge, with its outcome;
// a second one meanwhile is refused at once; an INFO with its body.
func TestDLG10_InsideTheDialog(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		id := w.call(nil)
		time.Sleep(time.Second)
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				if !hasCredentials(c.q, "Proxy-Authorization", "example.test") {
					c.reply(407, challenging(messages.Space_PROXY, "example.test", "n"))
					return
				}
				time.Sleep(time.Second)
				c.reply(200, withBody("v=0 other canary-sdp"))
			}
		})
		results := make(chan InDialogResult, 1)
		go func() {
			r, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INVITE", Body: []byte("v=0 new canary-sdp")})
			if err != nil {
				w.t.Error(err)
			}
			results <- r
		}()
		synctest.Wait()
		if _, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INVITE", Body: []byte("v=0")}); !errors.Is(err, ErrSessionState) {
			w.t.Errorf("DLG-13: a second re-INVITE: %v", err)
		}
		if r := <-results; r.Status != 200 || string(r.Body) != "v=0 other canary-sdp" {
			w.t.Errorf("result %+v", r)
		}
		again := w.ua.all("INVITE")[1:]
		if len(again) != 2 || again[0].ToTag != "far" || string(again[1].Body) != "v=0 new canary-sdp" || again[1].CSeq != again[0].CSeq+1 {
			w.t.Errorf("re-INVITEs: %+v", again)
		}
		if _, body, _ := w.bodies.Body(id); string(body) != "v=0 new canary-sdp" {
			w.t.Errorf("kept %q, want the description that was agreed last", body)
		}
		r, err := w.farm.SendInSession(w.t.Context(), id, InDialog{
			Method: "INFO", ContentType: "application/dtmf", Body: []byte("5"),
			Headers: []messages.Header{{Name: "Info-Package", Value: "dtmf"}},
		})
		info := w.ua.all("INFO")[0]
		if err != nil || r.Status != 200 || string(info.Body) != "5" || info.ContentType != "application/dtmf" || !info.NoContact {
			w.t.Errorf("INFO: %+v, %v, %+v", r, err, info)
		}
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(id, "ended", messages.ReasonHangup)
		if _, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"}); !errors.Is(err, ErrNoSession) {
			w.t.Errorf("a request in a session that is over: %v", err)
		}
		w.wantGateIdle()
	})
}

// TestINV01_LateOffer: the 2xx holds the offer; the ACK waits for our answer, and
// is repeated as it was.
func TestINV01_LateOffer(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		var call *fakeCall
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) { call = c; c.reply(200, withBody(offerSDP)) }
		})
		v, err := w.farm.StartSession(w.t.Context(), SessionRequest{Profile: "p0", Target: "sip:bob@example.test"})
		if err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(v.ID, "established", "")
		w.wantMethods("INVITE")
		if err := w.farm.AnswerSession(w.t.Context(), v.ID, "", []byte(answerSDP)); err != nil {
			w.t.Fatal(err)
		}
		w.wantMethods("INVITE", "ACK")
		call.reply(200, withBody(offerSDP))
		w.wantMethods("INVITE", "ACK", "ACK")
		for _, ack := range w.ua.all("ACK") {
			if string(ack.Body) != answerSDP || ack.ContentType != "application/sdp" {
				w.t.Errorf("ACK %+v", ack)
			}
		}
		if err := w.farm.AnswerSession(w.t.Context(), v.ID, "", []byte(answerSDP)); !errors.Is(err, ErrSessionState) {
			w.t.Errorf("a second answer: %v", err)
		}
	})
}

// TestAppendFailureDuringACall: a call whose append fails before anything left
// goes on from the journal; what was being set up is ended, what is established
// stays.
func TestAppendFailureDuringACall(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(180)
				time.Sleep(2 * time.Second)
				acks := len(u.all("ACK"))
				for wait := 500 * time.Millisecond; wait < 32*time.Second && len(u.all("ACK")) == acks; wait *= 2 {
					c.reply(200, withBody(answerSDP))
					time.Sleep(wait)
				}
			}
		})
		owner := &fakeOwner{}
		up := w.call(nil)
		time.Sleep(5 * time.Second)
		w.wantSession(up, "established", "")
		ringing := w.call(owner)
		time.Sleep(time.Second)
		w.journal.fail(fmt.Errorf("%w: disk full", ErrStoreFailed))
		if _, err := w.farm.SendInSession(w.t.Context(), up, InDialog{Method: "INFO"}); err == nil {
			w.t.Error("a request was made although it could not be recorded")
		}
		if _, err := w.farm.StartSession(w.t.Context(), SessionRequest{Profile: "p0", Target: "sip:bob@example.test"}); err == nil {
			w.t.Error("a call began although it could not be recorded")
		}
		time.Sleep(3 * time.Second) // the 200 arrives, and cannot be recorded
		if n := len(w.ua.all("INFO")) + len(w.ua.all("ACK")); n != 1 {
			w.t.Errorf("%d requests left, want the ACK of the first call alone", n)
		}
		w.journal.fail(nil)
		time.Sleep(10 * time.Second)
		w.wantSession(up, "established", "")
		w.wantSession(ringing, "ended", messages.ReasonInterrupted)
		wantTold(w.t, owner, "progress", "ended")
		acked := map[string]bool{}
		for _, ack := range w.ua.all("ACK") {
			acked[ack.CallID] = true
		}
		if n := len(w.ua.all("BYE")); len(acked) != 2 || n != 1 {
			w.t.Errorf("CAN-03: %d calls acknowledged and %d ended, want both and the second", len(acked), n)
		}
		if r, err := w.farm.SendInSession(w.t.Context(), up, InDialog{Method: "INFO"}); err != nil || r.Status != 200 {
			w.t.Errorf("INFO after the store works again: %+v, %v", r, err)
		}
		page, err := w.farm.Sessions(w.t.Context(), SessionQuery{})
		if err != nil || len(page.Sessions) != 1 {
			w.t.Errorf("%d sessions are left, want 1: %v", len(page.Sessions), err)
		}
		w.wantGateIdle()
	})
}

// TestSessionsSurviveARestart: established ones go on with higher numbers and
// their description, early ones are ended cleanly.
func TestSessionsSurviveARestart(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%t", kill), func(t *testing.T) {
			calls(t, Registrar{Sessions: SessionLimits{Expires: 10 * time.Minute}}, nil, func(w *world) {
				w.ua.script(func(u *fakeUA) {
					u.invited = func(c *fakeCall) {
						if c.q.ToTag == "" && string(c.q.Body) == "ring" {
							c.rings()
							return
						}
						c.reply(200, withBody(answerSDP), func(r *messages.SIPResponse) { r.Dialog.SessionExpires, r.Dialog.Refresher = 600, "uac" })
					}
				})
				up := w.call(nil)
				v, err := w.farm.StartSession(w.t.Context(), SessionRequest{Profile: "p0", Target: "sip:bob@example.test", Body: []byte("ring")})
				if err != nil {
					w.t.Fatal(err)
				}
				time.Sleep(time.Second)
				w.wantSession(up, "established", "")
				w.wantSession(v.ID, "early", "")
				before := w.session(up)
				if kill {
					w.kill()
				} else {
					w.stop()
					if n := len(w.ua.all("CANCEL")); n != 1 {
						w.t.Errorf("%d calls were cancelled by the shutdown, want 1", n)
					}
				}
				if n := len(w.ua.all("BYE")); n != 0 {
					w.t.Errorf("%d sessions were ended by a restart", n)
				}
				w.start()
				time.Sleep(5 * time.Second)
				if n := len(w.ua.all("CANCEL")); n != 1 {
					w.t.Errorf("%d calls were cancelled, want 1", n)
				}
				page, err := w.farm.Sessions(w.t.Context(), SessionQuery{Profile: "p0"})
				if err != nil || len(page.Sessions) != 1 || page.Sessions[0].ID != up {
					w.t.Errorf("after the restart: %+v, %v", page, err)
				}
				// Half the interval is over: a refresh, with the description that
				// the process before it knew.
				time.Sleep(5 * time.Minute)
				invites := w.ua.all("INVITE")
				if last := invites[len(invites)-1]; last.ToTag != "far" || string(last.Body) != offerSDP || last.CSeq <= before.Dialog.LocalCSeq {
					w.t.Errorf("TMR-03: the refresh is %+v", last)
				}
				if err := w.farm.Own(up, &fakeOwner{}); err != nil {
					w.t.Error(err)
				}
				if _, err := w.farm.EndSession(w.t.Context(), up); err != nil {
					w.t.Fatal(err)
				}
				w.wantSession(up, "ended", messages.ReasonHangup)
				if bye := w.ua.all("BYE")[0]; bye.CSeq <= before.Dialog.LocalCSeq+1 {
					w.t.Errorf("the BYE has CSeq %d after %d", bye.CSeq, before.Dialog.LocalCSeq)
				}
				if w.bodies.count() != 0 {
					w.t.Errorf("%d descriptions are kept", w.bodies.count())
				}
			})
		})
	}
}

// TestSessionLimits: per profile and per registrar, both ways, and free again
// once sessions end.
func TestSessionLimits(t *testing.T) {
	calls(t, Registrar{Sessions: SessionLimits{Total: 3, PerProfile: 2}}, func(w *world) {
		w.onInvite = func(IncomingCall) Owner { return &fakeOwner{} }
	}, func(w *world) {
		w.declareFor("q", 1, "")
		start := func(profile string) (string, error) {
			v, err := w.farm.StartSession(w.t.Context(), SessionRequest{Profile: profile, Target: "sip:bob@example.test", Body: []byte(offerSDP)})
			return v.ID, err
		}
		first, err1 := start("p0")
		_, err2 := start("p0")
		_, err3 := start("p0")
		if err1 != nil || err2 != nil || !errors.Is(err3, ErrSessionLimit) {
			w.t.Errorf("three calls of one profile that may have two: %v, %v, %v", err1, err2, err3)
		}
		if in := w.arrives(inviteTo("p0")); in.final().Status != 486 {
			w.t.Errorf("an inbound call beyond the limit is answered %v, want 486", in.statuses())
		}
		_, err1 = start("q0")
		_, err2 = start("q0")
		if err1 != nil || !errors.Is(err2, ErrSessionLimit) {
			w.t.Errorf("four calls of a registrar that may have three: %v, %v", err1, err2)
		}
		time.Sleep(time.Second)
		if _, err := w.farm.EndSession(w.t.Context(), first); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(first, "ended", messages.ReasonHangup)
		if _, err := start("q0"); err != nil {
			w.t.Errorf("a call after another has ended: %v", err)
		}
	})
}

// TestARequestIsToldOfWhateverHappens: who waits for a request inside the dialog
// learns its end, also when the session ends first or its actor fails.
func TestARequestIsToldOfWhateverHappens(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
				if q.Method == "BYE" {
					return reply(200)
				}
				return nil
			}
		})
		results := make(chan InDialogResult, 1)
		send := func(id string) {
			r, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"})
			if err != nil {
				w.t.Error(err)
			}
			results <- r
		}
		want := func(reason messages.Reason) {
			w.t.Helper()
			synctest.Wait()
			select {
			case r := <-results:
				if r.Status != 0 || r.Reason != string(reason) {
					w.t.Errorf("told %+v, want %s", r, reason)
				}
			default:
				w.t.Errorf("nothing was told, want %s", reason)
			}
		}
		id := w.call(nil)
		time.Sleep(time.Second)
		go send(id)
		synctest.Wait()
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		want(messages.ReasonHangup)

		id = w.call(nil)
		time.Sleep(time.Second)
		go send(id)
		synctest.Wait()
		w.journal.plant(sessionStream(id))
		w.arrives(w.inside(id, "INFO", 1)) // fails the actor
		w.journal.plant("")
		time.Sleep(time.Second)
		want(messages.ReasonInterrupted)
		w.wantSession(id, "established", "")
		if w.observer.failures() != 1 {
			w.t.Errorf("%d failures", w.observer.failures())
		}
		time.Sleep(time.Minute) // the transactions of the far end
	})
}

// TestINV02_ForksAreAcknowledgedAndEnded: another 2xx makes a dialog that nobody wants,
// and its description is not taken for the peer's.
func TestINV02_ForksAreAcknowledgedAndEnded(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(200, withBody(answerSDP))
				c.reply(200, withTag("fork"), withBody("v=0 fork"), func(r *messages.SIPResponse) { r.Dialog.Target = "sip:fork@198.51.100.3" })
			}
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		w.wantMethods("INVITE", "ACK", "ACK", "BYE")
		if ack, bye := w.ua.all("ACK")[1], w.ua.all("BYE")[0]; ack.ToTag != "fork" || bye.ToTag != "fork" || bye.RequestURI != "sip:fork@198.51.100.3" {
			w.t.Errorf("ACK %+v, BYE %+v", ack, bye)
		}
		if v := w.wantSession(id, "established", ""); v.Body != answerSDP {
			w.t.Errorf("the peer's description is %q", v.Body)
		}
	})
}
