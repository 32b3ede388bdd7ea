package actors

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	if acked := a.final().Acked; acked != nil { // the caller of this checks the response
		acked(ack)
	}
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
