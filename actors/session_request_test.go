package actors

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// TestSessionRequestsAreAddressed: by the proxy, else the Service-Route (RFC 3608
// §5), else to the registrar; inside the dialog by its route set.
func TestSessionRequestsAreAddressed(t *testing.T) {
	route := []string{"<sip:edge.test;lr>", "<sip:core.test;lr>"}
	for _, c := range []struct {
		name, proxy, next string
		service, route    []string
	}{
		{"registrar", "", "sip:192.0.2.1", nil, nil},
		{"service route", "", "sip:edge.test;lr", route, route},
		{"proxy", "sip:proxy.test", "sip:proxy.test", route, []string{"sip:proxy.test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls(t, Registrar{OutboundProxy: c.proxy}, func(w *world) {
				w.registrar.set(func(r *fakeRegistrar) { r.service = c.service })
			}, func(w *world) {
				w.ua.script(func(u *fakeUA) {
					u.invited = func(call *fakeCall) {
						call.reply(200, withBody(answerSDP), func(r *messages.SIPResponse) {
							r.Dialog.RouteSet = []string{"<sip:strict.test>", "<sip:second.test;lr>"}
						})
					}
				})
				id := w.call(nil)
				time.Sleep(time.Second)
				q := w.ua.all("INVITE")[0]
				if q.NextHop != c.next || !slices.Equal(q.Route, c.route) || q.RequestURI != "sip:bob@example.test" || q.To != q.RequestURI ||
					q.From != "sip:p0@example.test" || q.FromTag != id || q.ToTag != "" || q.NoContact || q.ContactUser != "p0" || q.Expires >= 0 ||
					!slices.Equal(q.Supported, []string{"timer", "100rel"}) || header(q, "Allow") != allowed || header(q, "Session-Expires") != "1800" ||
					header(q, "Subject") != "canary-header" || q.ContentType != "application/sdp" {
					w.t.Errorf("INVITE %+v", q)
				}
				ack := w.ua.all("ACK")[0]
				// The adapter moves a strict router into the Request-URI.
				if ack.RequestURI != farTarget || ack.NextHop != "sip:strict.test" || len(ack.Route) != 2 || !ack.NoContact || len(ack.Supported) != 0 {
					w.t.Errorf("ACK %+v", ack)
				}
			})
		})
	}
}

func header(q *messages.SIPRequest, name string) string {
	for _, h := range q.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// TestPRK01_PrackInTheEarlyDialog: addressed to that dialog, with RAck.
func TestPRK01_PrackInTheEarlyDialog(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(183, withTag("fork"), func(r *messages.SIPResponse) {
					r.Dialog.RSeq, r.Dialog.Target, r.Dialog.RouteSet = 41, "sip:fork@198.51.100.3", nil
				})
				time.Sleep(time.Second)
				c.reply(200, withBody(answerSDP))
			}
		})
		w.call(nil)
		time.Sleep(3 * time.Second)
		w.wantMethods("INVITE", "PRACK", "ACK")
		if q := w.ua.all("PRACK")[0]; q.RequestURI != "sip:fork@198.51.100.3" || q.NextHop != q.RequestURI || q.ToTag != "fork" || header(q, "RAck") != "41 1 INVITE" {
			w.t.Errorf("PRACK %+v", q)
		}
	})
}

// TestRefreshKeepsTheRoles: RFC 4028 §7.4.
func TestRefreshKeepsTheRoles(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		timer := func(refresher string) change {
			return func(r *messages.SIPResponse) {
				r.Dialog.SessionExpires, r.Dialog.Refresher, r.Dialog.Allow = 600, refresher, []string{"UPDATE"}
			}
		}
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) { c.reply(200, withBody(answerSDP), timer("uas")) }
			u.asked = func(*messages.SIPRequest) *messages.SIPResponse { return reply(200, timer("uac")) }
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		if v := w.session(id); v.Timer == nil || v.Timer.Refresher != "peer" {
			w.t.Errorf("timer %+v", v.Timer)
		}
		if _, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "UPDATE"}); err != nil {
			w.t.Fatal(err)
		}
		if q := w.ua.all("UPDATE")[0]; header(q, "Session-Expires") != "600;refresher=uas" || q.NoContact {
			w.t.Errorf("UPDATE %+v", q)
		}
		time.Sleep(301 * time.Second)
		if q := w.ua.all("UPDATE")[1]; header(q, "Session-Expires") != "600;refresher=uac" {
			w.t.Errorf("refresh %+v", q)
		}
	})
}

// TestSetSecurityTakesEffectFromTheNextAttempt also for sessions.
func TestSetSecurityTakesEffectFromTheNextAttempt(t *testing.T) {
	calls(t, Registrar{}, func(w *world) {
		w.xsps = []XSP{{Name: "tokens", Authenticator: solver}}
	}, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
				if hasCredentials(q, "Proxy-Authorization", "example.test") {
					return reply(200)
				}
				return reply(407, challenging(messages.Space_PROXY, "example.test", "n-"+q.Method+q.CallID))
			}
		})
		id := w.call(nil)
		time.Sleep(time.Second)
		tokens := "tokens"
		if _, err := w.farm.Do(w.t.Context(), "p0", profile.SetSecurity{Session: &tokens}); err != nil {
			w.t.Fatal(err)
		}
		if r, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"}); err != nil || r.Status != 200 {
			w.t.Errorf("INFO: %+v, %v", r, err)
		}
		if n := w.observer.asked("tokens", outcomeAnswered); n != 1 || w.session(id).Handler != "tokens" {
			w.t.Errorf("the new handler answered %d times; the view says %s", n, w.session(id).Handler)
		}
	})
}

// TestSessionsOutliveTheirProfile: it may be disabled, removed and declared anew.
func TestSessionsOutliveTheirProfile(t *testing.T) {
	calls(t, Registrar{}, func(w *world) {
		w.xsps = []XSP{{Name: "tokens", Authenticator: solver}}
	}, func(w *world) {
		id := w.call(nil)
		time.Sleep(time.Second)
		w.ua.script(func(u *fakeUA) {
			u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
				if hasCredentials(q, "Proxy-Authorization", "example.test") {
					return reply(200)
				}
				return reply(407, challenging(messages.Space_PROXY, "example.test", "n"))
			}
		})
		if _, err := w.farm.Do(w.t.Context(), "p0", profile.Remove{ByOperator: true}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		w.wantStates(map[string]int{})
		w.wantSession(id, "established", "")
		tokens := profile.Declare{Spec: profile.Spec{AOR: "sip:p0@example.test", Registrar: "r", SessionHandler: "tokens", Register: true}, Source: "api", Patch: true}
		w.farm.Declare(w.t.Context(), []Declared{{ID: "p0", Command: tokens}}, false)
		time.Sleep(5 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		if r, err := w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"}); err != nil || r.Status != 200 {
			w.t.Errorf("INFO: %+v, %v", r, err)
		}
		if n := w.observer.asked("tokens", outcomeAnswered); n != 1 {
			w.t.Errorf("the handler of the new declaration answered %d times, want 1", n)
		}
	})
}

// TestStartSessionSaysWhatIsWrong: with the field and the fix.
func TestStartSessionSaysWhatIsWrong(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		if _, err := w.farm.Do(w.t.Context(), "p0", profile.Disable{}); err != nil {
			w.t.Fatal(err)
		}
		good := SessionRequest{Profile: "p0", Target: "sip:bob@example.test"}
		for want, change := range map[string]func(*SessionRequest){
			"profile: is missing":                       func(r *SessionRequest) { r.Profile = "" },
			`profile "p0" is disabled; enable it first`: func(*SessionRequest) {},
			"target: want a SIP URI such as":            func(r *SessionRequest) { r.Target = "bob" },
			"target: a sips URI needs TLS":              func(r *SessionRequest) { r.Target = "sips:bob@example.test" },
			"target: has a header part":                 func(r *SessionRequest) { r.Target = "sip:bob@example.test?Route=x" },
			"hangup_after: want a positive time":        func(r *SessionRequest) { r.HangupAfter = -1 },
			"headers: call-id is written by the node":   func(r *SessionRequest) { r.Headers = []messages.Header{{Name: "i", Value: "x"}} },
			"headers: x-a has no value":                 func(r *SessionRequest) { r.Headers = []messages.Header{{Name: "X-A", Value: " "}} },
			"content_type: want a media type":           func(r *SessionRequest) { r.ContentType = "sdp" },
			"body: is 50000 bytes long":                 func(r *SessionRequest) { r.Body = make([]byte, 50000) },
		} {
			r := good
			change(&r)
			if _, err := w.farm.StartSession(w.t.Context(), r); !errors.Is(err, ErrInvalidSession) || !strings.Contains(err.Error(), want) {
				w.t.Errorf("got %v, want %s", err, want)
			}
		}
		if _, err := w.farm.StartSession(w.t.Context(), SessionRequest{Profile: "nobody", Target: good.Target}); !errors.Is(err, ErrNotFound) {
			w.t.Errorf("a call of nobody: %v", err)
		}
		for _, id := range []string{"", "x", "3ff00000000000000000", "fff00000000000000000"} {
			if _, err := w.farm.Session(w.t.Context(), id); !errors.Is(err, ErrNoSession) {
				w.t.Errorf("session %q: %v", id, err)
			}
			if _, err := w.farm.SessionHistory(w.t.Context(), id, 0, 0); !errors.Is(err, ErrNoSession) {
				w.t.Errorf("history of %q: %v", id, err)
			}
			if _, err := w.farm.EndSession(w.t.Context(), id); !errors.Is(err, ErrNoSession) {
				w.t.Errorf("end of %q: %v", id, err)
			}
		}
		if err := w.farm.Own("x", nil); !errors.Is(err, ErrNoSession) {
			w.t.Errorf("own: %v", err)
		}
	})
}

// TestSessionListing: pages in the order of the ids, filters, and no body.
func TestSessionListing(t *testing.T) {
	calls(t, Registrar{Rate: -1}, nil, func(w *world) {
		w.declareFor("q", 1, "")
		for range 25 {
			w.call(nil)
		}
		if _, err := w.farm.StartSession(w.t.Context(), SessionRequest{Profile: "q0", Target: "sip:bob@example.test"}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Second)
		seen := map[string]bool{}
		for q := (SessionQuery{Limit: 10}); ; {
			page, err := w.farm.Sessions(w.t.Context(), q)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, s := range page.Sessions {
				if seen[s.ID] || s.Body != "" {
					w.t.Errorf("listed twice, or with its body: %+v", s)
				}
				seen[s.ID] = true
			}
			if q.After = page.Next; q.After == "" {
				break
			}
		}
		page, _ := w.farm.Sessions(w.t.Context(), SessionQuery{Profile: "q0", State: "established", Registrar: "r"})
		none, _ := w.farm.Sessions(w.t.Context(), SessionQuery{State: "ending"})
		if len(seen) != 26 || len(page.Sessions) != 1 || none.Sessions == nil || len(none.Sessions) != 0 {
			w.t.Errorf("%d sessions in all, %d of q0, %v", len(seen), len(page.Sessions), none.Sessions)
		}
		for id := range seen {
			if number, ok := sessionShard(id); !ok || number != Shard(w.session(id).Profile) {
				w.t.Errorf("%s is not of the shard of its profile", id)
			}
		}
	})
}

// TestAnOwnerThatPanics costs its session nothing.
func TestAnOwnerThatPanics(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		owner := &fakeOwner{on: func(SessionNotice) { panic("no") }}
		id := w.call(owner)
		time.Sleep(time.Second)
		w.wantSession(id, "established", "")
		wantTold(w.t, owner, "progress", "established")
		if w.observer.failures() != 0 {
			w.t.Errorf("%d actors failed", w.observer.failures())
		}
	})
}

// TestASessionThatFailsForEverIsParked, and ends once that is wanted and works.
func TestASessionThatFailsForEverIsParked(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		id := w.call(nil)
		time.Sleep(time.Second)
		w.journal.plant(sessionStream(id))
		info := w.arrives(w.inside(id, "INFO", 1))
		time.Sleep(time.Hour)
		if w.observer.parkings() != 0 {
			w.t.Error("parked after one failure")
		}
		for range parkAfter - 1 {
			_, _ = w.farm.SendInSession(w.t.Context(), id, InDialog{Method: "INFO"})
			time.Sleep(time.Minute)
		}
		if w.observer.parkings() != 1 || info.final().Status != 500 {
			w.t.Errorf("parked %d times, the INFO was answered %v", w.observer.parkings(), info.statuses())
		}
		if in := w.arrives(w.inside(id, "OPTIONS", 9)); in.final().Status != 500 {
			w.t.Errorf("a request for a parked session is answered %v", in.statuses())
		}
		w.journal.plant("")
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(id, "ended", messages.ReasonHangup)
		w.wantStates(map[string]int{StateRegistered: 1})
	})
}

// TestNoticesTellTheirMessage: the message that caused a notice goes along.
func TestNoticesTellTheirMessage(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		owner := &fakeOwner{}
		w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { c.reply(180); c.reply(486) } })
		id := w.call(owner)
		time.Sleep(time.Second)
		w.wantSession(id, "ended", messages.ReasonPeerBusy)
		if n := owner.last(session.NoticeProgress); n.Response == nil || n.Response.Status != 180 || n.Session != id {
			w.t.Errorf("progress %+v", n)
		}
		if n := owner.last(session.NoticeEnded); n.Response == nil || n.Response.Status != 486 || n.Status != 486 || n.Reason != messages.ReasonPeerBusy {
			w.t.Errorf("ended %+v", n)
		}
	})
}
