package sipadapter

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// destinations are the last numbers of the addresses that packets went to.
func destinations(packets []datagram) string {
	var out []string
	for _, p := range packets {
		text := p.addr.Addr().String()
		out = append(out, text[strings.LastIndexByte(text, '.')+1:])
	}
	return strings.Join(out, " ")
}

// statusBy answers by the destination's last number; no entry is silence.
func statusBy(codes map[string]string, extra ...string) func(datagram) []datagram {
	return func(d datagram) []datagram {
		code, ok := codes[destinations([]datagram{d})]
		if !ok {
			return nil
		}
		answer := answerTo(d.data, code, extra...)
		if strings.HasPrefix(code, "200") {
			answer = granted(d.data)
		}
		return []datagram{{data: answer, addr: d.addr}}
	}
}

// ERR-10: failover on 503, with a new branch and an otherwise identical
// request; ERR-11: one set of questions.
func TestERR10_FailoverOn503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := farm("192.0.2.21", "192.0.2.22", "192.0.2.23")
		a, conn := memAdapter(t, Options{Resolver: dns}, seams{})
		defer shut(t, a)
		conn.peer = statusBy(map[string]string{"21": "503 Busy", "22": "200 OK"})
		asked := func() int { return len(dns.questions()) }
		o := await(t, send(a, toName(transportUDP)))
		if o.Response == nil || o.Response.Status != 200 || o.Response.Contact != messages.ContactOurs {
			t.Fatalf("outcome %+v", o)
		}
		packets := conn.packets()
		if got := destinations(packets); got != "21 22" {
			t.Fatalf("sent to %s", got)
		}
		first, second := packets[0].data, packets[1].data
		if bytes.Equal(first, second) {
			t.Error("the branch is not new")
		}
		same := replaceHeader(second, "Via", headerLines(first, "Via")[0])
		if diff := cmp.Diff(string(first), string(same)); diff != "" {
			t.Errorf("the second request differs (-first +second):\n%s", diff)
		}
		if asked() != 4 { // the SRV record and three addresses
			t.Errorf("ERR-11: asked %v", dns.questions())
		}
	})
}

// ERR-10: silence leads to the next address, three at most, and other answers
// do not.
func TestERR10_Failover(t *testing.T) {
	cases := []struct {
		name    string
		codes   map[string]string
		sent    string // without retransmissions
		took    time.Duration
		status  int
		failure messages.Reason
	}{
		{"silence", map[string]string{"22": "200 OK"}, "21 22", 32 * time.Second, 200, ""},
		{"all silent", nil, "21 22 23", 96 * time.Second, 0, messages.ReasonTimeout},
		{"503 then silence", map[string]string{"21": "503 Busy"}, "21 22 23", 64 * time.Second, 503, ""},
		{"all 503", map[string]string{"21": "503 A", "22": "503 B", "23": "503 C", "24": "200 OK"}, "21 22 23", 0, 503, ""},
		{"500 is an answer", map[string]string{"21": "500 Bad"}, "21", 0, 500, ""},
		{"401 is an answer", map[string]string{"21": "401 Who"}, "21", 0, 401, ""},
		{"100 then nothing is no silence", map[string]string{"21": "100 Trying"}, "21", 32 * time.Second, 0, messages.ReasonTimeout},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24")}, seams{})
				defer shut(t, a)
				conn.peer = statusBy(c.codes)
				start := time.Now()
				outcomes := send(a, toName(transportUDP))
				o := await(t, outcomes)
				if o.Failure != c.failure || (o.Response == nil) != (c.status == 0) || o.Response != nil && o.Response.Status != c.status {
					t.Errorf("outcome %+v", o)
				}
				var firsts []datagram
				for _, p := range conn.packets() {
					if len(firsts) == 0 || firsts[len(firsts)-1].addr != p.addr {
						firsts = append(firsts, p)
					}
				}
				if got := destinations(firsts); got != c.sent {
					t.Errorf("sent to %s, want %s", got, c.sent)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if !o.Sent.Equal(start) {
					t.Errorf("Sent is %v after the start", o.Sent.Sub(start))
				}
				time.Sleep(2 * time.Minute)
				none(t, outcomes)
			})
		})
	}
}

// ERR-14: a silent address is avoided while another exists, and then probed by
// one request.
func TestERR14_SilentAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
		defer shut(t, a)
		conn.peer = statusBy(map[string]string{"22": "200 OK"})
		await(t, send(a, toName(transportUDP)))
		before := len(conn.packets())
		for range 5 {
			if o := await(t, send(a, toName(transportUDP))); o.Response == nil {
				t.Fatalf("outcome %+v", o)
			}
		}
		if got := destinations(conn.packets()[before:]); got != "22 22 22 22 22" {
			t.Errorf("while it is avoided: sent to %s", got)
		}
		time.Sleep(30 * time.Second)
		before = len(conn.packets())
		probe := send(a, toName(transportUDP))
		synctest.Wait()
		others := []<-chan messages.SIPOutcome{send(a, toName(transportUDP)), send(a, toName(transportUDP))}
		for _, other := range others {
			await(t, other)
		}
		if got := destinations(conn.packets()[before:]); got != "21 22 22" {
			t.Errorf("the probe and the others: sent to %s", got)
		}
		await(t, probe)
		// It answers again: the next probe clears it.
		conn.mu.Lock()
		conn.peer = statusBy(map[string]string{"21": "200 OK", "22": "200 OK"})
		conn.mu.Unlock()
		time.Sleep(40 * time.Second)
		before = len(conn.packets())
		await(t, send(a, toName(transportUDP)))
		await(t, send(a, toName(transportUDP)))
		if got := destinations(conn.packets()[before:]); got != "21 21" {
			t.Errorf("after it answered: sent to %s", got)
		}
	})
}

// With nowhere else to go an avoided address is used.
func TestERR14_OnlyAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21")}, seams{})
		defer shut(t, a)
		if o := await(t, send(a, toName(transportUDP))); o.Failure != messages.ReasonTimeout {
			t.Errorf("outcome %+v", o)
		}
		conn.mu.Lock()
		conn.peer = statusBy(map[string]string{"21": "200 OK"})
		conn.mu.Unlock()
		if o := await(t, send(a, toName(transportUDP))); o.Response == nil {
			t.Errorf("outcome %+v", o)
		}
	})
}

// A 503 with Retry-After keeps requests away for that time, an hour at most
// (RFC 3261 §21.5.4).
func TestRetryAfterIsAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
		defer shut(t, a)
		conn.peer = statusBy(map[string]string{"21": "503 Busy", "22": "200 OK"}, "Retry-After: 600")
		await(t, send(a, toName(transportUDP)))
		time.Sleep(599 * time.Second)
		await(t, send(a, toName(transportUDP)))
		time.Sleep(time.Second)
		await(t, send(a, toName(transportUDP)))
		if got := destinations(conn.packets()); got != "21 22 22 21 22" {
			t.Errorf("sent to %s", got)
		}
	})
}

// S-33: a Retry-After of years is capped.
func TestRetryAfterIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newAvoidance()
		to := target{transportUDP, peerAddr}
		v.failed(to, 4294967295*time.Second)
		time.Sleep(time.Hour - time.Nanosecond)
		if v.allows(to) {
			t.Error("too early")
		}
		time.Sleep(time.Nanosecond)
		if !v.allows(to) || v.allows(to) {
			t.Error("one probe after an hour")
		}
	})
}

// large is a request of about n bytes.
func large(n int) *messages.SIPRequest {
	r := register()
	r.Mutations = []*messages.HeaderMutation{set("Authorization", "Bearer "+strings.Repeat("x", n))}
	return r
}

// GEN-11: over 1300 bytes by TCP, with the Via saying so and the Contact as it
// always is.
func TestGEN11_LargeRequestByTCP(t *testing.T) {
	var got atomic.Value
	server := newTCPPeer(t, func(request []byte) []byte {
		got.Store(bytes.Clone(request))
		return granted(request)
	})
	a := loopbackAdapter(t, Options{})
	r := large(2000)
	r.NextHop = "sip:" + server.addr().String()
	o := await(t, send(a, r))
	if o.Response == nil || o.Response.Contact != messages.ContactOurs {
		t.Fatalf("outcome %+v", o)
	}
	request := got.Load().([]byte)
	if via := headerLine(t, request, "Via"); !strings.HasPrefix(via, "SIP/2.0/TCP "+listenAddrOf(t, a, transportTCP).String()) {
		t.Errorf("Via %s", via)
	}
	if c := headerLine(t, request, "Contact"); c != "<sip:alice@"+listenAddrOf(t, a, transportUDP).String()+">;expires=3600" {
		t.Errorf("Contact %s", c)
	}
}

// GEN-11: the limit itself.
func TestGEN11_Limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		a, conn := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
			dials++
			return nil, syscall.EHOSTUNREACH
		}})
		defer shut(t, a)
		conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
		await(t, send(a, large(100)))
		base := len(conn.packets()[0].data) - 100
		if o := await(t, send(a, large(1300-base))); o.Response == nil || len(conn.packets()[1].data) != 1300 {
			t.Errorf("1300 bytes: %+v", o)
		}
		if o := await(t, send(a, large(1301-base))); o.Failure != messages.ReasonTransport || dials != 1 {
			t.Errorf("1301 bytes: %+v, %d dials", o, dials)
		}
	})
}

// GEN-11: no TCP there, so UDP after all; refused by a reset or at the door.
func TestGEN11_FallBackToUDP(t *testing.T) {
	t.Run("connection refused", func(t *testing.T) {
		peer := newUDPPeer(t, func(request []byte) [][]byte { return [][]byte{granted(request)} })
		a := loopbackAdapter(t, Options{})
		r := large(2000)
		r.NextHop = peer.uri()
		o := await(t, send(a, r))
		if o.Response == nil || o.Response.Status != 200 || o.Sent.IsZero() {
			t.Fatalf("outcome %+v", o)
		}
		if via := headerLine(t, peer.requests()[0], "Via"); !strings.HasPrefix(via, "SIP/2.0/UDP ") {
			t.Errorf("Via %s", via)
		}
	})
	t.Run("reset before any byte", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
				return &resetConn{}, nil
			}})
			defer shut(t, a)
			conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
			if o := await(t, send(a, large(2000))); o.Response == nil {
				t.Errorf("outcome %+v", o)
			}
		})
	})
	t.Run("not when TCP was asked for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
				return nil, syscall.ECONNREFUSED
			}})
			defer shut(t, a)
			r := register()
			r.NextHop += ";transport=tcp"
			if o := await(t, send(a, r)); o.Failure != messages.ReasonTransport || !o.Sent.IsZero() || len(conn.packets()) != 0 {
				t.Errorf("outcome %+v", o)
			}
		})
	})
}

// resetConn is a connection that is reset at the first read.
type resetConn struct{ net.Conn }

func (*resetConn) Read([]byte) (int, error)         { return 0, syscall.ECONNRESET }
func (*resetConn) Write(b []byte) (int, error)      { return len(b), nil }
func (*resetConn) Close() error                     { return nil }
func (*resetConn) SetReadDeadline(time.Time) error  { return nil }
func (*resetConn) SetWriteDeadline(time.Time) error { return nil }

// S-53: what fits nowhere fails cleanly.
func TestTooLarge(t *testing.T) {
	a, _ := memAdapter(t, Options{}, seams{})
	defer shut(t, a)
	r := register()
	r.ContentType, r.Body = "text/plain", make([]byte, 65_535)
	if o := await(t, send(a, r)); o.Failure != messages.ReasonTooLarge {
		t.Errorf("outcome %+v", o)
	}
}

// The advertised address goes into Via and Contact, with its port or ours.
func TestAdvertise(t *testing.T) {
	for advertise, want := range map[string]string{
		"sip.example.test":      "sip.example.test:5060",
		"sip.example.test:7000": "sip.example.test:7000",
		"198.51.100.7":          "198.51.100.7:5060",
		"2001:db8::7":           "[2001:db8::7]:5060",
		"[2001:db8::7]:7000":    "[2001:db8::7]:7000",
	} {
		t.Run(advertise, func(t *testing.T) {
			a, conn := memAdapter(t, Options{Advertise: advertise}, seams{})
			defer shut(t, a)
			conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
			o := await(t, send(a, register()))
			if o.Response == nil || o.Response.Contact != messages.ContactOurs {
				t.Fatalf("outcome %+v", o)
			}
			p := conn.packets()[0].data
			if !strings.Contains(headerLine(t, p, "Via"), "UDP "+want+";") || !strings.Contains(headerLine(t, p, "Contact"), "@"+want+">") {
				t.Errorf("%s", p)
			}
		})
	}
}

// A listener on all addresses names the one that reaches the target.
func TestWildcardListener(t *testing.T) {
	a := loopbackAdapter(t, Options{Listen: []string{"udp://0.0.0.0:0"}})
	peer := newUDPPeer(t, func(request []byte) [][]byte { return [][]byte{granted(request)} })
	r := register()
	r.NextHop = peer.uri()
	if o := await(t, send(a, r)); o.Response == nil || o.Response.Contact != messages.ContactOurs {
		t.Fatalf("outcome %+v", o)
	}
	if via := headerLine(t, peer.requests()[0], "Via"); !strings.HasPrefix(via, "SIP/2.0/UDP 127.0.0.1:") {
		t.Errorf("Via %s", via)
	}
}
