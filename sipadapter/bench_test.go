package sipadapter

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// cpuTime is what this process has used, in both modes.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Skip("no CPU accounting here")
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRegister is one REGISTER and its 200 over the loopback interface,
// with up to 500 in flight. The CPU time includes the answering peer, which
// copies header lines and nothing more; BenchmarkPeer is its share.
func BenchmarkRegister(b *testing.B) {
	a := loopbackAdapter(b, Options{Listen: []string{"udp://127.0.0.1:0"}})
	peer := benchPeer(b)
	inFlight := make(chan struct{}, 500)
	failed := make(chan messages.SIPOutcome, 1)
	r := register()
	r.NextHop = "sip:" + peer.String()
	b.ReportAllocs()
	cpu := cpuTime(b)
	for b.Loop() {
		inFlight <- struct{}{}
		a.Send(r, func(o messages.SIPOutcome) {
			if o.Response == nil || o.Response.Contact != messages.ContactOurs {
				select {
				case failed <- o:
				default:
				}
			}
			<-inFlight
		})
	}
	for range cap(inFlight) {
		inFlight <- struct{}{}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1e3, "CPU-µs/op")
	select {
	case o := <-failed:
		b.Fatalf("outcome %+v", o)
	default:
	}
	if n := a.Stats().Retransmitted; n > 0 {
		b.Logf("%d retransmissions in %d requests", n, b.N)
	}
}

// BenchmarkPeer is the cost of the two sockets and the answering peer alone.
func BenchmarkPeer(b *testing.B) {
	peer := benchPeer(b)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	request := compose(register(), "sip:alice@127.0.0.1:5060", "").packet(transportUDP, hostPort{"127.0.0.1", 5060}, branchKey{})
	buf := make([]byte, 2048)
	b.ReportAllocs()
	cpu := cpuTime(b)
	for b.Loop() {
		if _, err := conn.WriteToUDPAddrPort(request, peer); err != nil {
			b.Fatal(err)
		}
		if _, _, err := conn.ReadFromUDPAddrPort(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1e3, "CPU-µs/op")
}

// BenchmarkStray is what a response costs that nobody waits for.
func BenchmarkStray(b *testing.B) {
	a, _ := memAdapter(b, Options{}, seams{})
	defer shut(b, a)
	request := compose(register(), "sip:alice@192.0.2.10:5060", "").packet(transportUDP, hostPort{"192.0.2.10", 5060}, branchKey{1})
	stray := granted(request)
	b.ReportAllocs()
	for b.Loop() {
		a.receive(stray, origin{from: peerAddr, socket: a.sockets[0]})
	}
}

// BenchmarkOptions is a keep-alive request from outside and its answer.
func BenchmarkOptions(b *testing.B) {
	a, conn := memAdapter(b, Options{InboundRate: 1 << 30}, seams{})
	defer shut(b, a)
	conn.fail = syscall.ENOBUFS // counted as sent, kept nowhere
	request := inbound("OPTIONS")
	b.ReportAllocs()
	for b.Loop() {
		a.receive(request, origin{from: stranger, socket: a.sockets[0]})
	}
}

// benchPeer answers every REGISTER with its own Via, From, To, Call-ID, CSeq
// and Contact lines, without allocating.
func benchPeer(b *testing.B) netip.AddrPort {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	b.Cleanup(func() { _ = conn.Close() })
	go func() {
		in, out := make([]byte, 2048), make([]byte, 0, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(in)
			if err != nil {
				return
			}
			out = append(out[:0], "SIP/2.0 200 OK\r\n"...)
			for l := range bytes.SplitSeq(in[:n], []byte("\r\n")) {
				if len(l) > 0 && bytes.IndexByte([]byte("VFTC"), l[0]) >= 0 && !bytes.HasPrefix(l, []byte("Content")) {
					out = append(append(out, l...), "\r\n"...)
				}
			}
			out = append(out, "Content-Length: 0\r\n\r\n"...)
			_, _ = conn.WriteToUDPAddrPort(out, from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// BenchmarkCall is an INVITE that is accepted at once, and its ACK.
func BenchmarkCall(b *testing.B) {
	d := func(in *messages.SIPInbound) bool {
		in.Respond(messages.SIPReply{Status: 200, Tag: "ours", ContactUser: "alice", Acked: func(*messages.SIPInbound) {}})
		return true
	}
	a, conn := memAdapter(b, Options{InboundRate: 1 << 30, MaxPending: 1 << 30, OnRequest: d}, seams{})
	defer shut(b, a)
	conn.fail = net.ErrClosed // nothing is kept of what is sent
	o := origin{from: stranger, socket: a.sockets[0]}
	invite := calling("Call-ID: CALL")
	ack := acking(answerTo(calling(), "200 OK"), newBranch, "Call-ID: CALL", inDialog)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint(i)
		a.receive(replaceAll(invite, "CALL", id), o)
		a.receive(replaceAll(ack, "CALL", id), o)
	}
}
