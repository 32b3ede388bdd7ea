package actors

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

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
