package sipadapter

import (
	"context"
	"errors"
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

// ackRequest is the ACK of a 2xx as a session asks for it.
func ackRequest() *messages.SIPRequest {
	return &messages.SIPRequest{
		NextHop:     "sip:" + peerAddr.String(),
		Method:      "ACK",
		RequestURI:  "sip:bob@192.0.2.31",
		Route:       []string{"<sip:p2.test;lr>"},
		From:        "sip:alice@example.test",
		FromTag:     "f1",
		To:          "sip:bob@example.test",
		ToTag:       "fork1",
		CallID:      "call-1",
		CSeq:        12,
		NoContact:   true,
		Expires:     -1,
		Mutations:   []*messages.HeaderMutation{set("Proxy-Authorization", `Digest realm="p"`)},
		ContentType: "application/sdp",
		Body:        []byte("v=0\r\n"),
	}
}

// INV-01: the ACK of a 2xx has the INVITE's CSeq number and credentials, the
// dialog's route set, the answer to an offer, and a branch of its own each
// time. Nothing waits for an answer to it.
func TestINV01_AckOf2xx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		a.Ack(ackRequest())
		a.Ack(ackRequest())
		time.Sleep(time.Minute)
		packets := conn.packets()
		if len(packets) != 2 || packets[0].addr != peerAddr {
			t.Fatalf("%d packets", len(packets))
		}
		branch := branchOf(t, packets[0].data)
		want := strings.ReplaceAll(`ACK sip:bob@192.0.2.31 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=`+branch+`;rport
Route: <sip:p2.test;lr>
Max-Forwards: 70
From: <sip:alice@example.test>;tag=f1
To: <sip:bob@example.test>;tag=fork1
Call-ID: call-1
CSeq: 12 ACK
Proxy-Authorization: Digest realm="p"
Content-Type: application/sdp
Content-Length: 5

v=0
`, "\n", "\r\n")
		if diff := cmp.Diff(want, string(packets[0].data)); diff != "" {
			t.Errorf("ACK (-want +got):\n%s", diff)
		}
		if branchOf(t, packets[1].data) == branch {
			t.Error("GEN-06: the branch is not new")
		}
		conn.deliver(answerTo(packets[0].data, "200 OK"), peerAddr)
		synctest.Wait()
		if s := a.Stats(); counters.sent["ACK"] != 2 || a.table.size() != 0 || s.Pending != 0 || counters.drops(dropUnmatched) != 1 {
			t.Errorf("counted %v, stats %+v, drops %v", counters.sent, s, counters.dropped)
		}
	})
}

// What cannot be an ACK is not sent, and no log line shows it.
func TestAckRefusals(t *testing.T) {
	for name, spoil := range map[string]func(*messages.SIPRequest){
		"another method": func(r *messages.SIPRequest) { r.Method = "BYE" },
		"next hop":       func(r *messages.SIPRequest) { r.NextHop = "tel:+canary" },
		"sips":           func(r *messages.SIPRequest) { r.NextHop = "sips:canary.test" },
		"To tag":         func(r *messages.SIPRequest) { r.ToTag = "canary\r\nVia: x" },
		"mutation":       func(r *messages.SIPRequest) { r.Mutations = []*messages.HeaderMutation{set("Via", "canary")} },
		"no way there":   func(*messages.SIPRequest) {},
		"too large":      func(r *messages.SIPRequest) { r.Body = make([]byte, 65_535) },
	} {
		t.Run(name, func(t *testing.T) {
			log := &canary{}
			a, conn := memAdapter(t, Options{Logger: log.logger()}, seams{})
			defer shut(t, a)
			conn.fail = errors.New("network is unreachable")
			r := ackRequest()
			spoil(r)
			a.Ack(r)
			if s := a.Stats(); len(conn.packets()) != 0 || s.Pending != 0 || s.Sent != 0 {
				t.Errorf("%d packets, stats %+v", len(conn.packets()), s)
			}
			if text := log.text(); strings.Contains(text, "canary") || !strings.Contains(text, "ACK was not sent") {
				t.Errorf("logged %q", text)
			}
		})
	}
}

// An ACK finds its way as every request does (RFC 3263), passes by addresses
// that are avoided, and is no probe.
func TestAckByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
		defer shut(t, a)
		r := ackRequest()
		r.NextHop = "sip:example.test;transport=udp"
		a.Ack(r)
		synctest.Wait()
		a.avoid.failed(target{transportUDP, netip.MustParseAddrPort("192.0.2.21:5060")}, 0)
		time.Sleep(avoidFor)
		a.Ack(r)
		synctest.Wait()
		if got := destinations(conn.packets()); got != "21 22" {
			t.Errorf("sent to %s", got)
		}
		if !a.avoid.allows(target{transportUDP, netip.MustParseAddrPort("192.0.2.21:5060")}) {
			t.Error("the ACK was the probe")
		}
	})
}

// GEN-11: a large ACK goes by TCP, and by UDP once it is known that the target
// wants none: the repeat of the 2xx brings the next one.
func TestGEN11_LargeAck(t *testing.T) {
	large := func() *messages.SIPRequest {
		r := ackRequest()
		r.Body = make([]byte, 1300)
		return r
	}
	t.Run("TCP", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dial, far := pipes()
			a, conn := memAdapter(t, Options{}, seams{dial: dial})
			defer shut(t, a)
			a.Ack(large())
			ack := readRequest(t, <-far, &framer{})
			if !strings.HasPrefix(headerLine(t, ack, "Via"), "SIP/2.0/TCP ") || len(conn.packets()) != 0 {
				t.Errorf("%s", ack)
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var dials atomic.Int32
			a, conn := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
				dials.Add(1)
				return nil, syscall.ECONNREFUSED
			}})
			defer shut(t, a)
			a.Ack(large())
			time.Sleep(time.Minute)
			a.Ack(large())
			synctest.Wait()
			packets := conn.packets()
			if len(packets) != 1 || dials.Load() != 1 || !strings.HasPrefix(headerLine(t, packets[0].data, "Via"), "SIP/2.0/UDP ") {
				t.Errorf("%d packets, %d dials", len(packets), dials.Load())
			}
		})
	})
}
