package muster_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

// caller declares a profile that only places calls.
func caller(id string) actors.Declaration {
	return actors.Declaration{
		ID: id, AOR: aorOf(id), Registrar: "r", Password: messages.NewSecret("pw-" + id), NoRegister: true,
	}
}

// wantEnd reads events until the session is over.
func wantEnd(t *testing.T, s *muster.Session, reason messages.Reason) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case e, open := <-s.Events():
			if !open {
				t.Fatal("events are closed without an end")
			}
			if e.Kind != session.NoticeEnded {
				continue
			}
			if e.Reason != reason {
				t.Fatalf("ended: %s (%d), want %s", e.Reason, e.Status, reason)
			}
			if _, open := <-s.Events(); open {
				t.Fatal("an event after the end")
			}
			return
		case <-limit:
			t.Fatal("the session does not end")
		}
	}
}

// TestCallThroughAChallenge: the INVITE is repeated with credentials: same
// Call-ID and From tag, no To tag, the next CSeq, the same body (CHA-02, CHA-03,
// CHA-05); a 180 with a tag before the challenge changes nothing of that
// (INV-04).
func TestCallThroughAChallenge(t *testing.T) {
	t.Parallel()
	callee, err := siptest.NewCallee(siptest.CalleeOptions{
		Body: sdp, ContentType: "application/sdp",
		Behaviour: func(q *siptest.Request) *siptest.Reply {
			if q.Method != "INVITE" || q.HadCredentials {
				return nil
			}
			return &siptest.Reply{Status: 180, Then: []*siptest.Reply{{
				Status: 407, Headers: []string{`Proxy-Authenticate: Digest realm="example.test", nonce="n1", qop="auth", algorithm=MD5`},
			}}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = callee.Close() })
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:" + callee.Addr(), Rate: -1, Realms: []string{"example.test"}}},
		Profiles:   []actors.Declaration{caller("alice")},
	}})
	s, err := node.StartSession(t.Context(), muster.Call{Profile: "alice", Target: "sip:bob@example.test", Body: []byte(sdp)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitEstablished(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, s, messages.ReasonHangup)
	var invites []siptest.Seen
	for _, q := range callee.Requests() {
		if q.Method == "INVITE" && q.Retransmission == 0 {
			invites = append(invites, q)
		}
	}
	if len(invites) != 2 {
		t.Fatalf("%d INVITEs, want 2", len(invites))
	}
	first, second := invites[0], invites[1]
	if second.CSeq != first.CSeq+1 || second.CallID != first.CallID {
		t.Errorf("CSeq %d then %d, Call-IDs %s and %s", first.CSeq, second.CSeq, first.CallID, second.CallID)
	}
	eventually(t, "the call is acknowledged and ended", func() bool {
		calls := callee.Calls()
		return len(calls) == 1 && calls[0].Acknowledged && calls[0].Ended && calls[0].Offer == sdp
	})
	history, err := node.SessionHistory(t.Context(), s.ID(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, e := range history {
		types = append(types, e.Type)
	}
	for _, want := range []string{"SessionStarted", "ChallengeReceived", "CredentialsSupplied", "SessionEstablished", "SessionEnded"} {
		if !strings.Contains(strings.Join(types, " "), want) {
			t.Errorf("the history has no %s: %v", want, types)
		}
	}
}

// TestTwoNodesTalk: a call between two nodes of one process, with a re-INVITE
// and an INFO inside it, ended by the callee.
func TestTwoNodesTalk(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	taken := make(chan *muster.Invitation, 1)
	second := startNode(t, muster.Options{
		Desired: muster.Desired{
			Registrars: []actors.Registrar{{Name: "r", URI: "sip:127.0.0.1:9", Rate: -1}},
			Profiles:   []actors.Declaration{caller("bob")},
		},
		OnInvite: func(i *muster.Invitation) {
			i.OnRequest = func(r *muster.PeerRequest) {
				mu.Lock()
				asked = append(asked, r.Method+" "+string(r.Dialog.Body))
				mu.Unlock()
				if err := r.Respond(t.Context(), actors.SessionReply{Status: 200, Body: r.Dialog.Body, ContentType: r.Dialog.ContentType}); err != nil {
					t.Error(err)
				}
			}
			if err := i.Ring(t.Context(), "", nil); err != nil {
				t.Error(err)
			}
			if err := i.Accept(t.Context(), "application/sdp", []byte(sdp)); err != nil {
				t.Error(err)
			}
			taken <- i
		},
	})
	address := strings.TrimPrefix(second.SIPAddrs()[0], "udp://")
	first := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:" + address, Rate: -1}},
		Profiles:   []actors.Declaration{caller("alice")},
	}})
	s, err := first.StartSession(t.Context(), muster.Call{Profile: "alice", Target: "sip:bob@example.test", Body: []byte(sdp)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitEstablished(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []actors.InDialog{
		{Method: "INVITE", ContentType: "application/sdp", Body: []byte(sdp + "a=sendonly\r\n")},
		{Method: "INFO", ContentType: "application/dtmf-relay", Body: []byte("Signal=5")},
	} {
		result, err := s.Request(t.Context(), r)
		if err != nil || result.Status != 200 || string(result.Body) != string(r.Body) {
			t.Errorf("%s: %+v, %v", r.Method, result, err)
		}
	}
	callee := <-taken
	if err := callee.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, s, messages.ReasonRemoteHangup)
	wantEnd(t, callee.Session, messages.ReasonHangup)
	mu.Lock()
	defer mu.Unlock()
	if want := "INVITE " + sdp + "a=sendonly\r\n" + "|INFO Signal=5"; strings.Join(asked, "|") != want {
		t.Errorf("asked %q", asked)
	}
	for _, node := range []*muster.Node{first, second} {
		page, err := node.Sessions(t.Context(), actors.SessionQuery{})
		if err != nil || len(page.Sessions) > 0 {
			t.Errorf("left: %+v, %v", page, err)
		}
	}
}
