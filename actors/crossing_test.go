package actors

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

const (
	pbxSource = "10.0.0.5:40000"
	pbxTarget = "sip:100@10.0.0.5:5060"
	pbxOffer  = "v=0 pbx offer canary-sdp"
)

// crossings runs a test in a world with p0 and a PBX that has its registrar.
func crossings(t *testing.T, config Registrar, test func(*world)) {
	t.Helper()
	calls(t, config, func(w *world) {
		w.trunks = []Trunk{{
			Name: "pbx", Peers: prefixes("10.0.0.5/32"), URI: "sip:10.0.0.5:5060", Profile: ProfileFrom, Registrar: "r",
			Headers: []string{"Subject"},
		}}
	}, test)
}

// fromPBX is a call of the PBX in the name of p0.
func fromPBX() *messages.SIPInbound {
	in := inviteTo("bob")
	in.From, in.Source, in.CallID, in.Dialog.Target = "sip:p0@10.0.0.5", pbxSource, "pbx-call", pbxTarget
	in.Dialog.RemoteTag, in.Dialog.Body, in.Dialog.Allow = "pbxs", []byte(pbxOffer), []string{"INVITE", "UPDATE"}
	in.Dialog.Headers = []messages.Header{{Name: "Subject", Value: "lunch"}, {Name: "X-Private", Value: "canary-header"}}
	return in
}

// crossingOf is a call that crosses, seen from outside.
type crossingOf struct {
	*world
	invite *arrived
	ids    [2]string
}

// cross sends an INVITE in and finds the two sessions that come of it.
func (w *world) cross(in *messages.SIPInbound) *crossingOf {
	w.t.Helper()
	c := &crossingOf{world: w, invite: w.arrives(in)}
	c.find()
	return c
}

func (c *crossingOf) find() {
	c.t.Helper()
	synctest.Wait()
	page, err := c.farm.Sessions(c.t.Context(), SessionQuery{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, v := range page.Sessions {
		if v.Direction == "inbound" && v.Dialog.CallID == c.invite.CallID {
			c.ids = [2]string{v.ID, v.Bridge}
		}
	}
}

// ack acknowledges our 2xx to a request that arrived.
func (a *arrived) ack(body string) {
	ack := &messages.SIPInbound{Method: "ACK", CSeq: a.CSeq, CallID: a.CallID, ToTag: a.ToTag, Dialog: messages.DialogInfo{Body: []byte(body)}}
	if body != "" {
		ack.Dialog.ContentType = "application/sdp"
	}
	a.final().Acked(ack)
	synctest.Wait()
}

// asks sends a request inside the dialog of a leg.
func (c *crossingOf) asks(s side, method string, cseq uint32, body string) *arrived {
	c.t.Helper()
	in := c.inside(c.ids[s], method, cseq)
	in.Dialog.Target = c.session(c.ids[s]).Dialog.RemoteTarget
	if body != "" {
		in.Dialog.ContentType, in.Dialog.Body = "application/sdp", []byte(body)
	}
	in.Dialog.Headers = []messages.Header{{Name: "Subject", Value: "inside"}, {Name: "Reason", Value: "Q.850;cause=16"}}
	return c.arrives(in)
}

// up is a call that is answered on both sides.
func (w *world) up(in *messages.SIPInbound) *crossingOf {
	w.t.Helper()
	c := w.cross(in)
	time.Sleep(time.Second)
	c.invite.ack("")
	for _, id := range c.ids {
		c.wantSession(id, "established", "")
	}
	return c
}

func (c *crossingOf) wantOver() {
	c.t.Helper()
	time.Sleep(time.Second)
	for s, id := range c.ids {
		if v, err := c.farm.Session(c.t.Context(), id); err != nil && !errors.Is(err, ErrNoSession) || err == nil && v.State != "ended" {
			c.t.Errorf("the %v leg: %v, %+v", side(s), err, v)
		}
	}
}

// stays leaves the peer where it is.
func stays(q *messages.SIPRequest) change {
	return func(r *messages.SIPResponse) { r.Dialog.Target = q.RequestURI }
}

// valueOf lists the values of a header.
func valueOf(headers []messages.Header, name string) (values []string) {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			values = append(values, h.Value)
		}
	}
	return values
}

// TestTrunkCallOut: a call of the PBX goes out in the name of the profile; the
// challenge on the way is answered and never shown.
func TestTrunkCallOut(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(100)
				if !hasCredentials(c.q, "Proxy-Authorization", "example.test") {
					c.reply(180, withTag("early"))
					c.reply(407, challenging(messages.Space_PROXY, "example.test", "n1"))
					return
				}
				c.reply(183, withTag("a"), withBody("early media"))
				c.reply(180, withTag("b"))
				c.reply(200, withTag("b"), withBody(answerSDP), func(r *messages.SIPResponse) {
					r.Dialog.Headers = []messages.Header{{Name: "Subject", Value: "yes"}, {Name: "Server-Secret", Value: "canary-header"}}
				})
			}
		})
		c := w.up(fromPBX())
		if got := c.invite.statuses(); !slices.Equal(got, []int{180, 183, 180, 200}) {
			w.t.Errorf("the PBX got %v", got)
		}
		if r := c.invite.replies[1]; string(r.Body) != "early media" || r.ContentType != "application/sdp" || r.Tag != c.ids[taken] {
			w.t.Errorf("183: %+v", r)
		}
		final := c.invite.final()
		if string(final.Body) != answerSDP || final.Tag != c.ids[taken] || !slices.Equal(valueOf(final.Headers, "Subject"), []string{"yes"}) ||
			len(valueOf(final.Headers, "Server-Secret")) != 0 {
			w.t.Errorf("200: %+v", final)
		}
		invites := w.ua.all("INVITE")
		if len(invites) != 2 {
			w.t.Fatalf("%d INVITEs", len(invites))
		}
		q := invites[1]
		if q.RequestURI != "sip:bob@example.test" || q.From != "sip:p0@example.test" || q.NextHop != "sip:192.0.2.1" ||
			string(q.Body) != pbxOffer || q.CallID == "pbx-call" || q.FromTag != c.ids[placed] ||
			!slices.Equal(valueOf(q.Headers, "Subject"), []string{"lunch"}) || len(valueOf(q.Headers, "X-Private")) != 0 {
			w.t.Errorf("INVITE: %+v", q)
		}
		for s, want := range map[side]SessionView{
			taken:  {Direction: "inbound", Profile: "p0", Trunk: "pbx", Bridge: c.ids[placed], Peer: "sip:p0@10.0.0.5"},
			placed: {Direction: "outbound", Profile: "p0", Trunk: "pbx", Bridge: c.ids[taken], Peer: "sip:bob@example.test"},
		} {
			v := w.session(c.ids[s])
			got := SessionView{Direction: v.Direction, Profile: v.Profile, Trunk: v.Trunk, Bridge: v.Bridge, Peer: v.Peer}
			if got.Direction != want.Direction || got.Profile != want.Profile || got.Trunk != want.Trunk || got.Bridge != want.Bridge || got.Peer != want.Peer {
				w.t.Errorf("the %v leg: %+v", s, got)
			}
		}
		bye := c.asks(taken, "BYE", 8, "")
		if got := bye.statuses(); !slices.Equal(got, []int{200}) {
			w.t.Errorf("BYE: %v", got)
		}
		c.wantOver()
		if byes := w.ua.all("BYE"); len(byes) != 1 || byes[0].RequestURI != farTarget || !slices.Equal(valueOf(byes[0].Headers, "Reason"), []string{"Q.850;cause=16"}) {
			w.t.Errorf("BYE: %+v", byes)
		}
	})
}

// TestTrunkCallIn: a call to the profile goes to the PBX, in the caller's name
// and without credentials.
func TestTrunkCallIn(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		in := inviteTo("p0")
		in.Dialog.Headers = append(in.Dialog.Headers, messages.Header{Name: "Subject", Value: "lunch"})
		c := w.up(in)
		if got := c.invite.statuses(); !slices.Equal(got, []int{180, 200}) || string(c.invite.final().Body) != answerSDP {
			w.t.Errorf("the caller got %v", got)
		}
		q := w.ua.all("INVITE")[0]
		if q.RequestURI != "sip:p0@10.0.0.5:5060" || q.NextHop != "sip:10.0.0.5:5060" || q.From != "sip:carol@example.test" ||
			len(q.Mutations) != 0 || len(q.Route) != 0 || string(q.Body) != offerSDP ||
			!slices.Equal(valueOf(q.Headers, "Subject"), []string{"lunch"}) || len(valueOf(q.Headers, "X-Secret")) != 0 {
			w.t.Errorf("INVITE: %+v", q)
		}
		// The PBX hangs up.
		if got := c.asks(placed, "BYE", 20, "").statuses(); !slices.Equal(got, []int{200}) {
			w.t.Errorf("BYE: %v", got)
		}
		c.wantOver()
		if byes := w.ua.all("BYE"); len(byes) != 1 || byes[0].RequestURI != "sip:carol@198.51.100.7" {
			w.t.Errorf("BYE: %+v", byes)
		}
	})
}

// TestTrunkFailures: what the caller gets of a call that fails, both ways.
func TestTrunkFailures(t *testing.T) {
	type row struct {
		name string
		far  func(*fakeCall)
		out  int // to the PBX
		in   int // to who called the profile
	}
	status := func(code int) func(*fakeCall) { return func(c *fakeCall) { c.reply(code) } }
	for _, r := range []row{
		{"busy", status(486), 486, 486},
		{"not found", status(404), 404, 404},
		{"declined everywhere", status(603), 603, 603},
		{"unavailable", status(503), 503, 503},
		{"redirected", status(302), 480, 480},
		{"an extension", status(420), 500, 500},
		{"no answer", func(c *fakeCall) { c.fail(messages.ReasonTimeout) }, 408, 408},
		{"not sent", func(c *fakeCall) { c.fail(messages.ReasonTransport) }, 503, 503},
		{"refused credentials", func(c *fakeCall) { c.reply(407, challenging(messages.Space_PROXY, "example.test", "n1")) }, 403, 403},
		{"another realm", func(c *fakeCall) { c.reply(401, challenging(messages.Space_ORIGIN, "elsewhere.test", "n1")) }, 500, 403},
	} {
		for _, out := range []bool{true, false} {
			t.Run(r.name+map[bool]string{true: " out", false: " in"}[out], func(t *testing.T) {
				crossings(t, Registrar{Realms: []string{"example.test"}}, func(w *world) {
					w.ua.script(func(u *fakeUA) { u.invited = r.far })
					in, want := fromPBX(), r.out
					if !out {
						in, want = inviteTo("p0"), r.in
					}
					a := w.arrives(in)
					time.Sleep(time.Minute)
					if got := a.statuses(); !slices.Equal(got, []int{want}) {
						w.t.Errorf("got %v, want %d", got, want)
					}
					w.wantNoSessions()
				})
			})
		}
	}
}

func (w *world) wantNoSessions() {
	w.t.Helper()
	synctest.Wait()
	page, err := w.farm.Sessions(w.t.Context(), SessionQuery{})
	if err != nil || len(page.Sessions) != 0 {
		w.t.Errorf("sessions: %+v, %v", page.Sessions, err)
	}
}

// TestTrunkCancel: the caller gives up, at any time.
func TestTrunkCancel(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"while it rings": func(w *world) { w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { c.rings() } }) },
		"before anything": func(w *world) {
			w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { time.Sleep(5 * time.Second); c.rings() } })
		},
		"and a 2xx crosses it": func(w *world) {
			w.ua.script(func(u *fakeUA) {
				u.invited = func(c *fakeCall) { c.reply(180); <-c.wanted; c.reply(200, withBody(answerSDP)) }
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			crossings(t, Registrar{}, func(w *world) {
				prepare(w)
				in := fromPBX()
				a := w.arrives(in)
				cancel := *in
				cancel.Method, cancel.Respond = "CANCEL", nil
				if !w.farm.Inbound(&cancel) {
					w.t.Error("nobody takes the CANCEL")
				}
				time.Sleep(40 * time.Second)
				if got := a.final().Status; got != 487 {
					w.t.Errorf("the PBX got %v", a.statuses())
				}
				if len(w.ua.all("CANCEL")) != 1 {
					w.t.Errorf("sent %v", w.ua.methods())
				}
				if name == "and a 2xx crosses it" && len(w.ua.all("BYE")) != 1 {
					w.t.Errorf("sent %v", w.ua.methods())
				}
				w.wantNoSessions()
			})
		})
	}
}

// TestTrunkCancelAtOnce: a CANCEL right behind the INVITE overtakes nothing.
func TestTrunkCancelAtOnce(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { c.rings() } })
		in := fromPBX()
		cancel := *in
		cancel.Method = "CANCEL"
		a := &arrived{SIPInbound: in}
		in.Respond = func(r messages.SIPReply) { a.mu.Lock(); a.replies = append(a.replies, r); a.mu.Unlock() }
		if !w.farm.Inbound(in) || !w.farm.Inbound(&cancel) {
			w.t.Error("not taken")
		}
		time.Sleep(time.Minute)
		if got := a.statuses(); got[len(got)-1] != 487 || len(w.ua.all("INVITE")) != len(w.ua.all("CANCEL")) {
			w.t.Errorf("the PBX got %v; sent %v", got, w.ua.methods())
		}
		w.wantNoSessions()
	})
}

// TestTrunkLateOffer: an INVITE without a body; the answer comes in the ACK.
func TestTrunkLateOffer(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) { c.reply(180); c.reply(200, withBody("far offer")) }
		})
		in := fromPBX()
		in.Dialog.Body, in.Dialog.ContentType = nil, ""
		c := w.cross(in)
		time.Sleep(time.Second)
		if q := w.ua.all("INVITE")[0]; len(q.Body) != 0 || slices.Contains(q.Supported, "100rel") {
			w.t.Errorf("INVITE: %s, supported %v", q.Body, q.Supported)
		}
		if string(c.invite.final().Body) != "far offer" || len(w.ua.all("ACK")) != 0 {
			w.t.Errorf("the PBX got %s; sent %v", c.invite.final().Body, w.ua.methods())
		}
		c.invite.ack("pbx answer")
		if acks := w.ua.all("ACK"); len(acks) != 1 || string(acks[0].Body) != "pbx answer" {
			w.t.Errorf("ACK: %+v", acks)
		}
		// The same inside the dialog, from the other side.
		re := c.asks(placed, "INVITE", 30, "")
		time.Sleep(time.Second)
		invites := w.ua.all("INVITE")
		if last := invites[len(invites)-1]; len(last.Body) != 0 || last.RequestURI != pbxTarget || last.ToTag != "pbxs" {
			w.t.Errorf("re-INVITE: %+v", last)
		}
		re.ack("far answer")
		if acks := w.ua.all("ACK"); len(acks) != 2 || string(acks[1].Body) != "far answer" {
			w.t.Errorf("ACK: %+v", acks)
		}
		c.asks(taken, "BYE", 8, "")
		c.wantOver()
	})
}

// TestTrunkInside: requests inside the call cross, in both directions.
func TestTrunkInside(t *testing.T) {
	for _, near := range []side{taken, placed} {
		t.Run(near.String(), func(t *testing.T) {
			crossings(t, Registrar{}, func(w *world) {
				c := w.up(fromPBX())
				w.ua.script(func(u *fakeUA) {
					u.invited = func(c *fakeCall) { c.reply(200, withBody("new answer"), stays(c.q)) }
					u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
						if q.Method == "MESSAGE" {
							return reply(415)
						}
						return reply(200, withBody("said "+q.Method), stays(q))
					}
				})
				far := map[side]string{taken: pbxTarget, placed: farTarget}[near.other()]
				last := func(method string) *messages.SIPRequest {
					all := w.ua.all(method)
					return all[len(all)-1]
				}
				re := c.asks(near, "INVITE", 50, "new offer")
				time.Sleep(time.Second)
				if got := re.final(); got.Status != 200 || string(got.Body) != "new answer" {
					w.t.Errorf("re-INVITE: %+v", got)
				}
				re.ack("")
				if q := last("INVITE"); string(q.Body) != "new offer" || q.RequestURI != far || !slices.Equal(valueOf(q.Headers, "Subject"), []string{"inside"}) {
					w.t.Errorf("re-INVITE: %+v", q)
				}
				for i, method := range []string{"INFO", "MESSAGE"} {
					a := c.asks(near, method, uint32(51+i), "text")
					time.Sleep(time.Second)
					if q := last(method); string(q.Body) != "text" || q.ContentType != "application/sdp" || q.RequestURI != far {
						w.t.Errorf("%s: %+v", method, q)
					}
					if got, want := a.final().Status, map[string]int{"INFO": 200, "MESSAGE": 415}[method]; got != want {
						w.t.Errorf("%s: %d, want %d", method, got, want)
					}
				}
				up := c.asks(near, "UPDATE", 60, "moved")
				time.Sleep(time.Second)
				if up.final().Status != 200 {
					w.t.Errorf("UPDATE: %v", up.statuses())
				}
				// The far end listed no Allow, so it gets a re-INVITE; the PBX did.
				if want := map[side]string{taken: "INVITE", placed: "UPDATE"}[near]; string(last(want).Body) != "moved" {
					w.t.Errorf("%s: %+v", want, last(want))
				}
				if got := c.asks(near, "REFER", 61, "").final().Status; got != 603 {
					w.t.Errorf("REFER: %d", got)
				}
				if got := c.asks(near, "UPDATE", 62, "").final().Status; got != 200 {
					w.t.Errorf("a refresh: %d", got)
				}
				c.asks(near, "BYE", 63, "")
				c.wantOver()
			})
		})
	}
}

// TestDLG15_TrunkGlare: two offers at once.
func TestDLG15_TrunkGlare(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		c := w.up(fromPBX())
		release := make(chan struct{})
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) { <-release; c.reply(200, withBody("new answer"), stays(c.q)) }
		})
		first := c.asks(taken, "INVITE", 50, "one")
		if got := c.asks(placed, "INVITE", 50, "two").final().Status; got != 491 {
			w.t.Errorf("the far end got %d", got)
		}
		if got := c.asks(taken, "INVITE", 51, "three").final(); got.Status != 500 || len(valueOf(got.Headers, "Retry-After")) != 1 {
			w.t.Errorf("the PBX got %+v for a second one", got)
		}
		close(release)
		time.Sleep(time.Second)
		if got := first.final().Status; got != 200 {
			w.t.Errorf("the PBX got %d", got)
		}
		first.ack("")
		// The far end answers 491: the leg tries once more by itself.
		n := 0
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				if n++; n == 1 {
					c.reply(491)
					return
				}
				c.reply(200, withBody("at last"), stays(c.q))
			}
		})
		again := c.asks(taken, "INVITE", 52, "four")
		time.Sleep(10 * time.Second)
		if got := again.final(); got.Status != 200 || string(got.Body) != "at last" {
			w.t.Errorf("the PBX got %+v", got)
		}
		again.ack("")
		c.asks(placed, "BYE", 60, "")
		c.wantOver()
	})
}

// TestTrunkTooSoon: requests of the caller before the other leg is ready.
func TestTrunkTooSoon(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { c.rings() } })
		c := w.cross(fromPBX())
		got := c.asks(taken, "UPDATE", 8, "early").final()
		if got.Status != 500 || len(valueOf(got.Headers, "Retry-After")) != 1 {
			w.t.Errorf("UPDATE: %+v", got)
		}
		// An operator ends the leg that rings.
		if _, err := w.farm.EndSession(w.t.Context(), c.ids[placed]); err != nil {
			w.t.Error(err)
		}
		time.Sleep(time.Second)
		if got := c.invite.final().Status; got != 480 {
			w.t.Errorf("the PBX got %d", got)
		}
		w.wantNoSessions()
	})
}

// TestTrunkEnds: whatever ends one leg ends the other.
func TestTrunkEnds(t *testing.T) {
	for name, end := range map[string]func(*crossingOf){
		"an operator ends the taken leg":  func(c *crossingOf) { _, _ = c.farm.EndSession(c.t.Context(), c.ids[taken]) },
		"an operator ends the placed leg": func(c *crossingOf) { _, _ = c.farm.EndSession(c.t.Context(), c.ids[placed]) },
		"the far end has lost the dialog": func(c *crossingOf) {
			c.ua.script(func(u *fakeUA) {
				u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
					if q.Method == "INFO" {
						return reply(481)
					}
					return reply(200)
				}
			})
			if got := c.asks(taken, "INFO", 8, "x").final().Status; got != 481 {
				c.t.Errorf("INFO: %d", got)
			}
		},
		"the far end is silent": func(c *crossingOf) {
			c.ua.script(func(u *fakeUA) {
				u.asked = func(q *messages.SIPRequest) *messages.SIPResponse {
					if q.Method == "INFO" {
						return nil
					}
					return reply(200)
				}
			})
			a := c.asks(taken, "INFO", 8, "x")
			time.Sleep(40 * time.Second)
			if got := a.final().Status; got != 500 && got != 504 {
				c.t.Errorf("INFO: %d", got)
			}
		},
		"the farm refuses the ACK": func(c *crossingOf) {
			re := c.asks(taken, "INVITE", 8, "again")
			time.Sleep(time.Second)
			re.final().Acked(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			crossings(t, Registrar{}, func(w *world) {
				c := w.up(fromPBX())
				end(c)
				time.Sleep(time.Minute)
				c.wantOver()
				w.wantNoSessions()
				for _, to := range []string{farTarget, pbxTarget} {
					byes := slices.DeleteFunc(w.ua.all("BYE"), func(q *messages.SIPRequest) bool { return q.RequestURI != to })
					if len(byes) != 1 {
						w.t.Errorf("%d BYEs to %s", len(byes), to)
					}
				}
			})
		})
	}
}

// TestTrunkNoACK: the PBX never acknowledges the 2xx.
func TestTrunkNoACK(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		c := w.cross(fromPBX())
		time.Sleep(time.Second)
		c.invite.final().Acked(nil)
		c.wantOver()
		if n := len(w.ua.all("BYE")); n != 2 {
			w.t.Errorf("%d BYEs", n)
		}
	})
}

// TestTrunkProfiles: whose call it is.
func TestTrunkProfiles(t *testing.T) {
	declare := func(w *world, id, aor, contactUser string) {
		w.farm.Declare(w.t.Context(), []Declared{{ID: id, Command: profile.Declare{
			Spec: profile.Spec{AOR: aor, Registrar: "r", ContactUser: contactUser}, Source: "file", Row: "row",
		}}}, false)
	}
	for name, c := range map[string]struct {
		prepare func(*world)
		change  func(*messages.SIPInbound)
		want    int
		from    string
	}{
		"the AOR":                {nil, func(in *messages.SIPInbound) { in.From = "sip:p0@example.test" }, 200, "sip:p0@example.test"},
		"the user":               {nil, func(in *messages.SIPInbound) {}, 200, "sip:p0@example.test"},
		"the contact user":       {nil, func(in *messages.SIPInbound) { in.From = "sip:300@10.0.0.5" }, 200, "sip:carol@example.test"},
		"the id":                 {nil, func(in *messages.SIPInbound) { in.From = "sip:desk@10.0.0.5" }, 200, "sip:dave@example.test"},
		"an AOR is more than id": {nil, func(in *messages.SIPInbound) { in.From = "sip:300@other.test" }, 200, "sip:300@other.test"},
		"nobody":                 {nil, func(in *messages.SIPInbound) { in.From = "sip:nobody@10.0.0.5" }, 403, ""},
		"several":                {nil, func(in *messages.SIPInbound) { in.From = "sip:both@10.0.0.5" }, 403, ""},
		"one of several":         {nil, func(in *messages.SIPInbound) { in.From = "sip:both@two.test" }, 200, "sip:both@two.test"},
		"no From":                {nil, func(in *messages.SIPInbound) { in.From = "" }, 403, ""},
		"disabled": {func(w *world) {
			if _, err := w.farm.Do(w.t.Context(), "p0", profile.Disable{}); err != nil {
				w.t.Fatal(err)
			}
		}, func(*messages.SIPInbound) {}, 480, ""},
		"a header": {func(w *world) { w.useHeader() }, func(in *messages.SIPInbound) {
			in.From = "sip:nobody@10.0.0.5"
			in.Dialog.Headers = append(in.Dialog.Headers, messages.Header{Name: "X-Account", Value: "desk"})
		}, 200, "sip:dave@example.test"},
		"a header with an AOR": {func(w *world) { w.useHeader() }, func(in *messages.SIPInbound) {
			in.Dialog.Headers = append(in.Dialog.Headers, messages.Header{Name: "X-Account", Value: "<sip:dave@example.test>"})
		}, 200, "sip:dave@example.test"},
		"no header":       {func(w *world) { w.useHeader() }, func(*messages.SIPInbound) {}, 403, ""},
		"no user to call": {nil, func(in *messages.SIPInbound) { in.RequestURI = "sip:203.0.113.1:5070" }, 484, ""},
		"a sips URI":      {nil, func(in *messages.SIPInbound) { in.RequestURI = "sips:bob@elsewhere.test" }, 416, ""},
		"headers in it":   {nil, func(in *messages.SIPInbound) { in.RequestURI = "sip:bob@elsewhere.test?Subject=x" }, 404, ""},
		"a profile of another trunk": {func(w *world) {
			other := Trunk{Name: "other", Peers: prefixes("10.0.9.9/32"), URI: "sip:10.0.9.9", Profile: ProfileFrom, Profiles: []string{"p0"}}
			if err := w.farm.SetTrunks(w.t.Context(), append(slices.Clone(w.trunks), other)); err != nil {
				w.t.Fatal(err)
			}
		}, func(*messages.SIPInbound) {}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			crossings(t, Registrar{}, func(w *world) {
				declare(w, "c", "sip:carol@example.test", "300")
				declare(w, "desk", "sip:dave@example.test", "")
				declare(w, "300x", "sip:300@other.test", "x300")
				declare(w, "b1", "sip:both@one.test", "")
				declare(w, "b2", "sip:both@two.test", "")
				time.Sleep(time.Second)
				if c.prepare != nil {
					c.prepare(w)
				}
				in := fromPBX()
				c.change(in)
				a := w.arrives(in)
				time.Sleep(time.Second)
				if !a.taken || a.final().Status != c.want {
					w.t.Errorf("taken %v, answered %v, want %d", a.taken, a.statuses(), c.want)
				}
				if invites := w.ua.all("INVITE"); c.from != "" && (len(invites) != 1 || invites[0].From != c.from) {
					w.t.Errorf("INVITE: %+v", invites)
				}
				if c.want == 200 {
					a.ack("")
				}
			})
		})
	}
}

// useHeader makes the trunk find its profiles by a header.
func (w *world) useHeader() {
	w.t.Helper()
	trunk := w.trunks[0]
	trunk.Profile = "header:X-Account"
	if err := w.farm.SetTrunks(w.t.Context(), []Trunk{trunk}); err != nil {
		w.t.Fatal(err)
	}
}

// TestTrunkTargets: what is called.
func TestTrunkTargets(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		for uri, want := range map[string]string{
			"sip:+4930123@203.0.113.1:5070;transport=udp": "sip:+4930123@example.test",
			"sip:+4930123@203.0.113.1;user=phone":         "sip:+4930123@example.test;user=phone",
			"sip:bob:secret@203.0.113.1":                  "sip:bob@example.test",
			"sip:bob@elsewhere.test;transport=tcp":        "sip:bob@elsewhere.test;transport=tcp",
			"tel:+4930123;phone-context=x":                "sip:+4930123@example.test;user=phone",
		} {
			if got, status := w.farm.targetOf(uri, "sip:p0@example.test"); got != want || status != 0 {
				w.t.Errorf("%s: %s, %d; want %s", uri, got, status, want)
			}
		}
	})
}

// TestTrunkLimits: a profile that has as many calls as it may.
func TestTrunkLimits(t *testing.T) {
	crossings(t, Registrar{Sessions: SessionLimits{PerProfile: 1}}, func(w *world) {
		c := w.up(fromPBX())
		second := fromPBX()
		second.CallID, second.Dialog.RemoteTag = "pbx-call-2", "pbxs2"
		if got := w.arrives(second).final().Status; got != 486 {
			w.t.Errorf("a second call: %d", got)
		}
		c.asks(taken, "BYE", 8, "")
		c.wantOver()
		third := fromPBX()
		third.CallID, third.Dialog.RemoteTag = "pbx-call-3", "pbxs3"
		c = w.up(third)
		c.asks(taken, "BYE", 8, "")
		c.wantOver()
	})
}

// TestTrunkLoop: a call that comes back again and again is stopped.
func TestTrunkLoop(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		var all []*crossingOf
		tag, last := "pbxs", 0
		for i := range 8 {
			in := fromPBX()
			if i%2 == 1 {
				in = inviteTo("p0")
			}
			in.CallID, in.Dialog.RemoteTag = in.CallID+strings.Repeat("x", i), tag
			c := w.cross(in)
			time.Sleep(time.Second)
			if last = c.invite.final().Status; last != 200 {
				if i != maxCrossings {
					w.t.Errorf("stopped after %d crossings", i)
				}
				break
			}
			c.invite.ack("")
			all = append(all, c)
			tag = c.ids[placed]
		}
		if last != 482 {
			w.t.Errorf("the last answer is %d", last)
		}
		for _, c := range all {
			c.asks(taken, "BYE", 8, "")
			c.wantOver()
		}
	})
}

// TestTrunkReload: a trunk goes, and the calls that crossed it stay.
func TestTrunkReload(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		c := w.up(fromPBX())
		if err := w.farm.SetTrunks(w.t.Context(), nil); err != nil {
			w.t.Fatal(err)
		}
		if a := c.asks(taken, "INFO", 8, "text"); a.final().Status != 200 || !slices.Equal(valueOf(w.ua.all("INFO")[0].Headers, "Subject"), []string{"inside"}) {
			w.t.Errorf("INFO: %v", a.statuses())
		}
		second := fromPBX()
		second.CallID = "pbx-call-2"
		if w.arrives(second).taken {
			w.t.Error("a call of a trunk that is gone is taken")
		}
		c.asks(placed, "BYE", 30, "")
		c.wantOver()
		if n := len(w.ua.all("BYE")); n != 1 {
			w.t.Errorf("%d BYEs", n)
		}
	})
}
