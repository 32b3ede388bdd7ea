package sipadapter

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// equals is a resolver with one name from whose servers the Call-ID chooses.
func equals(list ...string) *fakeResolver {
	f := farm(list...)
	for _, records := range f.srv {
		for i := range records {
			records[i].Priority, records[i].Weight = 1, 1
		}
	}
	return f
}

// leave places an INVITE that is answered by statuses, and ends the process. It
// returns the INVITE that was sent last.
func leave(t *testing.T, o Options, r *messages.SIPRequest, statuses map[string]string, avoided ...string) datagram {
	t.Helper()
	a, conn := memAdapter(t, o, seams{})
	for _, host := range avoided {
		a.avoid.failed(target{transportUDP, netip.MustParseAddrPort(host + ":5060")}, 0)
	}
	conn.peer = statusBy(statuses)
	place(t, a, r)
	synctest.Wait()
	shut(t, a)
	invites := conn.requests("INVITE")
	return invites[len(invites)-1]
}

// takenUp is the request with which a session takes up r: the body is gone.
func takenUp(r *messages.SIPRequest) *messages.SIPRequest {
	q := *r
	q.Resume, q.Body, q.ContentType = true, nil, ""
	return &q
}

// GEN-11: an INVITE that was too large for a datagram, and that a target without
// TCP got by UDP after all, is cancelled there by its branch, and its answer is
// found.
func TestResumeOfALargeInvite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := callRequest()
		r.Branch, r.Body = resumedBranch, make([]byte, 1300)
		invite := leave(t, Options{}, r, map[string]string{"20": "180 Ringing"})

		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		w := place(t, a, takenUp(r))
		w.call.Cancel()
		synctest.Wait()
		got := conn.packets()
		if methodsOf(got) != "CANCEL" || headerLine(t, got[0].data, "Via") != headerLine(t, invite.data, "Via") {
			t.Errorf("sent %s; the INVITE was %s", methodsOf(got), invite.data)
		}
		conn.deliver(answerTo(invite.data, "200 OK"), peerAddr)
		synctest.Wait()
		w.want("200")
	})
}

// GEN-11: an INVITE that only its size sent over TCP is cancelled there, although
// the body that made it large is gone, and RFC 3261 §18.2.2: its answer comes over
// a connection that the server opens.
func TestResumeOverTCPForItsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		first, _ := memAdapter(t, Options{}, seams{dial: dial})
		r := callRequest()
		r.Branch, r.Body = resumedBranch, make([]byte, 1300)
		place(t, first, r)
		invite := readRequest(t, <-far, &framer{})
		shut(t, first)

		a, _ := memAdapter(t, Options{}, seams{dial: dial})
		defer shut(t, a)
		w := place(t, a, takenUp(r))
		w.call.Cancel()
		cancel := readRequest(t, <-far, &framer{})
		if headerLine(t, cancel, "Via") != headerLine(t, invite, "Via") {
			t.Errorf("the CANCEL is not that of the INVITE: %s", cancel)
		}
		opened := newStream(a, peerAddr, false)
		a.receive(answerTo(invite, "200 OK"), origin{from: peerAddr, stream: opened})
		synctest.Wait()
		w.want("200")
	})
}

// ERR-10, ERR-14: an INVITE that had gone on to another address, or passed over
// one, is found and cancelled where it went.
func TestResumeAfterFailover(t *testing.T) {
	const first, second, third = "192.0.2.21", "192.0.2.22", "192.0.2.23"
	for name, c := range map[string]struct {
		statuses map[string]string
		avoided  []string
		last     string
	}{
		"the second":               {map[string]string{"21": "503 Busy", "22": "180 Ringing"}, nil, second},
		"the third":                {map[string]string{"21": "503 Busy", "22": "503 Busy"}, nil, third},
		"the first is passed over": {nil, []string{first}, second},
		"the second as well":       {map[string]string{"22": "503 Busy"}, []string{first}, third},
		"the middle":               {map[string]string{"21": "503 Busy"}, []string{second}, third},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// One address is listed twice, which changes nothing.
				o := Options{Resolver: farm(first, second, first, third)}
				r := callToName(transportUDP)
				r.Branch = resumedBranch
				invite := leave(t, o, r, c.statuses, c.avoided...)
				if got := invite.addr.Addr().String(); got != c.last {
					t.Fatalf("the INVITE went to %s", got)
				}

				a, conn := memAdapter(t, o, seams{})
				defer shut(t, a)
				w := place(t, a, takenUp(r))
				synctest.Wait()
				w.call.Cancel()
				synctest.Wait()
				if got := destinations(conn.packets()); got != "21 22 23" {
					t.Errorf("CANCELs to %s", got)
				}
				for _, p := range conn.packets() {
					if (p.addr == invite.addr) != (branchOf(t, p.data) == branchOf(t, invite.data)) {
						t.Errorf("to %v, the INVITE to %v: %s", p.addr, invite.addr, p.data)
					}
				}
				conn.deliver(answerTo(invite.data, "200 OK"), invite.addr)
				synctest.Wait()
				w.want("200")
			})
		})
	}
}

// The first answer tells where the INVITE is: the CANCEL leaves for there alone,
// and nothing else is waited for.
func TestResumeKnowsTheWayOnceAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		o := Options{Resolver: farm("192.0.2.21", "192.0.2.22"), Counters: counters}
		r := callToName(transportUDP)
		r.Branch = resumedBranch
		invite := leave(t, o, r, map[string]string{"21": "503 Busy", "22": "180 Ringing"})

		a, conn := memAdapter(t, o, seams{})
		defer shut(t, a)
		w := place(t, a, takenUp(r))
		synctest.Wait()
		conn.deliver(answerTo(invite.data, "180 Ringing"), netip.MustParseAddrPort("192.0.2.21:5060"))
		synctest.Wait()
		w.want("") // S-04: this branch did not go there
		conn.deliver(answerTo(invite.data, "180 Ringing"), invite.addr)
		synctest.Wait()
		if n := a.table.size(); n != 1 {
			t.Errorf("%d transactions", n)
		}
		time.Sleep(time.Hour)
		w.call.Cancel()
		conn.deliver(answerTo(conn.requests("CANCEL")[0].data, "200 OK"), invite.addr)
		conn.deliver(answerTo(invite.data, "487 Terminated"), invite.addr)
		time.Sleep(time.Hour)
		w.want("180 487.")
		if got := conn.packets(); methodsOf(got) != "CANCEL ACK" || destinations(got) != "22 22" {
			t.Errorf("sent %s to %s", methodsOf(got), destinations(got))
		}
		if s := a.Stats(); a.table.size() != 0 || s.Pending != 0 || counters.drops(dropSource) != 1 {
			t.Errorf("%d transactions, stats %+v, drops %v", a.table.size(), s, counters.dropped)
		}
	})
}

// A 503 that comes again is not the end: the earlier process may have gone on
// from there. It is what is reported when no other answer comes.
func TestResumeAfterA503(t *testing.T) {
	for name, c := range map[string]struct {
		status, reported string
		acks             string
	}{
		"it had gone on":   {"486 Busy", "486.", "21 22"},
		"it was the first": {"", "503.", "21"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{Resolver: farm("192.0.2.21", "192.0.2.22")}
				r := callToName(transportUDP)
				r.Branch = resumedBranch
				first, conn := memAdapter(t, o, seams{})
				conn.peer = statusBy(map[string]string{"21": "503 Busy"})
				place(t, first, r)
				synctest.Wait()
				shut(t, first)
				invites := conn.requests("INVITE")

				a, conn := memAdapter(t, o, seams{})
				defer shut(t, a)
				w := place(t, a, takenUp(r))
				synctest.Wait()
				conn.deliver(answerTo(invites[0].data, "503 Busy"), invites[0].addr)
				synctest.Wait()
				w.want("")
				if c.status != "" {
					conn.deliver(answerTo(invites[1].data, c.status), invites[1].addr)
				}
				time.Sleep(time.Hour)
				w.want(c.reported)
				if got := conn.packets(); destinations(got) != c.acks || len(only("ACK", got)) != len(got) {
					t.Errorf("sent %s to %s", methodsOf(got), destinations(got))
				}
			})
		})
	}
}

// An INVITE is not taken up while it is there, wherever it has got to.
func TestResumeOfAnInviteThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
		defer shut(t, a)
		conn.peer = statusBy(map[string]string{"21": "503 Busy", "22": "180 Ringing"})
		r := callToName(transportUDP)
		r.Branch = resumedBranch
		first := place(t, a, r)
		time.Sleep(time.Minute) // the branch of the first attempt is free
		second := place(t, a, takenUp(r))
		second.call.Cancel()
		synctest.Wait()
		second.want(string(messages.ReasonConfiguration) + ".")
		invites := conn.requests("INVITE")
		last := invites[len(invites)-1]
		conn.deliver(answerTo(last.data, "200 OK"), last.addr)
		synctest.Wait()
		first.want("180 200")
		if n := len(conn.requests("CANCEL")); n != 0 {
			t.Errorf("%d CANCELs", n)
		}
	})
}

// However many ways an INVITE may have taken, it ends once.
func TestResumeEndsOnce(t *testing.T) {
	for reason, end := range map[messages.Reason]func(*testing.T, *Adapter){
		messages.ReasonTransport: func(t *testing.T, a *Adapter) { shut(t, a) },
		messages.ReasonTimeout:   func(*testing.T, *Adapter) { time.Sleep(33 * time.Second) },
	} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22", "192.0.2.23")}, seams{})
				defer shut(t, a)
				var all []*witness
				for n := range 100 {
					r := callToName(transportUDP)
					r.Branch, r.Resume = fmt.Sprintf("%032x", n), true
					all = append(all, place(t, a, r))
				}
				synctest.Wait()
				end(t, a)
				synctest.Wait()
				for _, w := range all {
					w.want(string(reason) + ".")
				}
				if s := a.Stats(); s.Pending != 0 || a.table.size() != 0 || len(conn.packets()) != 0 {
					t.Errorf("%d transactions, stats %+v", a.table.size(), s)
				}
			})
		})
	}
}

// Without room for a connection an INVITE is looked for by UDP alone.
func TestResumeWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, _ := pipes()
		a, conn := memAdapter(t, Options{MaxConnections: 1}, seams{dial: dial})
		defer shut(t, a)
		if _, err := a.streams.to(netip.MustParseAddrPort("192.0.2.30:5060")); err != nil {
			t.Fatal(err)
		}
		w := place(t, a, resumed())
		w.call.Cancel()
		conn.deliver(answerTo(sentBefore(resumed(), transportUDP), "487 Terminated"), peerAddr)
		synctest.Wait()
		w.want("487.")
		r := resumed()
		r.NextHop += ";transport=tcp"
		w = place(t, a, r)
		w.want("transport.")
	})
}
