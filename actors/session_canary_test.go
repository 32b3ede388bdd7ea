package actors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// shared is a buffer that many write to.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }

func (s *shared) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// TestS62_NoBodyHeaderOrCredentialOfASessionIsTold: marked bodies, header values
// and passwords go through everything that can happen to a session, also through
// panics and failures, and stand in no event, log line, change, listing or
// error.
func TestS62_NoBodyHeaderOrCredentialOfASessionIsTold(t *testing.T) {
	out := &shared{}
	say := func(err error) { fmt.Fprintln(out, "error:", err) }
	owner := &fakeOwner{on: func(n SessionNotice) {
		if n.Kind == session.NoticeProgress {
			panic(fmt.Sprint("canary ", n.Response.Dialog.Body))
		}
	}}
	calls(t, Registrar{SessionHandler: "tokens>digest"}, func(w *world) {
		w.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w.onInvite = func(IncomingCall) Owner { return &fakeOwner{} }
		asked := 0
		w.xsps = []XSP{{Name: "tokens", Authenticator: xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			switch asked++; asked {
			case 1:
				return nil, &xsp.Refusal{Reason: "not mine"}
			case 2:
				a := solve(q)
				a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: messages.Op_SET, Name: "X-Marked", Value: "canary-header"})
				return a, nil
			case 3:
				panic("canary-panic")
			}
			return solve(q), nil
		})}}
	}, func(w *world) {
		changes, err := w.farm.Watch(w.t.Context(), ChangeQuery{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) {
				c.reply(183, withBody("canary-sdp early"))
				if !hasCredentials(c.q, "Proxy-Authorization", "example.test") {
					c.reply(407, challenging(messages.Space_PROXY, "example.test", "n"))
					return
				}
				c.reply(200, withBody(answerSDP))
			}
		})
		for range 4 {
			id := w.call(owner)
			time.Sleep(10 * time.Second)
			_, err := w.farm.SendInSession(w.t.Context(), id, InDialog{
				Method: "INFO", ContentType: "text/plain", Body: []byte("canary-sdp info"),
				Headers: []messages.Header{{Name: "X-Info", Value: "canary-header"}},
			})
			say(err)
			info := w.farm.Inbound
			if _, ok := w.farm.session(id); ok {
				in := w.inside(id, "INFO", 50)
				in.Dialog.Body, in.Dialog.ContentType = []byte("canary-sdp in"), "text/plain"
				info(in)
			}
			_, err = w.farm.EndSession(w.t.Context(), id)
			say(err)
		}
		in := w.arrives(inviteTo("p0"))
		page, _ := w.farm.Sessions(w.t.Context(), SessionQuery{})
		for _, s := range page.Sessions {
			say(w.farm.ReplyInSession(w.t.Context(), s.ID, SessionReply{
				Method: "INVITE", CSeq: in.CSeq, Status: 200, Body: []byte(answerSDP), Headers: []messages.Header{{Name: "X-Ours", Value: "canary-header"}},
			}))
			say(w.farm.ReplyInSession(w.t.Context(), s.ID, SessionReply{Method: "INVITE", CSeq: 1, Status: 200, Body: []byte(answerSDP)}))
			say(w.farm.AnswerSession(w.t.Context(), s.ID, "canary-sdp", []byte("canary-sdp")))
		}
		page, _ = w.farm.Sessions(w.t.Context(), SessionQuery{})
		fmt.Fprintf(out, "listing: %+v\n", page)
		for _, bad := range []SessionRequest{
			{Profile: "p0", Target: "sip:bob:canary-secret@example.test?X=canary-header"},
			{Profile: "p0", Target: "canary-secret"},
			{Profile: "p0", Target: "sip:bob@example.test", Headers: []messages.Header{{Name: "Via", Value: "canary-header"}}},
			{Profile: "p0", Target: "sip:bob@example.test", Headers: []messages.Header{{Name: "X", Value: "canary-header\r\nY: z"}}},
			{Profile: "p0", Target: "sip:bob@example.test", Headers: []messages.Header{{Name: "canary-header: x", Value: "y"}}},
			{Profile: "p0", Target: "sip:bob@example.test", ContentType: "canary-sdp", Body: []byte("canary-sdp")},
		} {
			_, err := w.farm.StartSession(w.t.Context(), bad)
			if !errors.Is(err, ErrInvalidSession) {
				w.t.Errorf("%+v is taken: %v", bad, err)
			}
			say(err)
		}
		w.journal.fail(errors.New("broken"))
		_, err = w.farm.StartSession(w.t.Context(), SessionRequest{Profile: "p0", Target: "sip:bob@example.test", Body: []byte(offerSDP)})
		say(err)
		w.journal.fail(nil)
		time.Sleep(time.Minute)
		w.farm.changes.end()
		for c := range changes {
			fmt.Fprintf(out, "change: %+v\n", c)
		}
		for stream, events := range w.journal.streams {
			for _, e := range events {
				b, err := e.MarshalVT()
				if err != nil {
					w.t.Fatal(err)
				}
				fmt.Fprintf(out, "event: %s %s\n", stream, b)
			}
		}
		told := out.String()
		if len(told) < 10_000 || !strings.Contains(told, "SessionEstablished") {
			w.t.Fatalf("only %d bytes were told; the test does not look where it should", len(told))
		}
		secrets := []string{"canary", "pw-p0"}
		for _, q := range append(w.ua.all("INVITE"), w.ua.all("ACK")...) {
			for _, m := range q.Mutations {
				parsed, err := challenge.Parse(m.GetValue())
				if err == nil {
					secrets = append(secrets, parsed.Map()["response"], parsed.Map()["cnonce"])
				}
			}
		}
		if len(secrets) < 6 {
			w.t.Errorf("only %d secrets to look for", len(secrets))
		}
		for _, secret := range secrets {
			if i := strings.Index(strings.ToLower(told), strings.ToLower(secret)); i >= 0 {
				w.t.Errorf("%s stands in: %s", secret, told[max(0, i-200):min(len(told), i+100)])
			}
		}
	})
}
