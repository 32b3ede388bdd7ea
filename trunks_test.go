package muster_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// TestTrunk: a PBX, which is a node of its own on another address, calls through
// a profile and is called, over UDP. The trunk comes and goes by reload.
func TestTrunk(t *testing.T) {
	t.Parallel()
	const pbxHost = "127.0.0.2"
	if probe, err := net.ListenPacket("udp", pbxHost+":0"); err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	} else {
		_ = probe.Close()
	}
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
	desired := muster.Desired{
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:" + callee.Addr(), Rate: -1, Realms: []string{"example.test"}}},
		Profiles:   []actors.Declaration{caller("alice")},
	}
	node := startNode(t, muster.Options{Desired: desired})
	at := func(n *muster.Node) string { return strings.TrimPrefix(n.SIPAddrs()[0], "udp://") }

	invited := make(chan *muster.Invitation, 1)
	pbx := startNode(t, muster.Options{
		SIP: muster.SIP{Listen: []string{"udp://" + pbxHost + ":0", "tcp://" + pbxHost + ":0"}},
		Desired: muster.Desired{
			Registrars: []actors.Registrar{{Name: "r", URI: "sip:" + at(node), Rate: -1}},
			Profiles:   []actors.Declaration{caller("alice")},
		},
		OnInvite: func(i *muster.Invitation) {
			if err := i.Accept(t.Context(), "application/sdp", []byte(sdp)); err != nil {
				t.Error(err)
			}
			invited <- i
		},
	})
	callOut := func() *muster.Session {
		s, err := pbx.StartSession(t.Context(), muster.Call{Profile: "alice", Target: "sip:bob@" + at(node), Body: []byte(sdp)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	desired.Trunks = []actors.Trunk{{
		Name: "pbx", Peers: []netip.Prefix{netip.MustParsePrefix(pbxHost + "/32")}, URI: "sip:" + at(pbx),
		Profile: actors.ProfileFrom, Registrar: "r",
	}}
	if err := node.Apply(t.Context(), desired); err != nil {
		t.Fatal(err)
	}

	// The PBX calls; it sees no challenge.
	s := callOut()
	if err := s.WaitEstablished(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := s.View(t.Context()); err != nil || v.Attempts != 1 || v.Body != sdp {
		t.Errorf("the PBX's call: %+v, %v", v, err)
	}
	page, err := node.Sessions(t.Context(), actors.SessionQuery{})
	if err != nil || len(page.Sessions) != 2 {
		t.Fatalf("sessions: %+v, %v", page, err)
	}
	for i, v := range page.Sessions {
		if v.Bridge != page.Sessions[1-i].ID || v.Trunk != "pbx" || v.Profile != "alice" ||
			v.Direction == "outbound" && v.Peer != "sip:bob@example.test" {
			t.Errorf("leg: %+v", v)
		}
	}
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, s, messages.ReasonHangup)
	eventually(t, "the far end sees one call, acknowledged and ended", func() bool {
		calls := callee.Calls()
		return len(calls) == 1 && calls[0].Invites == 2 && calls[0].Acknowledged && calls[0].Ended && calls[0].Offer == sdp
	})

	// It is called, and hangs up.
	far := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:" + at(node), Rate: -1}},
		Profiles:   []actors.Declaration{caller("carol")},
	}})
	in, err := far.StartSession(t.Context(), muster.Call{Profile: "carol", Target: "sip:alice@" + at(node), Body: []byte(sdp)})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.WaitEstablished(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := <-invited
	if v, err := i.View(t.Context()); err != nil || v.Peer != aorOf("carol") || v.Body != sdp {
		t.Errorf("the PBX was called by %+v, %v", v, err)
	}
	if err := i.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, in, messages.ReasonRemoteHangup)
	eventually(t, "no session is left", func() bool {
		page, err := node.Sessions(t.Context(), actors.SessionQuery{})
		return err == nil && len(page.Sessions) == 0
	})

	// Without the trunk nobody takes its calls.
	desired.Trunks = nil
	if err := node.Apply(t.Context(), desired); err != nil {
		t.Fatal(err)
	}
	if err := callOut().WaitEstablished(t.Context()); err == nil {
		t.Error("a call of a peer that is not trusted any more was taken")
	}
}

func TestTrunksAreChecked(t *testing.T) {
	t.Parallel()
	_, err := muster.New(muster.Options{DataDir: t.TempDir() + "/data", Desired: muster.Desired{
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:127.0.0.1"}},
		Trunks:     []actors.Trunk{{Name: "pbx", URI: "sip:10.0.0.5", Profile: "from", Registrar: "elsewhere"}},
	}})
	if err == nil || !strings.Contains(err.Error(), "names no peer") || !strings.Contains(err.Error(), `registrar "elsewhere" is not configured`) {
		t.Errorf("got %v", err)
	}
}
