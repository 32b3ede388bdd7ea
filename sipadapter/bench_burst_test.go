package sipadapter

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// peerProcess is set in the environment of a process that is only the peer of a
// benchmark.
const peerProcess = "SIPADAPTER_BENCH_PEER"

// TestBenchPeer is the peer of BenchmarkRegisterBurst: run on its own, in a
// process whose CPU time is not ours.
func TestBenchPeer(t *testing.T) {
	if os.Getenv(peerProcess) == "" {
		t.Skip("only as a process of its own")
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	fmt.Println(conn.LocalAddr())
	go func() { // ends with the benchmark
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		_ = conn.Close()
	}()
	in, out := make([]byte, 2048), make([]byte, 0, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return
		}
		out = appendAnswer(out[:0], in[:n])
		_, _ = conn.WriteToUDPAddrPort(out, from)
	}
}

// appendAnswer answers as Kamailio does: 401 to a request without credentials,
// otherwise 200.
func appendAnswer(out, request []byte) []byte {
	granted := bytes.Contains(request, []byte("\r\nAuthorization:"))
	if granted {
		out = append(out, "SIP/2.0 200 OK\r\n"...)
	} else {
		out = append(out, "SIP/2.0 401 Unauthorized\r\n"...)
	}
	for l := range bytes.SplitSeq(request, []byte("\r\n")) {
		name, _, _ := bytes.Cut(l, []byte(":"))
		switch string(name) {
		case "Via":
			out = append(append(out, bytes.TrimSuffix(l, []byte(";rport"))...), ";rport=5060;received=127.0.0.1\r\n"...)
		case "To":
			out = append(append(out, l...), ";tag=4e2b1f0c5d6a7b8c9d0e1f2a3b4c5d6e.9f86d081\r\n"...)
		case "From", "Call-ID", "CSeq":
			out = append(append(out, l...), "\r\n"...)
		case "Contact":
			if granted {
				out = append(append(out, l...), "\r\n"...)
			}
		}
	}
	if !granted {
		out = append(out, `WWW-Authenticate: Digest realm="example.test", nonce="aRzU8GkczsTDm1R0cVZ5bGJ6u2M3n4Y5", qop="auth"`+"\r\n"...)
	}
	return append(out, "Server: kamailio (5.6.3 (x86_64/linux))\r\nContent-Length: 0\r\n\r\n"...)
}

// startPeer runs TestBenchPeer.
func startPeer(b *testing.B) netip.AddrPort {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchPeer$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), peerProcess+"=1", "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	addr, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil {
		b.Fatal(err)
	}
	return addr
}

// BenchmarkRegisterBurst is one REGISTER of a burst of 50, and its answer, as
// the node pays for them: the peer is another process. With pause the bursts are
// 20 ms apart, so that nothing is warm and everybody sleeps in between, as at
// 2,500 registrations a second. With collect, a burst leaves in one system call.
func BenchmarkRegisterBurst(b *testing.B) {
	for _, pause := range []time.Duration{0, 20 * time.Millisecond} {
		for _, status := range []int{200, 401} {
			for _, collect := range []bool{false, true} {
				b.Run(fmt.Sprintf("pause=%v/%d/collect=%v", pause, status, collect), func(b *testing.B) { benchBurst(b, status, pause, collect) })
			}
		}
	}
}

// benchRequest is the REGISTER of one profile; a 200 answers it when it has
// credentials.
func benchRequest(peer netip.AddrPort, i, status int) *messages.SIPRequest {
	r := register()
	r.NextHop = "sip:" + peer.String() + ";transport=udp"
	r.From = fmt.Sprintf("sip:u%d@example.test", i)
	r.To, r.ContactUser, r.CallID = r.From, fmt.Sprint("u", i), fmt.Sprintf("%032x", i)
	if status == 200 {
		r.Mutations = []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: `Digest username="u", realm="example.test", ` +
			`nonce="aRzU8GkczsTDm1R0cVZ5bGJ6u2M3n4Y5", uri="sip:example.test", response="00112233445566778899aabbccddeeff", ` +
			`algorithm=MD5, cnonce="0011223344556677", qop=auth, nc=00000001`}}
	}
	return r
}

func benchBurst(b *testing.B, status int, pause time.Duration, collect bool) {
	const burst = 50
	a := loopbackAdapter(b, Options{Listen: []string{"udp://127.0.0.1:0"}, UserAgent: "Muster", Collect: collect})
	peer := startPeer(b)
	requests := make([]*messages.SIPRequest, burst)
	for i := range requests {
		requests[i] = benchRequest(peer, i, status)
	}
	var wg sync.WaitGroup
	done := func(o messages.SIPOutcome) {
		if o.Response == nil || o.Response.Status != status {
			b.Errorf("outcome %+v", o)
		}
		wg.Done()
	}
	var used [2]time.Duration
	spend := func(sign time.Duration) {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		used[0] += sign * time.Duration(u.Utime.Nano())
		used[1] += sign * time.Duration(u.Stime.Nano())
	}
	b.ReportAllocs()
	b.ResetTimer()
	spend(-1)
	for n := 0; n < b.N; n += burst {
		batch := requests[:min(burst, b.N-n)]
		wg.Add(len(batch))
		for _, r := range batch {
			a.Send(r, done)
		}
		a.Flush()
		wg.Wait()
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	spend(1)
	b.ReportMetric(float64(used[0]+used[1])/float64(b.N)/1e3, "CPU-µs/op")
	b.ReportMetric(float64(used[0])/float64(b.N)/1e3, "user-µs/op")
	if n := a.Stats().Retransmitted; n > 0 {
		b.Logf("%d retransmissions in %d requests", n, b.N)
	}
}

// keptConn is a socket without a network that keeps what was sent.
type keptConn struct {
	memConn
	kept [][]byte
}

func (c *keptConn) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	n := len(c.kept)
	if n == cap(c.kept) {
		c.kept = append(c.kept, make([]byte, 0, maxDatagram))
	}
	c.kept = c.kept[:n+1]
	c.kept[n] = append(c.kept[n][:0], b...)
	return len(b), nil
}

// BenchmarkRegisterAlone is what our own code does for one REGISTER and its answer,
// without a socket and a system call, as the node does it: 50 requests in a row, then
// 50 answers in a row. What they cost is given apart. With cold, others have had the
// caches in between.
func BenchmarkRegisterAlone(b *testing.B) {
	for _, status := range []int{200, 401} {
		for _, cold := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/cold=%v", status, cold), func(b *testing.B) { benchAlone(b, status, cold) })
		}
	}
}

func benchAlone(b *testing.B, status int, cold bool) {
	const burst = 50
	conn := &keptConn{memConn: *newMemConn(), kept: make([][]byte, 0, burst)}
	// Timer K holds as many branches as it does at 5,000 requests a second.
	a, err := newAdapter(Options{Listen: []string{"udp://" + ourAddr.String()}, UserAgent: "Muster", T4: 100 * time.Millisecond}, seams{
		listenUDP: func(addr netip.AddrPort) (packetConn, netip.AddrPort, error) { return conn, addr, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Start(); err != nil {
		b.Fatal(err)
	}
	defer shut(b, a)
	requests, answers := make([]*messages.SIPRequest, burst), make([][]byte, burst)
	for i := range requests {
		requests[i] = benchRequest(peerAddr, i, status)
	}
	got := 0
	done := func(o messages.SIPOutcome) {
		if o.Response != nil && o.Response.Status == status {
			got++
		}
	}
	others := make([]byte, 4<<20)
	spend := func(used *time.Duration, f func()) {
		for i := 0; cold && i < len(others); i += 64 {
			others[i]++
		}
		before := cpuTime(b)
		f()
		*used += cpuTime(b) - before
	}
	var sending, receiving time.Duration
	o := origin{from: peerAddr, socket: a.sockets[0]}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += burst {
		conn.kept = conn.kept[:0]
		spend(&sending, func() {
			for _, r := range requests {
				a.Send(r, done)
			}
		})
		for i, request := range conn.kept {
			answers[i] = appendAnswer(answers[i][:0], request)
		}
		spend(&receiving, func() {
			for _, answer := range answers {
				a.receive(answer, o)
			}
		})
	}
	if got < b.N {
		b.Fatalf("%d answers to %d requests", got, b.N)
	}
	b.ReportMetric(float64(sending)/float64(b.N)/1e3, "send-µs/op")
	b.ReportMetric(float64(receiving)/float64(b.N)/1e3, "receive-µs/op")
}
