package sipadapter

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

const resumedBranch = "00112233445566778899aabbccddeeff"

// resumed is the request of an INVITE that an earlier process sent.
func resumed() *messages.SIPRequest {
	r := callRequest()
	r.Branch, r.Resume = resumedBranch, true
	return r
}

// sentBefore is the packet that the earlier process sent for r.
func sentBefore(r *messages.SIPRequest, over transport) []byte {
	k, _ := parseBranch(cookie + resumedBranch)
	return compose(r, "sip:alice@192.0.2.10:5060", "").packet(over, hostPort{"192.0.2.10", 5060}, k)
}

// A resumed INVITE sends nothing, and what still comes is handled as ever.
func TestResume(t *testing.T) {
	cases := []struct {
		name     string
		codes    []string // what comes, a minute apart; "cancel" is ours
		reported string
		sent     string
	}{
		{"nothing comes", nil, "timeout.", ""},
		{"it rings on", []string{"180 Ringing", "180 Ringing"}, "180 180", ""},
		{"it was answered", []string{"200 OK"}, "200", ""},
		{"it rings and is answered", []string{"180 Ringing", "200 OK"}, "180 200", ""},
		{"it was refused", []string{"486 Busy"}, "486.", "ACK"},
		{"it was challenged", []string{"407 Who"}, "407.", "ACK"},
		{"503 goes nowhere else", []string{"503 Busy"}, "503.", "ACK"},
		{"cancelled", []string{"cancel", "487 Terminated"}, "487.", "CANCEL ACK"},
		{"cancelled in vain", []string{"cancel"}, "timeout.", "CANCEL"},
		{"cancelled and answered", []string{"cancel", "200 OK"}, "200", "CANCEL"},
		{"cancelled while it rings", []string{"180 Ringing", "cancel", "487 Terminated"}, "180 487.", "CANCEL ACK"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counters := newRecorder()
				a, conn := memAdapter(t, Options{Counters: counters}, seams{})
				defer shut(t, a)
				before := sentBefore(resumed(), transportUDP)
				start := time.Now()
				var last time.Duration
				w := &witness{t: t, seen: func(messages.InviteReport) { last = time.Since(start) }}
				w.call = a.Invite(resumed(), w.take)
				for _, code := range c.codes {
					if code == "cancel" {
						w.call.Cancel()
						conn.deliver(answerTo(conn.requests("CANCEL")[0].data, "200 OK"), peerAddr)
					} else {
						conn.deliver(answerTo(before, code), peerAddr)
					}
					time.Sleep(20 * time.Second)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				w.want(c.reported)
				if got := methodsOf(conn.packets()); got != c.sent || counters.sent["INVITE"] != 0 {
					t.Errorf("sent %q, want %q; counted %v", got, c.sent, counters.sent)
				}
				if c.reported == "timeout." && last != 32*time.Second {
					t.Errorf("gave up after %v", last)
				}
				if c.codes == nil && a.avoid.rank(target{transportUDP, peerAddr}) != 0 {
					t.Error("an address that was asked nothing is avoided for its silence")
				}
				for _, p := range conn.packets() {
					if headerLine(t, p.data, "Via") != headerLine(t, before, "Via") || p.addr != peerAddr {
						t.Errorf("to %v: %s", p.addr, p.data)
					}
				}
			})
		})
	}
}

// The Call-ID leads to the address that it led to before: there, and nowhere
// else, the CANCEL has the branch of the INVITE.
func TestResumeGoesToTheSameAddress(t *testing.T) {
	dns := equals("192.0.2.21", "192.0.2.22", "192.0.2.23")
	seen := map[string]bool{}
	for i := range 20 {
		synctest.Test(t, func(t *testing.T) {
			r := callToName(transportUDP)
			r.CallID = strings.Repeat("x", i+1)
			r.Branch = resumedBranch
			first, conn := memAdapter(t, Options{Resolver: dns}, seams{})
			place(t, first, r)
			synctest.Wait()
			shut(t, first)
			want := conn.packets()[0]
			second, conn := memAdapter(t, Options{Resolver: dns}, seams{})
			defer shut(t, second)
			again := *r
			again.Resume = true
			w := place(t, second, &again)
			w.call.Cancel() // while DNS is being asked
			synctest.Wait()
			for _, p := range conn.packets() {
				if (p.addr == want.addr) != (branchOf(t, p.data) == branchOf(t, want.data)) {
					t.Errorf("to %v, want %v: %s", p.addr, want.addr, p.data)
				}
			}
			if got := methodsOf(conn.packets()); got != "CANCEL CANCEL CANCEL" {
				t.Errorf("sent %s", got)
			}
			seen[want.addr.String()] = true
			w.want("")
		})
	}
	if len(seen) != 3 {
		t.Errorf("only %v were used", seen)
	}
}

// RFC 3261 §18.2.2: with its connection gone the server answers over one that it
// opens; S-04: from its own address.
func TestResumeOverTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		counters := newRecorder()
		a, _ := memAdapter(t, Options{Counters: counters}, seams{dial: dial})
		defer shut(t, a)
		r := resumed()
		r.NextHop += ";transport=tcp"
		w := place(t, a, r)
		theirs := <-far
		before := sentBefore(r, transportTCP)
		stranger := newStream(a, stranger, false)
		a.receive(answerTo(before, "180 Ringing"), origin{from: stranger.peer, stream: stranger})
		w.want("")
		opened := newStream(a, peerAddr, false)
		a.receive(answerTo(before, "180 Ringing"), origin{from: peerAddr, stream: opened})
		w.want("180")
		go func() { w.call.Cancel() }()
		cancel := readRequest(t, theirs, &framer{})
		if branchOf(t, cancel) != cookie+resumedBranch || !strings.HasPrefix(string(cancel), "CANCEL ") {
			t.Errorf("%s", cancel)
		}
		go discard(theirs)
		_, _ = theirs.Write(answerTo(cancel, "200 OK"))
		_, _ = theirs.Write(answerTo(before, "487 Terminated"))
		synctest.Wait()
		w.want("180 487.")
		if counters.drops(dropSource) != 1 || counters.sent["ACK"] != 1 {
			t.Errorf("drops %v, sent %v", counters.dropped, counters.sent)
		}
	})
}

// A connection that nothing was sent over is not closed for its silence.
func TestResumeOverSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		a, _ := memAdapter(t, Options{}, seams{dial: dial})
		defer shut(t, a)
		r := resumed()
		r.NextHop += ";transport=tcp"
		w := place(t, a, r)
		<-far
		time.Sleep(time.Minute)
		synctest.Wait()
		w.want("timeout.")
		if s := a.Stats(); s.Connections != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// discard reads what is sent to a peer that does not care.
func discard(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}
