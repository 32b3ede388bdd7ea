package actors

import (
	"slices"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

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
