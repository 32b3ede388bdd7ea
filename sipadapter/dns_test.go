package sipadapter

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/sipmuster/muster/messages"
)

// dnsServer runs a DNS server on the loopback interface, UDP and TCP.
func dnsServer(t *testing.T, answer func(q dns.Question, tcp bool) ([]string, int)) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Skip("the TCP port of the same number is taken")
	}
	handle := func(tcp bool) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			records, rcode := answer(q.Question[0], tcp)
			m.Rcode = rcode & 0xff
			m.Truncated = rcode&truncated != 0
			for _, text := range records {
				rr, err := dns.NewRR(text)
				if err != nil {
					t.Error(err)
					continue
				}
				m.Answer = append(m.Answer, rr)
			}
			_ = w.WriteMsg(m)
		}
	}
	for _, s := range []*dns.Server{
		{PacketConn: packets, Handler: handle(false)},
		{Listener: listener, Handler: handle(true)},
	} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { _ = s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return packets.LocalAddr().String()
}

// truncated marks an answer code as cut off.
const truncated = 0x100

func TestDNSResolver(t *testing.T) {
	var failing atomic.Int32
	server := dnsServer(t, func(q dns.Question, tcp bool) ([]string, int) {
		switch q.Name + dns.TypeToString[q.Qtype] {
		case "example.test.NAPTR":
			return []string{
				`example.test. 600 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.test.`,
				`other.test. 1 IN NAPTR 1 1 "s" "SIP+D2T" "" evil.test.`,
			}, dns.RcodeSuccess
		case "_sip._udp.example.test.SRV":
			if !tcp {
				return nil, dns.RcodeSuccess | truncated
			}
			return []string{
				"_sip._udp.example.test. 300 IN CNAME srv.example.test.",
				"srv.example.test. 30 IN SRV 1 5 5070 h1.example.test.",
			}, dns.RcodeSuccess
		case "flaky.test.NAPTR":
			failing.Add(1)
			return nil, dns.RcodeServerFailure
		case "loop.test.SRV":
			return []string{"loop.test. 30 IN CNAME loop2.test.", "loop2.test. 30 IN CNAME loop.test."}, dns.RcodeSuccess
		case "h1.example.test.A":
			return []string{"h1.example.test. 30 IN A 127.0.0.1"}, dns.RcodeSuccess
		case "h1.example.test.AAAA":
			return nil, dns.RcodeSuccess
		}
		return nil, dns.RcodeNameError
	})
	r := newDNS([]string{server})
	ctx := context.Background()
	naptr, ttl, err := r.NAPTR(ctx, "example.test")
	if diff := cmp.Diff([]NAPTR{{20, 10, "s", "SIP+D2U", "_sip._udp.example.test."}}, naptr); diff != "" || err != nil || ttl != 600*time.Second {
		t.Errorf("NAPTR: %v, %v (-want +got):\n%s", ttl, err, diff)
	}
	// Truncated answers are asked for again by TCP; aliases are followed.
	srv, ttl, err := r.SRV(ctx, "_sip._udp.example.test")
	if diff := cmp.Diff([]SRV{{1, 5, 5070, "h1.example.test."}}, srv); diff != "" || err != nil || ttl != 30*time.Second {
		t.Errorf("SRV: %v, %v (-want +got):\n%s", ttl, err, diff)
	}
	if srv, _, err := r.SRV(ctx, "none.test"); err != nil || srv != nil {
		t.Errorf("no such name: %v, %v", srv, err)
	}
	if srv, _, err := r.SRV(ctx, "loop.test"); err != nil || srv != nil {
		t.Errorf("alias loop: %v, %v", srv, err)
	}
	if _, _, err := r.NAPTR(ctx, "flaky.test"); err == nil || failing.Load() != 2 {
		t.Errorf("server failure: %v after %d questions", err, failing.Load())
	}
	if got, _, err := r.Addrs(ctx, "h1.example.test"); err != nil || fmt.Sprint(got) != "[127.0.0.1]" {
		t.Errorf("Addrs: %v, %v", got, err)
	}
	if got, _, err := r.Addrs(ctx, "none.test"); err != nil || got != nil {
		t.Errorf("no address: %v, %v", got, err)
	}
	if got, _, err := r.Addrs(ctx, "localhost"); err != nil || len(got) == 0 || !got[0].IsLoopback() {
		t.Errorf("the hosts file: %v, %v", got, err)
	}
}

// ERR-12: from a domain to the registrar, through a real DNS server.
func TestERR12_ThroughDNS(t *testing.T) {
	peer := newUDPPeer(t, func(request []byte) [][]byte { return [][]byte{granted(request)} })
	server := dnsServer(t, func(q dns.Question, _ bool) ([]string, int) {
		switch q.Name + dns.TypeToString[q.Qtype] {
		case "example.test.NAPTR":
			return []string{`example.test. 600 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.test.`}, dns.RcodeSuccess
		case "_sip._udp.example.test.SRV":
			return []string{fmt.Sprintf("_sip._udp.example.test. 300 IN SRV 1 5 %d h1.example.test.", peer.addr().Port())}, dns.RcodeSuccess
		case "h1.example.test.A":
			return []string{"h1.example.test. 30 IN A 127.0.0.1"}, dns.RcodeSuccess
		}
		return nil, dns.RcodeNameError
	})
	a := loopbackAdapter(t, Options{Nameservers: []string{server}})
	r := register()
	r.NextHop = "sip:example.test"
	if o := await(t, send(a, r)); o.Response == nil || o.Response.Contact != messages.ContactOurs {
		t.Errorf("outcome %+v", o)
	}
	r = register()
	r.NextHop = "sip:nowhere.test"
	if o := await(t, send(a, r)); o.Failure != messages.ReasonResolve {
		t.Errorf("outcome %+v", o)
	}
}
