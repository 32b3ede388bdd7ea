package sipadapter

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// callToName is an INVITE to a farm.
func callToName(t transport) *messages.SIPRequest {
	r := callRequest()
	r.NextHop = "sip:example.test;transport=" + string(t)
	return r
}

// ERR-10: failover on 503 and silence, to three addresses at most, and not when
// a callee may have rung. Each refusal is acknowledged where it came from.
func TestERR10_InviteFailover(t *testing.T) {
	cases := []struct {
		name     string
		codes    map[string]string
		invites  string // without retransmissions
		acks     string
		took     time.Duration
		reported string
	}{
		{"silence", map[string]string{"22": "200 OK"}, "21 22", "", 32 * time.Second, "200"},
		{"all silent", nil, "21 22 23", "", 96 * time.Second, "timeout."},
		{"503 then silence", map[string]string{"21": "503 Busy"}, "21 22 23", "21", 64 * time.Second, "503."},
		{"all 503", map[string]string{"21": "503 A", "22": "503 B", "23": "503 C", "24": "200 OK"}, "21 22 23", "21 22 23", 0, "503."},
		{"503 then 407", map[string]string{"21": "503 A", "22": "407 Who"}, "21 22", "21 22", 0, "407."},
		{"100 and 503", map[string]string{"21": "100 Trying|503 A", "22": "200 OK"}, "21 22", "21", 0, "100 200"},
		{"180 and 503", map[string]string{"21": "180 Ringing|503 A", "22": "200 OK"}, "21", "21", 0, "180 503."},
		{"500 is an answer", map[string]string{"21": "500 Bad"}, "21", "21", 0, "500."},
		{"100 then nothing is no silence", map[string]string{"21": "100 Trying"}, "21", "", 0, "100"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24")}, seams{})
				defer shut(t, a)
				conn.peer = func(d datagram) []datagram {
					if !strings.HasPrefix(string(d.data), "INVITE ") {
						return nil
					}
					var out []datagram
					for code := range strings.SplitSeq(c.codes[destinations([]datagram{d})], "|") {
						if code != "" {
							out = append(out, datagram{data: answerTo(d.data, code), addr: d.addr})
						}
					}
					return out
				}
				start := time.Now()
				var took time.Duration
				w := &witness{t: t, seen: func(messages.InviteReport) { took = time.Since(start) }}
				w.call = a.Invite(callToName(transportUDP), w.take)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				w.want(c.reported)
				if took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				var firsts []datagram
				branches := map[string]bool{}
				for _, p := range conn.requests("INVITE") {
					if len(firsts) == 0 || firsts[len(firsts)-1].addr != p.addr {
						firsts = append(firsts, p)
						branches[branchOf(t, p.data)] = true
						same := replaceHeader(p.data, "Via", headerLines(firsts[0].data, "Via")[0])
						if diff := cmp.Diff(string(firsts[0].data), string(same)); diff != "" {
							t.Errorf("another address got another request (-first +other):\n%s", diff)
						}
					}
				}
				if got := destinations(firsts); got != c.invites || len(branches) != len(firsts) {
					t.Errorf("sent to %s, want %s; %d branches", got, c.invites, len(branches))
				}
				if got := destinations(conn.requests("ACK")); got != c.acks {
					t.Errorf("ACKs to %s, want %s", got, c.acks)
				}
			})
		})
	}
}

// TRX-10, ERR-10: a connection that cannot be made, or that is lost before
// anything rang, sends the INVITE to the next address.
func TestTRX10_InviteFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := make(chan net.Conn, 3)
		dial := func(_ context.Context, _ netip.Addr, to netip.AddrPort) (net.Conn, error) {
			if to.Addr().String() == "192.0.2.21" {
				return nil, syscall.EHOSTUNREACH
			}
			near, theirs := net.Pipe()
			far <- theirs
			return near, nil
		}
		a, _ := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22", "192.0.2.23")}, seams{dial: dial})
		defer shut(t, a)
		w := place(t, a, callToName(transportTCP))
		second := <-far
		invite := readRequest(t, second, &framer{})
		_, _ = second.Write(answerTo(invite, "100 Trying"))
		synctest.Wait()
		_ = second.Close()
		third := <-far
		again := readRequest(t, third, &framer{})
		_, _ = third.Write(answerTo(again, "200 OK"))
		synctest.Wait()
		w.want("100 200")
		if branchOf(t, invite) == branchOf(t, again) {
			t.Error("the branch is not new")
		}
	})
}

// ERR-14: a provisional response already shows that an address is alive.
func TestERR14_RingingAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
		defer shut(t, a)
		to := target{transportUDP, netip.MustParseAddrPort("192.0.2.21:5060")}
		a.avoid.failed(to, 0)
		time.Sleep(avoidFor)
		w := place(t, a, callToName(transportUDP))
		synctest.Wait()
		conn.deliver(answerTo(conn.packets()[0].data, "180 Ringing"), to.addr)
		synctest.Wait()
		w.want("180")
		if a.avoid.rank(to) != 0 {
			t.Error("it is still avoided")
		}
	})
}

// The branch that the caller chose is on the wire, or its digest when it has
// another length; further addresses get branches that follow from it.
func TestInviteBranch(t *testing.T) {
	const own = "00112233445566778899AABBCCDDEEFF"
	sent := func(seed string) []string {
		var branches []string
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
			defer shut(t, a)
			conn.peer = statusBy(map[string]string{"21": "503 Busy", "22": "404 Who"})
			r := callToName(transportUDP)
			r.Branch = seed
			w := place(t, a, r)
			synctest.Wait()
			w.want("404.")
			for _, p := range conn.requests("INVITE") {
				branches = append(branches, branchOf(t, p.data))
			}
		})
		return branches
	}
	first, again := sent(own), sent(own)
	if diff := cmp.Diff(first, again); diff != "" || first[0] != cookie+strings.ToLower(own) || first[1] == first[0] {
		t.Errorf("branches %v (-first +again):\n%s", first, diff)
	}
	seen := map[string]bool{first[0]: true, first[1]: true}
	for _, seed := range []string{own[:24], own[:31], own + own[:1], own + own, ""} {
		branches := sent(seed)
		for _, b := range branches {
			if seen[b] || len(b) != branchLength {
				t.Errorf("%q: branch %s", seed, b)
			}
			seen[b] = true
		}
		if seed != "" && cmp.Diff(branches, sent(strings.ToLower(seed))) != "" {
			t.Errorf("%q: the branches differ from time to time", seed)
		}
	}
}

// One branch names one transaction.
func TestBranchInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		r := callRequest()
		r.Branch = strings.Repeat("0a", 16)
		first, second := place(t, a, r), place(t, a, r)
		conn.deliver(answerTo(conn.packets()[0].data, "200 OK"), peerAddr)
		synctest.Wait()
		first.want("200")
		second.want(string(messages.ReasonConfiguration) + ".")
		if n := len(conn.packets()); n != 1 {
			t.Errorf("%d datagrams", n)
		}
	})
}

// What cannot be an INVITE is refused before anything is sent. GEN-07, S-15: a
// sips target needs a sips Contact, which there is not.
func TestInviteRefusals(t *testing.T) {
	const evil = "canary\r\nVia: x"
	for name, c := range map[string]struct {
		spoil  func(*messages.SIPRequest)
		reason messages.Reason
	}{
		"another method":     {func(r *messages.SIPRequest) { r.Method = "BYE" }, messages.ReasonConfiguration},
		"GEN-07 no Contact":  {func(r *messages.SIPRequest) { r.NoContact = true }, messages.ReasonConfiguration},
		"GEN-07 sips target": {func(r *messages.SIPRequest) { r.RequestURI = "SIPS:canary@example.test" }, messages.ReasonTransport},
		"GEN-07 sips route":  {func(r *messages.SIPRequest) { r.Route = []string{"<sips:canary.test;lr>"} }, messages.ReasonTransport},
		"next hop":           {func(r *messages.SIPRequest) { r.NextHop = "sips:192.0.2.20" }, messages.ReasonTransport},
		"From":               {func(r *messages.SIPRequest) { r.From = evil }, messages.ReasonConfiguration},
		"mutation":           {func(r *messages.SIPRequest) { r.Mutations = []*messages.HeaderMutation{set("Via", evil)} }, messages.ReasonMutation},
		"short branch":       {func(r *messages.SIPRequest) { r.Branch = strings.Repeat("a", 23) }, messages.ReasonConfiguration},
		"long branch":        {func(r *messages.SIPRequest) { r.Branch = strings.Repeat("a", 65) }, messages.ReasonConfiguration},
		"no hexadecimal":     {func(r *messages.SIPRequest) { r.Branch = strings.Repeat("canary", 4) }, messages.ReasonConfiguration},
		"resume without":     {func(r *messages.SIPRequest) { r.Resume = true }, messages.ReasonConfiguration},
		"too large":          {func(r *messages.SIPRequest) { r.Body = make([]byte, 65_535) }, messages.ReasonTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{}, seams{})
				defer shut(t, a)
				r := callRequest()
				c.spoil(r)
				w := place(t, a, r)
				w.call.Cancel()
				synctest.Wait()
				w.call.Cancel()
				w.want(string(c.reason) + ".")
				if got := w.all()[0]; strings.Contains(got.Detail, "canary") || got.Detail == "" || len(conn.packets()) != 0 || a.Stats().Pending != 0 {
					t.Errorf("%+v, %d packets, stats %+v", got, len(conn.packets()), a.Stats())
				}
			})
		})
	}
}

// S-35: an INVITE counts as pending until its first final response.
func TestS35_PendingInvites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{MaxPending: 1}, seams{})
		defer shut(t, a)
		first := place(t, a, callRequest())
		refused := place(t, a, callRequest())
		synctest.Wait()
		refused.want("transport.")
		conn.deliver(answerTo(conn.packets()[0].data, "200 OK"), peerAddr)
		synctest.Wait()
		first.want("200")
		second := place(t, a, callRequest())
		conn.deliver(answerTo(conn.packets()[1].data, "404 Who"), peerAddr)
		synctest.Wait()
		second.want("404.")
		if s := a.Stats(); s.Pending != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}
