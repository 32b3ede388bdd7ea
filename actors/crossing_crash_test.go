package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// restart kills the node and starts it again.
func (w *world) restart() {
	w.t.Helper()
	w.kill()
	w.start()
	synctest.Wait()
}

// TestTrunkRestart: a call that is up goes on after a crash, in both directions,
// with requests, answers and BYE.
func TestTrunkRestart(t *testing.T) {
	for _, near := range []side{taken, placed} {
		for _, in := range []*messages.SIPInbound{fromPBX(), inviteTo("p0")} {
			t.Run(near.String()+" "+in.From, func(t *testing.T) {
				crossings(t, Registrar{}, func(w *world) {
					c := w.up(in)
					w.restart()
					for _, id := range c.ids {
						c.wantSession(id, "established", "")
					}
					w.ua.script(func(u *fakeUA) {
						u.invited = func(c *fakeCall) { c.reply(200, withBody("new answer"), stays(c.q)) }
					})
					if got := c.asks(near, "INFO", 30, "text").final().Status; got != 200 || len(w.ua.all("INFO")) != 1 {
						w.t.Errorf("INFO: %d, sent %v", got, w.ua.methods())
					}
					re := c.asks(near, "INVITE", 31, "new offer")
					time.Sleep(time.Second)
					if got := re.final(); got.Status != 200 || string(got.Body) != "new answer" {
						w.t.Errorf("re-INVITE: %+v", got)
					}
					re.ack("")
					// What the peers allow is known again.
					c.asks(near, "UPDATE", 32, "moved")
					time.Sleep(time.Second)
					want := 0
					if near == placed && in.Source == pbxSource {
						want = 1 // the PBX takes UPDATE; nobody else said so
					}
					if n := len(w.ua.all("UPDATE")); n != want {
						w.t.Errorf("%d UPDATEs, want %d; sent %v", n, want, w.ua.methods())
					}
					c.asks(near, "BYE", 33, "")
					c.wantOver()
					if n := len(w.ua.all("BYE")); n != 1 {
						w.t.Errorf("%d BYEs", n)
					}
					w.wantNoSessions()
				})
			})
		}
	}
}

// TestTrunkRestartEarly: a call that was being set up is ended on both sides.
func TestTrunkRestartEarly(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { c.rings() } })
		w.cross(fromPBX())
		w.restart()
		time.Sleep(time.Minute)
		if n := len(w.ua.all("CANCEL")); n != 1 {
			w.t.Errorf("sent %v", w.ua.methods())
		}
		w.wantNoSessions()
	})
}

// TestTrunkRestartAlone: a leg whose partner ended before the crash is ended.
func TestTrunkRestartAlone(t *testing.T) {
	for _, gone := range []side{taken, placed} {
		t.Run(gone.String(), func(t *testing.T) {
			crossings(t, Registrar{}, func(w *world) {
				c := w.up(fromPBX())
				w.kill()
				stream := sessionStream(c.ids[gone])
				err := w.journal.AppendSession(w.t.Context(), stream, uint64(len(w.journal.streams[stream])), time.Now(),
					messages.NewSessionEvent(&messages.SessionEnded{Reason: string(messages.ReasonRemoteHangup)}))
				if err != nil {
					w.t.Fatal(err)
				}
				w.start()
				time.Sleep(time.Second)
				to := map[side]string{taken: pbxTarget, placed: farTarget}[gone.other()]
				if byes := w.ua.all("BYE"); len(byes) != 1 || byes[0].RequestURI != to {
					w.t.Errorf("BYE: %+v", byes)
				}
				w.wantNoSessions()
			})
		})
	}
}

// TestTrunkRestartBetween: the far end has answered, and the crash comes before
// the PBX is told.
func TestTrunkRestartBetween(t *testing.T) {
	crossings(t, Registrar{}, func(w *world) {
		w.ua.script(func(u *fakeUA) { u.invited = func(c *fakeCall) { c.reply(180) } })
		c := w.cross(fromPBX())
		stream := sessionStream(c.ids[placed])
		state := w.session(c.ids[placed])
		w.kill()
		err := w.journal.AppendSession(w.t.Context(), stream, uint64(len(w.journal.streams[stream])), time.Now(),
			messages.NewSessionEvent(&messages.SessionEstablished{
				Attempt: state.Attempts, Status: 200, Dialog: &messages.Dialog{RemoteTag: "far", Target: farTarget},
			}))
		if err != nil {
			w.t.Fatal(err)
		}
		w.start()
		time.Sleep(time.Minute)
		if n := len(w.ua.all("BYE")); n != 1 {
			w.t.Errorf("sent %v", w.ua.methods())
		}
		w.wantNoSessions()
	})
}

// TestTrunkActorFails: the actor of one leg fails and comes back; the bridge
// does not notice.
func TestTrunkActorFails(t *testing.T) {
	for _, failing := range []side{taken, placed} {
		t.Run(failing.String(), func(t *testing.T) {
			crossings(t, Registrar{}, func(w *world) {
				c := w.up(fromPBX())
				w.journal.plant(sessionStream(c.ids[failing]))
				c.asks(failing, "INFO", 30, "lost")
				w.journal.plant("")
				time.Sleep(time.Minute)
				if got := c.asks(failing, "INFO", 31, "text").final().Status; got != 200 {
					w.t.Errorf("INFO after the failure: %d", got)
				}
				c.asks(failing.other(), "BYE", 32, "")
				time.Sleep(time.Minute)
				c.wantOver()
				w.wantNoSessions()
			})
		})
	}
}
