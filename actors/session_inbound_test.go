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

// taken runs a test in a world whose calls a fakeOwner takes.
func takenBy(t *testing.T, owner *fakeOwner, test func(w *world, call func() IncomingCall)) {
	t.Helper()
	var got IncomingCall
	calls(t, Registrar{}, func(w *world) {
		w.onInvite = func(c IncomingCall) Owner { got = c; return owner }
	}, func(w *world) { test(w, func() IncomingCall { return got }) })
}

func TestInboundCallIsAnswered(t *testing.T) {
	owner := &fakeOwner{}
	takenBy(t, owner, func(w *world, call func() IncomingCall) {
		in := w.arrives(inviteTo("p0"))
		id := call().Session
		if !in.taken || call().Profile != "p0" || call().Request.Respond != nil {
			w.t.Fatalf("taken %t: %+v", in.taken, call())
		}
		wantTold(w.t, owner, "request")
		v := w.wantSession(id, "early", "")
		if v.Direction != "inbound" || v.AOR != "sip:p0@example.test" || v.Peer != "sip:carol@example.test" || v.Body != offerSDP {
			w.t.Errorf("view: %+v", v)
		}
		answer := func(status int, body string) {
			w.t.Helper()
			r := SessionReply{Method: "INVITE", CSeq: 7, Status: status, Body: []byte(body), Headers: []messages.Header{{Name: "X-Ours", Value: "canary-header"}}}
			if err := w.farm.ReplyInSession(w.t.Context(), id, r); err != nil {
				w.t.Error(err)
			}
		}
		answer(180, "")
		answer(200, answerSDP)
		w.wantSession(id, "established", "")
		final := in.final()
		if !slices.Equal(in.statuses(), []int{180, 200}) || final.Tag != id || final.ContactUser != "p0" || string(final.Body) != answerSDP || final.Acked == nil {
			w.t.Errorf("answered %+v", in.replies)
		}
		if _, body, _ := w.bodies.Body(id); string(body) != answerSDP {
			w.t.Errorf("kept %q", body)
		}
		// RFC 3261 §15: no BYE before the ACK.
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(id, "ending", messages.ReasonHangup)
		w.wantMethods()
		final.Acked(w.inside(id, "ACK", 7))
		w.wantMethods("BYE")
		bye := w.ua.all("BYE")[0]
		if bye.From != "sip:p0@example.test" || bye.FromTag != id || bye.To != "sip:carol@example.test" || bye.ToTag != "carols" ||
			bye.RequestURI != "sip:carol@198.51.100.7" || bye.CallID != "in-p0" {
			w.t.Errorf("BYE %+v", bye)
		}
		w.wantSession(id, "ended", messages.ReasonHangup)
		wantTold(w.t, owner, "request", "established", "ended")
	})
}

// TestInboundAckNeverComes: AckMissing ends the call, by a BYE that waited.
func TestInboundAckNeverComes(t *testing.T) {
	owner := &fakeOwner{}
	takenBy(t, owner, func(w *world, call func() IncomingCall) {
		in := w.arrives(inviteTo("p0"))
		if err := w.farm.ReplyInSession(w.t.Context(), call().Session, SessionReply{Method: "INVITE", CSeq: 7, Status: 200, Body: []byte(answerSDP)}); err != nil {
			w.t.Fatal(err)
		}
		in.final().Acked(nil)
		w.wantSession(call().Session, "ended", messages.ReasonNoACK)
		w.wantMethods("BYE")
	})
}

// TestInboundLateOffer: the answer comes in the ACK, and goes to the owner.
func TestInboundLateOffer(t *testing.T) {
	owner := &fakeOwner{}
	takenBy(t, owner, func(w *world, call func() IncomingCall) {
		invite := inviteTo("p0")
		invite.Dialog.Body, invite.Dialog.ContentType = nil, ""
		in := w.arrives(invite)
		if err := w.farm.ReplyInSession(w.t.Context(), call().Session, SessionReply{Method: "INVITE", CSeq: 7, Status: 200, Body: []byte(offerSDP)}); err != nil {
			w.t.Fatal(err)
		}
		ack := w.inside(call().Session, "ACK", 7)
		ack.Dialog.ContentType, ack.Dialog.Body = "application/sdp", []byte(answerSDP)
		in.final().Acked(ack)
		wantTold(w.t, owner, "request", "established", "received")
		if n := owner.last(session.NoticeReceived); n.Request == nil || string(n.Request.Dialog.Body) != answerSDP {
			w.t.Errorf("notice %+v", n)
		}
		if v := w.session(call().Session); v.Body != answerSDP {
			w.t.Errorf("view shows %q", v.Body)
		}
	})
}

func TestInboundCallIsRejectedOrCancelled(t *testing.T) {
	owner := &fakeOwner{}
	takenBy(t, owner, func(w *world, call func() IncomingCall) {
		in := w.arrives(inviteTo("p0"))
		if err := w.farm.ReplyInSession(w.t.Context(), call().Session, SessionReply{Method: "INVITE", CSeq: 7, Status: 603, Phrase: "No"}); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(call().Session, "ended", messages.ReasonDeclined)
		if r := in.final(); r.Status != 603 || r.Phrase != "No" {
			w.t.Errorf("answered %+v", r)
		}

		in = w.arrives(inviteTo("p0"))
		cancel := *in.SIPInbound
		cancel.Method = "CANCEL"
		if got := w.arrives(&cancel); !got.taken {
			w.t.Error("the CANCEL was not taken")
		}
		w.wantSession(call().Session, "ended", messages.ReasonRemoteHangup)
		if r := in.final(); r.Status != 487 {
			w.t.Errorf("answered %+v, want 487", in.replies)
		}
		if got := w.arrives(&cancel); got.taken {
			w.t.Error("a CANCEL for a call that is answered was taken")
		}

		in = w.arrives(inviteTo("p0"))
		if _, err := w.farm.EndSession(w.t.Context(), call().Session); err != nil {
			w.t.Fatal(err)
		}
		if r := in.final(); r.Status != 480 {
			w.t.Errorf("hanging up while it rings answers %+v, want 480", in.replies)
		}
		if n := 0; func() bool { w.farm.early.Range(func(any, any) bool { n++; return true }); return n != 0 }() {
			w.t.Errorf("%d calls are still entered for a CANCEL", n)
		}
	})
}

// TestInboundInsideTheDialog: requests of the peer that the owner answers, and
// those that belong to nobody.
func TestInboundInsideTheDialog(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		owner := &fakeOwner{}
		id := w.call(owner)
		time.Sleep(time.Second)
		if in := w.arrives(w.inside(id, "OPTIONS", 1)); in.final().Status != 200 || in.final().Tag != id {
			w.t.Errorf("OPTIONS: %+v", in.replies)
		}
		info := w.inside(id, "INFO", 2)
		info.Dialog.ContentType, info.Dialog.Body = "application/dtmf", []byte("5")
		in := w.arrives(info)
		if n := owner.last(session.NoticeRequest); n.Request == nil || n.Request.Method != "INFO" || len(in.statuses()) != 0 {
			w.t.Errorf("the owner was told %+v, and the INFO answered %v", n, in.statuses())
		}
		if err := w.farm.ReplyInSession(w.t.Context(), id, SessionReply{Method: "INFO", CSeq: 2, Status: 200}); err != nil {
			w.t.Error(err)
		}
		if in.final().Status != 200 {
			w.t.Errorf("INFO: %+v", in.replies)
		}
		if err := w.farm.ReplyInSession(w.t.Context(), id, SessionReply{Method: "INFO", CSeq: 2, Status: 200}); !errors.Is(err, ErrSessionState) {
			w.t.Errorf("a second answer: %v", err)
		}

		// Somebody who guesses the tag, but not the rest.
		stranger := w.inside(id, "BYE", 3)
		stranger.CallID = "another"
		if in := w.arrives(stranger); in.taken {
			w.t.Error("a BYE with another Call-ID was taken")
		}
		stranger = w.inside(id, "BYE", 3)
		stranger.Dialog.RemoteTag = "another"
		if in := w.arrives(stranger); in.final().Status != 481 {
			w.t.Errorf("a BYE with another From tag is answered %+v, want 481", in.replies)
		}
		stranger.ToTag = strings.Repeat("0", idDigits)
		if in := w.arrives(stranger); in.taken {
			w.t.Error("a BYE for no session was taken")
		}

		bye := w.inside(id, "BYE", 4)
		if in := w.arrives(bye); in.final().Status != 200 {
			w.t.Errorf("BYE: %+v", in.replies)
		}
		w.wantSession(id, "ended", messages.ReasonRemoteHangup)
		if in := w.arrives(bye); in.taken {
			w.t.Error("a BYE for a session that is over was taken")
		}
		wantTold(w.t, owner, "progress", "established", "request", "ended")
	})
}

// TestInboundPicksTheProfile: by contact user and id; of several by To, then by
// the registrar that sent it; nobody else.
func TestInboundPicksTheProfile(t *testing.T) {
	var got []string
	calls(t, Registrar{}, func(w *world) {
		w.onInvite = func(c IncomingCall) Owner { got = append(got, c.Profile); return nil }
	}, func(w *world) {
		declare := func(id, aor, contact string, disabled bool) {
			w.farm.Declare(w.t.Context(), []Declared{{ID: id, Command: profile.Declare{
				Spec: profile.Spec{AOR: aor, Registrar: "r", ContactUser: contact}, Disabled: disabled, Source: "api", Patch: true,
			}}}, false)
		}
		declare("one", "sip:one@example.test", "line", false)
		declare("two", "sip:two@example.test", "line", false)
		declare("off", "sip:off@example.test", "", true)
		check := func(user, to, want string) {
			w.t.Helper()
			got = nil
			in := inviteTo(user)
			in.To = to
			w.arrives(in)
			if strings.Join(got, " ") != want {
				w.t.Errorf("an INVITE to %s, To %s, goes to %v, want %q", user, to, got, want)
			}
		}
		check("p0", "sip:anybody@example.test", "p0")
		check("line", "sip:two@EXAMPLE.test:5060;x=y", "two")
		check("line", "sip:three@example.test", "") // both belong to the registrar that sent it
		check("one", "sip:one@example.test", "one") // its id
		check("off", "sip:off@example.test", "")
		check("nobody", "sip:nobody@example.test", "")
		check("p%30", "sip:p0@example.test", "p0")
		declare("one", "sip:one@example.test", "desk", false)
		check("desk", "sip:x@example.test", "one")
		check("line", "sip:x@example.test", "two")
		if _, err := w.farm.Do(w.t.Context(), "two", profile.Remove{ByOperator: true}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Second)
		check("line", "sip:two@example.test", "")
		declare("two", "sip:two@example.test", "line", false)
		check("line", "sip:two@example.test", "two")
		w.stop()
		w.start()
		check("line", "sip:two@example.test", "two")
		check("desk", "sip:x@example.test", "one")
	})
}

// TestInboundHandlerPanics: the shard lives on and the call is refused.
func TestInboundHandlerPanics(t *testing.T) {
	calls(t, Registrar{}, func(w *world) {
		w.onInvite = func(IncomingCall) Owner { panic("canary") }
	}, func(w *world) {
		if in := w.arrives(inviteTo("p0")); in.final().Status != 480 {
			w.t.Errorf("answered %+v, want 480", in.replies)
		}
		w.wantStates(map[string]int{StateRegistered: 1})
		if w.farm.counts.profile["p0"] != 0 {
			w.t.Errorf("%d sessions count", w.farm.counts.profile["p0"])
		}
	})
}

// TestInboundWithoutAHandler: the adapter answers by itself.
func TestInboundWithoutAHandler(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		if in := w.arrives(inviteTo("p0")); in.taken {
			w.t.Error("an INVITE was taken although nobody takes calls")
		}
	})
}
